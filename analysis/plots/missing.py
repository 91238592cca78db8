"""What stands where a figure would be: the command that makes its runs, or why it failed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.style import FONT, SMALL, TEXT_WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = int(0.96 * 72 * TEXT_WIDTH / (SMALL * 0.61))  # a line of even letters
FAILED = "This figure could not be drawn:"


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
    height = 0.45 + 0.12 * len(lines)
    figure = Figure(figsize=(TEXT_WIDTH, height))
    # "$" begins mathematics in matplotlib.
    shown = "\n".join(lines).replace("$", r"\$")
    figure.text(0.02, 1 - 0.12 / height, FAILED, va="top", fontsize=FONT)
    place: dict[str, Any] = {"va": "top", "fontsize": SMALL, "family": "monospace"}
    figure.text(0.02, 1 - 0.3 / height, shown, **place)
    return figure
