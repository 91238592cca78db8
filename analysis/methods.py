"""Methods across tasks: the one that others are measured by, and one number a method and task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.groups import group_runs
from analysis.load import Results
from analysis.style import Style, style_of

REFERENCES = ("adamw", "adam", "sgd")  # in order of preference
ONE_EACH = (
    "Of several variants of a method (learning rates, say) the one best on validation is shown."
)


@dataclass(frozen=True)
class Method:
    """One method in one block of comparable runs.

    Attributes:
        title: The block.
        name: The method, by the same name in every block.
        optimizer: Its optimizer, as in ``conf/optimizer/``.
        style: Colour, dash and marker, the same in every block.
        runs: Its rows of the run-level frame.
    """

    title: str
    name: str
    optimizer: str
    style: Style
    runs: pd.DataFrame

    @property
    def done(self) -> pd.DataFrame:
        """The runs that ended ``done``."""
        return self.runs[self.runs["status"] == "done"]


def methods_of(results: Results) -> dict[str, list[Method]]:
    """List the methods of each block, one for each optimizer, ruleset and control, by name.

    Of several variants (learning rates, say) the one that is best on validation stands for all, by
    the mean over its finished seeds of the best epoch; without a validation split the one with most
    finished seeds, and of equals the first by label. The test split has no part in it.
    """
    groups = group_runs(results.runs)
    if groups.empty:
        return {}
    runs = {str(group_id): part for group_id, part in results.runs.groupby("group_id")}
    groups["control"] = [runs[key]["control"].iloc[0] for key in groups["group_id"]]
    several_rulesets = groups["ruleset"].nunique() > 1
    kept = ["title", "optimizer", "ruleset", "control"]
    merit = _merit(results, groups, runs) if groups.duplicated(kept).any() else {}
    found: dict[str, list[Method]] = {}
    for _, alike in groups.groupby(kept, sort=True):
        group = alike.loc[max(alike.index, key=lambda index: merit.get(index, (0.0, 0.0)))]
        name = group["optimizer"] + (f", {group['ruleset']}" if several_rulesets else "")
        name += f" ({group['control']} control)" if group["control"] else ""
        variant = "" if name == group["optimizer"] else name
        found.setdefault(group["title"], []).append(
            Method(
                title=group["title"],
                name=name,
                optimizer=group["optimizer"],
                style=style_of(group["optimizer"], group["family"], variant),
                runs=runs[group["group_id"]],
            )
        )
    return found


def reference_of(methods: list[Method]) -> Method | None:
    """Pick what the others are measured by: AdamW, else Adam, else SGD, else nothing.

    Of several rulesets it is the one with most finished runs, and of equals the first by name.
    """
    for optimizer in REFERENCES:
        alike = [method for method in methods if method.optimizer == optimizer and len(method.done)]
        if alike:
            return max(alike, key=lambda method: len(method.done))
    return None


def final_means(methods: Sequence[Method]) -> Mapping[str, float]:
    """Mean final result over the finished seeds of each method that has one, by its name."""
    means = {method.name: method.done["final"].astype(float).mean() for method in methods}
    return {name: float(mean) for name, mean in means.items() if np.isfinite(mean)}


def _merit(
    results: Results, groups: pd.DataFrame, runs: Mapping[str, pd.DataFrame]
) -> dict[Any, tuple[float, float]]:
    """What the variants of a method are ranked by: more is better, and a tie is the first's."""
    merit = {}
    for index, group in groups.iterrows():
        run = runs[group["group_id"]]
        done = run[run["status"] == "done"]
        sign = 1.0 if group["higher_is_better"] else -1.0
        curves = results.series(list(done["run_id"]), f"validation_{group['metric']}", "step")
        best = [float(np.max(sign * y)) for _, y in curves]
        score = float(np.mean(best)) if best else float("nan")
        merit[index] = (score if np.isfinite(score) else -np.inf, float(len(done)))
    return merit
