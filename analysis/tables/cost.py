"""Cost of each method: time a training step, ratio to AdamW's, peak memory, optimizer state.

Means over the finished runs of a group, and ± their sample standard deviation for the time: runs
may have shared their machine, or ran on different ones. ``make bench`` measures ratios in one
process. The peak is what a run added to the memory of its process on a CPU, that of the device
elsewhere. A step's time is that of training alone; the AdaFisher authors' training time includes
the passes over the test set, which ``s with test`` adds to a run's where its record has them. Nor
has it a run's set-up, which favours methods that compile: ``s set-up`` is that, and ``to adamw with
it`` the ratio of a step's time with its share of it. ``form`` is how a method's step is computed,
where its records say so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.render import Cell
from analysis.render.grid import Columns, method_grid, row_of, source_of
from analysis.results.groups import shown_of
from analysis.results.load import Results
from analysis.statistics.effort import LEGEND

COLUMNS = ["task", "cost"]
NOTE = LEGEND
WITH_TEST = "s with test"
SET_UP, WITH_SET_UP = "s set-up", "to adamw with it"
FORM = "form"
COSTS = ("ms a step", "to adamw", SET_UP, WITH_SET_UP, WITH_TEST, "peak MB", "state MB", FORM)
NEWER = (SET_UP, WITH_SET_UP, WITH_TEST, FORM)  # shown where a record has them
SPREAD = COSTS[0]
REFERENCE = "adamw"
NOT_RUN = "not run"
MEGA = 1e6


def build(results: Results) -> pd.DataFrame:
    """Build the grid.

    Returns:
        Index ``grid.INDEX``; columns ``COLUMNS``, the ``COSTS`` of each block of comparable runs,
        without those of ``NEWER`` that no record has.
    """
    groups = shown_of(results.groups)
    done = results.runs[results.runs["status"] == "done"]
    members = dict(list(done.groupby("group_id")))
    cells: Columns = {}
    for title, block in groups.groupby("title", sort=False):
        reference = next(
            (
                members[row["group_id"]]
                for _, row in block.iterrows()
                if (row["optimizer"], row["control"]) == (REFERENCE, "")
                and row["group_id"] in members
            ),
            None,
        )
        found = {key: _costs(members.get(key), reference) for key in block["group_id"]}
        shown = [
            cost for cost in COSTS if cost not in NEWER or any(cost in of for of in found.values())
        ]
        for _, group in block.iterrows():
            values = found[group["group_id"]]
            source = source_of(group)
            for cost in shown:
                column = cells.setdefault((str(title), cost), {})
                column[row_of(group)] = _cell(cost, values.get(cost), source)
    return method_grid(groups, cells, columns=COLUMNS, missing=NOT_RUN)


def _costs(runs: pd.DataFrame | None, reference: pd.DataFrame | None) -> dict[str, tuple[Any, int]]:
    """Each known cost, as a value a run or one in all, and the number of runs."""
    if runs is None:
        return {}
    times = _milliseconds(runs)
    found = {
        "ms a step": times,
        WITH_TEST: _seconds_with_test(runs),
        "to adamw": _ratio(times, None if reference is None else _milliseconds(reference)),
        SET_UP: pd.to_numeric(runs["setup_seconds"]),
        WITH_SET_UP: _ratio(
            _with_set_up(runs), None if reference is None else _with_set_up(reference)
        ),
        "peak MB": pd.to_numeric(runs["peak_memory_bytes"]) / MEGA,
        "state MB": pd.to_numeric(runs["state_bytes"]) / MEGA,
    }
    known = {cost: (value, len(runs)) for cost, value in found.items() if np.isfinite(_mean(value))}
    forms = runs[FORM].dropna()
    return known | ({FORM: ("; ".join(sorted(set(forms))), len(forms))} if len(forms) else {})


def _mean(value: Any) -> float:
    return float(np.mean(np.asarray(value, dtype=np.float64)))


def _ratio(costs: pd.Series, reference: pd.Series | None) -> float:
    return np.nan if reference is None else float(costs.mean() / reference.mean())


def _milliseconds(runs: pd.DataFrame) -> pd.Series:
    return 1e3 * pd.to_numeric(runs["train_seconds"]) / _steps(runs)


def _with_set_up(runs: pd.DataFrame) -> pd.Series:
    """Seconds a step of whole runs, set-up and training; NaN where the former is not recorded."""
    return (pd.to_numeric(runs["train_seconds"]) + pd.to_numeric(runs["setup_seconds"])) / _steps(
        runs
    )


def _steps(runs: pd.DataFrame) -> pd.Series:
    return pd.to_numeric(runs["steps"]).where(lambda count: count > 0)


def _seconds_with_test(runs: pd.DataFrame) -> pd.Series:
    """Training and test passes together; NaN where the latter were not recorded."""
    return pd.to_numeric(runs["train_seconds"]) + pd.to_numeric(runs["evaluation_seconds"])


def _cell(cost: str, found: tuple[Any, int] | None, source: dict[str, Any]) -> Cell:
    if found is None:
        return Cell("", source=source)
    value, n = found
    if cost == FORM:
        return Cell(value, {"statistic": FORM, "n": n}, source)
    mean = _mean(value)
    values: dict[str, object] = {"statistic": "mean", "mean": mean, "n": n}
    text = f"{mean:.3g}"
    if cost == SPREAD and n > 1:
        values["std"] = float(value.std(ddof=1))
        text += f" ± {values['std']:.2g}"
    return Cell(text, values, source)
