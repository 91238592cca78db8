"""The figure that stands where runs are missing: it says which command makes them."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

MISSING = "No runs to draw this from yet. This command makes them:"


def missing_figure(command: str) -> Figure:
    """Write ``command`` where the figure would be.

    Args:
        command: What to type; it may have several lines.
    """
    lines = [
        part
        for line in command.splitlines()
        for part in textwrap.wrap(line, 84, subsequent_indent="    ", break_long_words=False)
    ]
    figure = Figure(figsize=(7.6, 1.3 + 0.2 * len(lines)))
    # "$" begins mathematics in matplotlib, and a shell variable on the command line.
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(0.04, 0.88, MISSING, va="top", fontsize=11)
    figure.text(0.04, 0.62, shown, va="top", fontsize=9, family="monospace", color="#222222")
    return figure


def failed_figure(problem: str) -> Figure:
    """Write ``problem`` where a figure would be that could not be drawn."""
    lines = textwrap.wrap(problem, 84)
    figure = Figure(figsize=(7.6, 1.3 + 0.2 * len(lines)))
    figure.text(0.04, 0.88, "This figure could not be drawn.", va="top", fontsize=11)
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(0.04, 0.62, shown, va="top", fontsize=9, family="monospace", color="#222222")
    return figure
