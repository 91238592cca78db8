"""What all figures share: panels as wide as a text, one legend, names that fit, and a note."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.style import (
    FONT,
    HALF_WIDTH,
    LEAST_LINE,
    LETTER,
    MOST_HEIGHT,
    SMALL,
    SOFT,
    TEXT_WIDTH,
    is_half,
)

HEIGHTS = {1: 2.2, 2: 1.75, 3: 1.5, 4: 1.3}
"""Of a panel with its title and labels, in inches, by how many stand side by side."""
MOST_HALF = 3  # panels of a figure that is half as wide, one below another
MOST_PANELS = 20  # more are not read, and would not fit a page
BESIDE, ABOVE, BETWEEN = 0.45, 0.6, 0.12
"""Inches of a panel that labels take beside the axes, and above and below, and that stay free."""
LEGEND_LINE = 0.14  # inches
HANDLE = 5.5  # widths of a letter that a line of a legend and the space beside it take
MOST_LETTERS = 36  # of a name in a legend
COUNTS = 24  # and of what is said behind it
MOST_LINES = 4  # of a title
CUT = f"Names of more than {MOST_LETTERS} letters are cut in their middle."
FEW = 64  # colours of a bar; more would be as many boxes
DECADES = 1.5  # an axis that spans fewer has ticks within them


def side_by_side(count: int) -> int:
    """Say how many of ``count`` panels stand in a row, so that a page holds ``MOST_PANELS``."""
    if count <= 3:
        return count
    return 2 if count == 4 else 3 if count <= 9 else 4


def panels(
    count: int, *, columns: int | None = None, height: float | None = None
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels, as wide as a text whatever their number.

    Args:
        count: Number of panels, at least 1.
        columns: Panels side by side; by default ``side_by_side``.
        height: Of a panel with its title and labels, in inches; by default that of its width.
    """
    half = is_half() and columns is None and count <= MOST_HALF
    columns = columns or (1 if half else side_by_side(count))
    rows = -(-count // columns)
    each = height or HEIGHTS[2 if half else min(columns, 4)]
    width = HALF_WIDTH if half else TEXT_WIDTH
    figure = Figure(figsize=(width, min(each * rows, MOST_HEIGHT)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, list(axes[:count])


def few(items: Sequence[object]) -> str:
    """Say for the note how many of too many panels are left out."""
    more = len(items) - MOST_PANELS
    return f" The first {MOST_PANELS} of {len(items)} panels are drawn." if more > 0 else ""


def describe(
    ax: Axes, title: str = "", x: str = "", y: str = "", *, beside: float = BESIDE
) -> None:
    """Write title and names of the axes in as many lines as they need, whatever is in them.

    Args:
        ax: Of ``panels``.
        title: Of the panel.
        x: Name of the axis below.
        y: Name of the axis at the left.
        beside: Inches that the labels at the left take.
    """
    width, height = _size(ax)
    if title:
        ax.set_label(plain(title))  # whole
        # No layout makes room for a title: it is as wide as its panel, and above the middle of it.
        ax.set_title(
            wrapped(title, letters(width - BETWEEN)), x=0.5 - beside / (2 * width - 2 * beside)
        )
    if x:
        ax.set_xlabel(wrapped(x, letters(width - beside)))
    if y:
        ax.set_ylabel(wrapped(y, letters(height - ABOVE)))


def letters(inches: float, size: float = FONT) -> int:
    """Count the letters that a line of so many inches commonly holds."""
    return max(8, int(72 * inches / (size * LETTER)))


def width_of(count: int, size: float = FONT) -> float:
    """Give the inches that a line of so many letters commonly takes."""
    return count * size * LETTER / 72


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines after an underscore too, of which names are full."""

    wordsep_re = re.compile(r"(\s+|(?<=_)(?=\w{3}))")


def wrapped(text: str, most: int) -> str:
    """Break a text into lines of at most ``most`` letters, and cut what is beyond the last line."""
    lines = _Wrapper(most).wrap(text)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], shortened(" ".join(lines[MOST_LINES - 1 :]), most)]
    return plain("\n".join(lines))


def shortened(name: str, most: int = MOST_LETTERS) -> str:
    """Cut a name of more than ``most`` letters in its middle.

    Example:
        >>> shortened("adafisher_with_a_name_that_never_ends", 20)
        'adafisher_…ever_ends'
    """
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def short_names(names: Iterable[str], most: int = MOST_LETTERS) -> Mapping[str, str]:
    """Cut each name that is too long, and number those that become the same."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        short, count = shortened(name, most), 1
        while short in found.values():
            count += 1
            short = f"{shortened(name, most - 4)} ({count})"
        found[name] = short
    return found


def legend(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Put one legend for all panels below them, and make the figure higher by what it takes.

    Args:
        figure: Of ``panels``.
        entries: What is shown beside each name.
    """
    if not entries:
        return
    short = short_names(entries, MOST_LETTERS + COUNTS)
    longest = max(map(len, short.values()))
    columns = max(1, min(len(short), letters(figure.get_figwidth(), SMALL) // (longest + HANDLE)))
    canvas = FigureCanvasAgg(figure)
    while True:  # names are wider or narrower than letters commonly make them
        made = figure.legend(
            list(entries.values()),
            [plain(name) for name in short.values()],
            loc="outside lower center",
            ncols=int(columns),
            borderpad=0.2,
        )
        if columns == 1 or made.get_window_extent(canvas.get_renderer()).width < figure.bbox.width:
            break
        made.remove()
        columns -= 1
    rows = -(-len(short) // int(columns))
    figure.set_figheight(min(figure.get_figheight() + LEGEND_LINE * rows + 0.05, MOST_HEIGHT))


def note(figure: Figure, text: str) -> None:
    """Say how the figure is to be read: in its caption, never in the picture."""
    figure.set_label(" ".join(text.split()))


def note_of(figure: Figure) -> str:
    """Give what ``note`` said."""
    return str(figure.get_label())


def plain(text: str) -> str:
    """Keep matplotlib from reading a name with dollar signs as mathematics."""
    return text.replace("$", r"\$")


def say(ax: Axes, text: str) -> None:
    """Write a sentence where there is nothing to draw."""
    ax.set_axis_off()
    most = letters(_size(ax)[0] - BESIDE)
    ax.text(
        0.5, 0.5, wrapped(text, most), ha="center", va="center", transform=ax.transAxes, color=SOFT
    )


def logarithmic(axis: Axis) -> None:
    """Make an axis logarithmic, with labels that have no small exponents: 0.001, not 10 to the -3.

    Those would be under six points. Ticks within the decades have labels where there are few.
    """
    name = axis.axis_name  # type: ignore[attr-defined]
    axis.axes.set(**{f"{name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())


def spread_ticks(axis: Axis, *, most: int = 5) -> None:
    """Put the ticks of a logarithmic axis at 1, 2 and 5 of each decade where it spans few."""
    low, high = axis.get_view_interval()
    if 0 < low < high and np.log10(high / low) < DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=most))
    else:
        axis.set_major_locator(LogLocator(numticks=most))


def number(value: float) -> str:
    """Write the number at a tick.

    Example:
        >>> number(0.001), number(1e-7), number(250000.0)
        ('0.001', '1e−7', '2.5e5')
    """
    text = f"{value:g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace("-", "−")


def narrow(bar: Colorbar) -> None:
    """Draw a colour bar of many colours as pixels, and its numbers as ``number`` has them."""
    shown = bar.solids.get_array() if bar.solids else None
    if bar.solids is not None and shown is not None and shown.size > FEW:
        bar.solids.set_rasterized(True)
    bar.outline.set_linewidth(LEAST_LINE)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def spans_decades(values: npt.ArrayLike) -> bool:
    """Tell whether positive values differ so much that only a logarithmic axis shows them all."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    return bool(array.size and array.min() > 0 and array.max() / array.min() > 10)


def round_ticks(ax: Axes) -> None:
    """Put ticks of x at whole numbers only, unless the axis is so short that none would be left."""
    if ax.get_xlim()[1] > 2:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def side(ax: Axes) -> float:
    """Width of a panel with its labels, in inches."""
    return _size(ax)[0]


def _size(ax: Axes) -> tuple[float, float]:
    """Width and height of a panel with its labels, in inches."""
    figure, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None
    width, height = figure.bbox_inches.width, figure.bbox_inches.height
    if place is None:
        return width, height
    grid = place.get_gridspec()
    parts = np.asarray(grid.get_height_ratios(), dtype=np.float64)
    down = parts[place.rowspan.start : place.rowspan.stop].sum() / parts.sum()
    return width * len(place.colspan) / grid.ncols, height * float(down)
