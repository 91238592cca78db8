"""How a method looks, everywhere: colour, line and marker by its name, never by its turn.

Colours are those of Okabe and Ito (2008), and a dark brown that keeps as far from them: people with
the common colour deficiencies can tell them apart. Line and marker carry the same in grey.
"""

from __future__ import annotations

import hashlib
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


def metric_label(metric: str) -> str:
    """Write a metric's name with its unit: ``test_accuracy_percent`` is ``test accuracy (%)``.

    Example:
        >>> metric_label("test_accuracy_percent"), metric_label("train_loss")
        ('test accuracy (%)', 'train loss (nats)')
    """
    units = {"_percent": "%", "_seconds": "s", "loss": "nats"}
    for ending, unit in units.items():
        if metric.endswith(ending):
            name = metric if ending == "loss" else metric.removesuffix(ending)
            return f"{name.replace('_', ' ')} ({unit})"
    return metric.replace("_", " ")
