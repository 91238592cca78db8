"""What all figures share: a grid of panels, a legend below each, and a note below all."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

RC: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TICKS_INCHES = 0.5  # from the axes down past the ticks and the label of x
NARROW = 34  # letters of a label, up to which two columns of a legend fit below a panel


def panels(
    count: int, *, columns: int = 2, width: float = 6.2, height: float = 4.3
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels, at most ``columns`` side by side.

    Args:
        count: Number of panels, at least 1.
        columns: Most panels in a row.
        width: Of a panel with its labels, in inches.
        height: Of a panel with its labels and its legend, in inches.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, list(axes[:count])


def legend_height(lines: int) -> float:
    """Height in inches that ``legend_below`` may need for so many lines."""
    return 0.12 * lines + 0.1 * max(0, lines - 12)


def legend_below(ax: Axes, labels: Sequence[str], **options: Any) -> None:
    """Put the legend below the axes, where it covers nothing however many methods there are.

    Args:
        ax: Where the lines are drawn.
        labels: What the legend will say.
        options: For ``Axes.legend``.
    """
    narrow = max(map(len, labels), default=0) <= NARROW
    figure = ax.get_figure()
    assert figure is not None
    # A distance in inches: the layout is looked for while the height of the axes still changes.
    down = ScaledTranslation(0, -TICKS_INCHES, figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + down,
        ncols=2 if narrow and len(labels) > 1 else 1,
        fontsize=9.5,
        handlelength=4,
        frameon=False,
        **options,
    )


def note(figure: Figure, text: str) -> None:
    """Write below all panels how the figure is to be read."""
    letters = int(14 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(text, letters), fontsize=9, color="#444444")


def plain(text: str) -> str:
    """Keep matplotlib from reading a name with dollar signs as mathematics."""
    return text.replace("$", r"\$")


def say(ax: Axes, text: str) -> None:
    """Write a sentence where there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


def spans_decades(values: npt.ArrayLike) -> bool:
    """Tell whether positive values differ so much that only a logarithmic axis shows them all."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    return bool(array.size and array.min() > 0 and array.max() / array.min() > 10)


def round_ticks(ax: Axes) -> None:
    """Put ticks of x at whole numbers only, unless the axis is so short that none would be left."""
    if ax.get_xlim()[1] > 2:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
