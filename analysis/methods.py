"""Methods across tasks: the one that others are measured by, and one number a method and task."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.groups import group_runs
from analysis.load import Results
from analysis.style import Style, style_of

REFERENCES = ("adamw", "adam", "sgd")  # in order of preference


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
    """List the methods of each block, both in order of their name."""
    groups = group_runs(results.runs)
    several_rulesets = groups["ruleset"].nunique() > 1
    runs = {str(group_id): part for group_id, part in results.runs.groupby("group_id")}
    found: dict[str, list[Method]] = {}
    for _, group in groups.iterrows():
        name = group["label"] + (f", {group['ruleset']}" if several_rulesets else "")
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
    return {title: sorted(found[title], key=lambda method: method.name) for title in sorted(found)}


def reference_of(methods: list[Method]) -> Method | None:
    """Pick what the others are measured by: AdamW, else Adam, else SGD, else nothing.

    Where that optimizer has several variants, it is the one with most finished runs, and among
    equals the first by name.
    """
    for optimizer in REFERENCES:
        alike = [method for method in methods if method.optimizer == optimizer and len(method.done)]
        if alike:
            return max(alike, key=lambda method: len(method.done))
    return None
