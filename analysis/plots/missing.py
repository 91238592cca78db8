"""The figure that stands where runs are missing, or where drawing failed: it says so in words."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

MISSING = "No runs to draw this from yet. This command makes them:"
FAILED = "This figure could not be drawn:"
LETTERS = 92  # a line


def missing_figure(command: str) -> Figure:
    """Write ``command`` where the figure would be.

    Args:
        command: What to type; it may have several lines.
    """
    lines = [
        wrapped
        for line in command.splitlines()
        for wrapped in _wrap(line, " \\")  # so that a shell reads it as one line
    ]
    return _words(MISSING, lines)


def failed_figure(problem: str) -> Figure:
    """Write ``problem``, one line, where a figure would be that could not be drawn."""
    return _words(FAILED, _wrap(problem, ""))


def _wrap(line: str, ending: str) -> list[str]:
    width = LETTERS - len(ending)
    parts = textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
    return [part + ending for part in parts[:-1]] + parts[-1:]


def _words(heading: str, lines: list[str]) -> Figure:
    height = 0.75 + 0.19 * len(lines)
    figure = Figure(figsize=(7.8, height))
    # "$" begins mathematics in matplotlib, and a variable in a shell.
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(0.03, 1 - 0.2 / height, heading, va="top", fontsize=11)
    figure.text(
        0.03, 1 - 0.52 / height, shown, va="top", fontsize=9, family="monospace", color="#222222"
    )
    return figure
