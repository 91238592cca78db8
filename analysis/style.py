"""How a method looks, everywhere: colour, line and marker by its name, never by its turn.

Colours are those of Okabe and Ito (2008), and a dark brown that keeps as far from them: people with
the common colour deficiencies can tell them apart. Line and marker carry the same in grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"  # their yellow is too faint on white
BROWN = "#661100"

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
    "adafisherw": Style(VERMILLION, DASHED, "p"),
    "adafisher_v3": Style(VERMILLION, DASHDOT, "<"),
    "adafisherw_v3": Style(VERMILLION, DOTTED, ">"),
    "adafisher_released": Style(VERMILLION, LONG, "h"),
    "adafisherw_released": Style(VERMILLION, DOUBLE, "*"),
    "adam": Style(BLUE, DASHED, "s"),
    "adamw": Style(SKY, DASHDOT, "D"),
    "sgd": Style(BLACK, DOTTED, "x"),
    "kfac": Style(GREEN, DASHDOT, "^"),
    "ekfac": Style(GREEN, SOLID, "X"),
    "shampoo": Style(PURPLE, LONG, "v"),
    "soap": Style(PURPLE, SOLID, "d"),
    "muon": Style(BROWN, SOLID, "+"),
    "adahessian": Style(ORANGE, DOUBLE, "P"),
}
COLORS = (ORANGE, SKY, GREEN, BLUE, PURPLE, BROWN)
DASHES: tuple[Dash, ...] = (SOLID, DASHED, DASHDOT, LONG, DOUBLE, DOTTED)
MARKERS = ("8", "H", "1", "2", "3", "4", "|", "_", ".")


def style_of(optimizer: str, family: str = "", variant: str = "") -> Style:
    """Give a method's style: by its name, else by a hash of the name in its family's colour.

    Args:
        optimizer: Name of the optimizer, as in ``conf/optimizer/``.
        family: Its family; lends the colour to a name that is not known.
        variant: What tells two rows of one optimizer apart; changes line and marker only.
    """
    known = KNOWN.get(optimizer)
    if known and not variant:
        return known
    digest = hashlib.sha256(f"{optimizer}/{variant}".encode()).digest()
    by_name = hashlib.sha256(optimizer.encode()).digest()[0]
    base = known or KNOWN.get(family)
    return Style(
        color=base.color if base else COLORS[by_name % len(COLORS)],
        dash=DASHES[digest[1] % len(DASHES)],
        marker=MARKERS[digest[2] % len(MARKERS)],
    )


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
