"""Which methods of a figure are in colour where there are too many, by one rule for all figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from analysis.style import FAINT, LEAST_LINE

MOST = 8  # lines in colour
ALWAYS = ("adafisher", "adamw")
RULE = (
    "In colour: {always}those whose {what} has the best mean rank over the panels (the last one "
    f"where there is none), {MOST} in all. Grey: {{names}}."
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
    names = sorted(ranks, key=lambda name: (not _is_always(name), ranks[name], name))
    return sorted(names[:MOST])


def _is_always(name: str) -> bool:
    """Tell whether a method is in colour whatever its rank, under any ruleset."""
    return name.partition(",")[0] in ALWAYS


def rule(names: Iterable[str], coloured: Collection[str], *, what: str = "final result") -> str:
    """Say in the note how the methods in colour were chosen, if not all are."""
    grey = sorted(set(names) - set(coloured))
    if not grey:
        return ""
    always = " and ".join(sorted(filter(_is_always, coloured)))
    told = {"always": f"{always}, and of the others " if always else "", "what": what}
    between = "; " if any("," in name for name in grey) else ", "
    return " " + RULE.format(**told, names=between.join(grey))
