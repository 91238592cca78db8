"""Tables: each module here has a ``build(results) -> DataFrame`` and is found by its presence.

The module's docstring is the table's caption. A cell is a string or an
``summary.Summary``; index and columns are named.
"""
