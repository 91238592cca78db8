"""How a method looks, everywhere: colour, line and marker by its name, never by its turn.

Colours are those of Okabe and Ito (2008), and a dark brown that keeps as far from them: people with
the common colour deficiencies can tell them apart. Line and marker carry the same in grey. Sizes
are those at which a figure goes into a paper, where it is not scaled: inches and points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"  # their yellow is too faint on white
BROWN = "#661100"

INK, SOFT, FAINT, PAPER = BLACK, "#555555", "#999999", "#FFFFFF"
"""Text and axes; what they are read by; what is of no method; what a line stands out from."""
ON_LIGHT, ON_DARK = "#0A0A0A", "#FAFAFA"
"""Of numbers in the pixels of a picture, which is the same in the dark."""
FIXED = frozenset(color.lower() for color in (ON_LIGHT, ON_DARK))
"""Colours that stay what they are on a dark page."""
DARK_PAGE = "#16171B"  # as templates/page.css has it
READABLE = 4.5  # contrast of text that anyone can read (WCAG 2.2, 1.4.3)

TEXT_WIDTH, HALF_WIDTH, MOST_HEIGHT = 5.5, 2.7, 7.2  # a page of ICLR is 5.5 by 9, with captions
FONT, SMALL, LEAST_FONT = 7.0, 6.3, 6.0
LINE, LEAST_LINE = 1.1, 0.6
LETTER = 0.56
"""Width of a letter, of its size: what is commonly met in the fonts that are used here."""
STACKS = {False: "system-ui, sans-serif", True: "STIXGeneral, Times New Roman, serif"}
"""Fonts of an SVG that has no page around it, without and with serifs."""
_SERIF: dict[Any, Any] = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],  # of the shape of Times, and part of matplotlib
    "mathtext.fontset": "stix",
}
RC: dict[Any, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "lines.linewidth": LINE,
    "lines.markersize": 3.4,
    "lines.markeredgewidth": LEAST_LINE,
    "patch.linewidth": LEAST_LINE,
    "hatch.linewidth": LEAST_LINE,
    "axes.linewidth": LEAST_LINE,
    "axes.titlepad": 4,
    "axes.labelpad": 2,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": LEAST_LINE,
    "grid.alpha": 0.35,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    **{f"{axis}tick.{which}.width": LEAST_LINE for axis in "xy" for which in ("major", "minor")},
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}
"""Settings of matplotlib under which every figure is built."""

_half: ContextVar[bool] = ContextVar("half", default=False)


@dataclass(frozen=True)
class Look:
    """What a paper asks of its figures.

    Attributes:
        serif: Letters with serifs, as of Times.
        half: As wide as half a text, where the panels are few enough to be read.
    """

    serif: bool = False
    half: bool = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have figures built and drawn so meanwhile."""
        import matplotlib as mpl

        token = _half.set(self.half)
        try:
            with mpl.rc_context(RC | (_SERIF if self.serif else {})):
                yield
        finally:
            _half.reset(token)


def is_half() -> bool:
    """Say whether figures are to be half as wide as a text."""
    return _half.get()


Dash = str | tuple[int, tuple[int, ...]]
SOLID, DASHED, DOTTED, DASHDOT = "-", (0, (5, 2)), (0, (1, 1)), (0, (5, 2, 1, 2))
LONG, DOUBLE = (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1))


@dataclass(frozen=True)
class Style:
    """Colour, dash pattern and marker of a method."""

    color: str
    dash: Dash
    marker: str

    def plot(self) -> dict[str, Any]:
        """Return keyword arguments for ``Axes.plot``."""
        return {"color": self.color, "linestyle": self.dash, "marker": self.marker}


KNOWN = {
    "adafisher": Style(VERMILLION, SOLID, "o"),
    "adafisherw": Style("#8D3E00", DASHED, "p"),  # variants: shades of it, dark where decoupled
    "adafisher_v3": Style("#E28E4D", DASHDOT, "<"),
    "adafisherw_v3": Style("#AF4D00", DOTTED, ">"),
    "adafisher_released": Style("#E8A875", LONG, "h"),
    "adafisherw_released": Style("#DB7524", DOUBLE, "*"),
    "adam": Style(BLUE, DASHED, "s"),
    "adamw": Style(SKY, DASHDOT, "D"),
    "sgd": Style(BLACK, DOTTED, "x"),
    "kfac": Style(GREEN, DASHDOT, "^"),
    "ekfac": Style("#00674C", SOLID, "X"),
    "shampoo": Style(PURPLE, LONG, "v"),
    "soap": Style("#854E6D", SOLID, "d"),
    "muon": Style(BROWN, SOLID, "+"),
    "adahessian": Style(ORANGE, DOUBLE, "P"),
}
COLORS = (ORANGE, SKY, GREEN, BLUE, PURPLE, BROWN)
DASHES: tuple[Dash, ...] = (SOLID, DASHED, DASHDOT, LONG, DOUBLE, DOTTED)
SHADES = (-0.45, -0.2, 0.25, 0.45)
MARKERS = ("8", "H", "1", "2", "3", "4", "|", "_", ".")


def style_of(optimizer: str, family: str = "", variant: str = "") -> Style:
    """Give a method's style: by its name, else by a hash of the name in its family's colour.

    Args:
        optimizer: Name of the optimizer, as in ``conf/optimizer/``.
        family: Its family; lends the colour to a name that is not known.
        variant: What tells two rows of one optimizer apart; changes lightness, line and marker.
    """
    known = KNOWN.get(optimizer)
    if known and not variant:
        return known
    digest = hashlib.sha256(f"{optimizer}/{variant}".encode()).digest()
    by_name = hashlib.sha256(optimizer.encode()).digest()[0]
    base = known or KNOWN.get(family)
    color = base.color if base else COLORS[by_name % len(COLORS)]
    return Style(
        color=shade(color, SHADES[digest[3] % len(SHADES)]) if base or variant else color,
        dash=DASHES[digest[1] % len(DASHES)],
        marker=MARKERS[digest[2] % len(MARKERS)],
    )


def shade(color: str, share: float) -> str:
    """Mix a colour with white, or of a negative share with black; what is dark is only lightened.

    Example:
        >>> shade("#0072B2", 0.5), shade("#0072B2", -0.5), shade("#000000", -0.5)
        ('#80B9D9', '#003959', '#808080')
    """
    channels = _channels(color)
    if luminance(color) < 0.05:
        share = abs(share)
    goal = 255 if share > 0 else 0
    mixed = (int(each + abs(share) * (goal - each) + 0.5) for each in channels)
    return "#{:02X}{:02X}{:02X}".format(*mixed)


def luminance(color: str) -> float:
    """Relative luminance of a colour, 0 to 1 (WCAG 2.2, as sRGB has it).

    Example:
        >>> luminance("#000000"), luminance("#FFFFFF")
        (0.0, 1.0)
    """
    shares = [channel / 255 for channel in _channels(color)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def on_dark(color: str) -> str:
    """Give what a colour becomes on a dark page: a grey its opposite, another one lighter.

    Example:
        >>> on_dark("#000000"), on_dark("#FFFFFF")
        ('#E8E8E8', '#16171B')
    """
    red, green, blue = _channels(color)
    page = _channels(DARK_PAGE)
    if red == green == blue:
        least = sum(page) / 3
        if red == 255:
            return DARK_PAGE
        return shade("#000000", (232 - (232 - least) * red / 255) / 255)
    share = 0.0
    while contrast(shade(color, share), DARK_PAGE) < READABLE:
        share += 0.05
    return shade(color, share)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.2).

    Example:
        >>> contrast("#FFFFFF", "#000000")
        21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return round((high + 0.05) / (low + 0.05), 6)


def _channels(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


SPLITS = ("train_", "validation_", "test_")


def metric_label(metric: str, units: Mapping[str, str] | None = None) -> str:
    """Write a metric's name with its unit: ``test_accuracy_percent`` is ``test accuracy (%)``.

    Args:
        metric: A column of a record, or the name of a metric without its split.
        units: What the record says that loss and metrics are counted in, by name without split.
            One from before it did so, or of no run, goes by the ending of the name.

    Example:
        >>> metric_label("test_accuracy_percent"), metric_label("train_loss")
        ('test accuracy (%)', 'train loss (nats)')
        >>> metric_label("test_error", {"error": "kg"}), metric_label("train_loss", {"loss": ""})
        ('test error (kg)', 'train loss')
    """
    own = next((metric.removeprefix(s) for s in SPLITS if metric.startswith(s)), metric)
    unit = (units or {}).get(own)
    if unit is None:
        unit = next((unit for end, unit in _UNITS.items() if metric.endswith(end)), "")
    ending = next((end for end, of in _UNITS.items() if of == unit and end.startswith("_")), "")
    name = metric.removesuffix(ending).replace("_", " ")
    return f"{name} ({unit})" if unit else name


_UNITS = {"_percent": "%", "_seconds": "s", "loss": "nats"}
"""By the ending of a name."""
