"""Figures: each module here has a ``build(results) -> Figure`` and is found by its presence.

The module's docstring is the figure's caption.
"""
