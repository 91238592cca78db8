"""Which methods of a figure are in colour where there are too many, by one rule for all figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from analysis.style import FAINT, LEAST_LINE

MOST = 8  # lines in colour
ALWAYS = ("adafisher", "adamw")
RULE = (
    f"In colour: {' and '.join(ALWAYS)}, and of the others those whose {{what}} has the best mean "
    f"rank over the panels (the last one where there is none), {MOST} in all. Grey: {{names}}."
)
GREY: dict[str, Any] = {"color": FAINT, "lw": LEAST_LINE, "zorder": 1.5}
"""How a line is drawn that is not in colour."""


def chosen(results: Iterable[tuple[Mapping[str, float], bool]]) -> list[str]:
    """Choose the methods in colour, by name.

    Args:
        results: For each panel the result of each method, NaN where it has none, and whether
            larger ones are better.
    """
    panels = list(results)
    ranks = {name: 0.0 for values, _ in panels for name in values}
    for values, higher_is_better in panels:
        for name in ranks:
            value = values.get(name, np.nan)
            better = [v for v in values.values() if (v > value if higher_is_better else v < value)]
            ranks[name] += len(better) / len(values) if np.isfinite(value) else 1.0
    names = sorted(ranks, key=lambda name: (name not in ALWAYS, ranks[name], name))
    return sorted(names[:MOST])


def rule(names: Iterable[str], coloured: Collection[str], *, what: str = "final result") -> str:
    """Say in the note how the methods in colour were chosen, if not all are."""
    grey = sorted(set(names) - set(coloured))
    return " " + RULE.format(what=what, names=", ".join(grey)) if grey else ""
