"""Methods across tasks: the one that others are measured by, and one number a method and task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.results.groups import rows_of
from analysis.results.load import Results
from analysis.statistics.summary import Floats, summarize
from analysis.style import Style, style_of

REFERENCES = ("adamw", "adam", "sgd")  # in order of preference
ONE_EACH = "A method is shown as its ruleset has it; variants (another rate, say) are not."


@dataclass(frozen=True)
class Method:
    """One method in one block of comparable runs.

    Attributes:
        title: The block.
        name: The method, by the same name in every block.
        optimizer: Its optimizer, as in ``conf/optimizer/``.
        control: What it is the control of itself by; empty for the method.
        style: Colour, dash and marker, the same in every block.
        runs: Its rows of the run-level frame.
    """

    title: str
    name: str
    optimizer: str
    control: str
    style: Style
    runs: pd.DataFrame

    @property
    def done(self) -> pd.DataFrame:
        """The runs that ended ``done``."""
        return self.runs[self.runs["status"] == "done"]

    @property
    def finals(self) -> Floats:
        """The finite final results of the runs that are done, ``[seeds]``."""
        finals = pd.to_numeric(self.done["final"]).to_numpy(dtype=np.float64)
        return finals[np.isfinite(finals)]

    @property
    def metric(self) -> str:
        """Name of the metric, without its split."""
        return str(self.runs["metric"].iloc[0])

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return bool(self.runs["higher_is_better"].iloc[0])

    @property
    def units(self) -> dict[str, str]:
        """What loss and metrics are counted in, by name."""
        units: dict[str, str] = self.runs["units"].iloc[0]
        return units


def methods_of(results: Results) -> dict[str, list[Method]]:
    """List the rows of each block, by name: one for each optimizer, ruleset, control and tuning."""
    groups = rows_of(results.groups)
    runs = {str(group_id): part for group_id, part in results.runs.groupby("group_id")}
    several_rulesets = groups["ruleset"].nunique() > 1
    found: dict[str, list[Method]] = {}
    for _, group in groups.sort_values(["title", "optimizer", "ruleset", "label"]).iterrows():
        ruleset = f", {group['ruleset']}" if several_rulesets else ""
        # Its label has the control, and the tuning where that is not the one of the others.
        name = group["optimizer"] + ruleset + group["label"].removeprefix(group["optimizer"])
        variant = "" if name == group["optimizer"] else name
        found.setdefault(group["title"], []).append(
            Method(
                title=group["title"],
                name=name,
                optimizer=group["optimizer"],
                control=group["control"],
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
        plain = (one for one in methods if one.optimizer == optimizer and not one.control)
        alike = [method for method in plain if len(method.done)]
        if alike:
            return max(alike, key=lambda method: len(method.done))
    return None


def final_means(methods: Sequence[Method]) -> Mapping[str, float]:
    """Mean final result over the finished seeds of each method that has one, by its name."""
    finals = {method.name: method.finals for method in methods}
    return {name: float(values.mean()) for name, values in finals.items() if values.size}


def left_out(methods: Iterable[Method], *, costs: bool = False) -> str:
    """Say for a caption which methods lack seeds in their means, and why; empty where none does.

    A seed is lacking that any of these methods was started with in the same block.

    Args:
        methods: What is drawn, and what would be if a run of it were done.
        costs: Whether the means are of costs, which a run that is done without a result has too.

    Example: ``Not all seeds are in the means: muon on digits: n=1/10, diverged 9/10.``
    """
    listed = list(methods)
    seeds: dict[str, set[int]] = {}
    for method in listed:
        seeds.setdefault(method.title, set()).update(method.runs["seed"])
    found = []
    for method in listed:
        made = summarize(method.runs, "final", expected=len(seeds[method.title]))
        if costs:
            made = replace(made, n=made.n + made.not_finite, not_finite=0)
        if made.n < made.expected:
            found.append(f"{method.name} on {method.title}: {made.note}")
    return f" Not all seeds are in the means: {'; '.join(found)}." if found else ""
