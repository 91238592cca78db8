"""What stands where a figure would be: the command that makes its runs, or why it failed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAILED = "This figure could not be drawn:"
LETTERS = 92  # a line


@dataclass(frozen=True)
class Missing:
    """There is nothing to draw yet: no picture, but a line that says what makes some.

    Attributes:
        command: What to type, in one line that a shell takes.
    """

    command: str


def failed_figure(problem: str) -> Figure:
    """Write ``problem``, one line, where a figure would be that could not be drawn."""
    from matplotlib.figure import Figure

    lines = textwrap.wrap(problem, LETTERS, subsequent_indent="  ", break_on_hyphens=False)
    height = 0.75 + 0.19 * len(lines)
    figure = Figure(figsize=(7.8, height))
    # "$" begins mathematics in matplotlib.
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(0.03, 1 - 0.2 / height, FAILED, va="top", fontsize=11)
    figure.text(
        0.03, 1 - 0.52 / height, shown, va="top", fontsize=9, family="monospace", color="#222222"
    )
    return figure
