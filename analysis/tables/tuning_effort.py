"""The effort behind each method's hyperparameters: trials, budget and seeds of their tuning.

``edge``: the chosen value of a hyperparameter, named under ``on_edge``, is the last one that was
tried, so that a better one may lie beyond. ``1 seed``: each trial was judged by one seed alone.
``failed``: trials that failed or ran out of memory; they say nothing of the method, and do not
count as effort. ``pruned``: trials that the pruner stopped, after a part of the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.render import MISSING, NONE_OF_RUNS
from analysis.results.groups import rows_of
from analysis.results.load import Absent, Results
from analysis.statistics.effort import marks_of, pruner_of, telling_trials

INDEX = ["task", "optimizer", "ruleset"]
FACTS = (
    "trials",
    "completed",
    "diverged",
    "pruned",
    "failed",
    "seeds",
    "budget",
    "sampler",
    "pruner",
    "space",
    "on_edge",
    "spread",
)
COMMAND = "make tune OPT=adafisher TASK=digits"
UNTUNED = "not tuned here"


def build(results: Results) -> pd.DataFrame:
    """Build the flat table.

    Returns:
        Index ``INDEX``; one column for each of ``FACTS``, and ``effort`` in words.
    """
    groups = rows_of(results.groups)
    tunings = results.runs.drop_duplicates("group_id").set_index("group_id")["tuning"]
    rows: dict[tuple[str, str, str], dict[str, object]] = {}
    for _, group in groups.iterrows():
        found = tunings.get(group["group_id"])
        tuning = found if isinstance(found, Mapping) else {}
        key = (group["title"], group["label"], group["ruleset"])
        rows[key] = {"effort": _effort(tuning)} | {fact: _text(tuning.get(fact)) for fact in FACTS}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["effort", *FACTS], dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs[MISSING] = Absent("No runs to show yet.", COMMAND, "tunes")
    if (table["effort"] == UNTUNED).all():
        table.attrs[NONE_OF_RUNS] = Absent("Nothing here was tuned.", COMMAND, "tunes")
    return table


def _effort(tuning: Mapping[str, Any]) -> str:
    if not tuning:
        return UNTUNED
    seeds = len(tuning.get("seeds") or [None])
    several = f" x {seeds} seeds" if seeds > 1 else ""
    trials, telling = tuning.get("trials"), telling_trials(tuning)
    told = trials if telling == trials else f"{telling} of {trials}"
    spent = f"{told} trials x {tuning.get('budget')}{several}"
    pruner = pruner_of(tuning)
    pruned = f"pruner {pruner}" if pruner else ""
    judged = "by loss" if tuning.get("choose") == "loss" else ""
    mean = "mean over seeds" if seeds > 1 and tuning.get("score") == "mean over seeds" else ""
    return ", ".join([spent, *filter(None, [pruned, judged, mean]), *marks_of(tuning)])


def _text(value: Any) -> object:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(_text(item)) for item in value) if value else "none"
    return "" if value is None else value
