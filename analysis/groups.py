"""Which runs belong together, what they are called, and the command that makes them.

A *group* is a configuration without its seed (``group_id``); a *block* is what methods are compared
within: one task, tokenization, model, setting and budget.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.load import SETTINGS
from analysis.statistics.effort import effort_of

BLOCK = ("task", "tokenization", "model", "setting", "budget")
GROUP_COLUMNS = (
    "group_id",
    *BLOCK,
    "title",
    "optimizer",
    "family",
    "ruleset",
    "trials",
    "label",
    "metric",
    "higher_is_better",
    "expected",
    "run_ids",
    "command",
    "hyperparameters",
    "control_of",
)

# A budget in words, with the keys of the overrides that make it.
_BUDGETS = {
    "epochs": r"(?P<epochs>\d+) epochs?",
    "steps": r"(?P<steps>\d+) steps?",
    "train_seconds": r"(?P<train_seconds>\S+) seconds of training",
    "target": r"until (?P<target>\S+), at most (?P<max_epochs>\d+) epochs?",
    "match_seconds": r"time of (?:(?P<reference_epochs>\d+) epochs?|"
    r"(?P<reference_steps>\d+) steps?) of (?P<match_seconds>\w+)",
}


def group_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Name the groups of runs.

    Args:
        runs: The run-level frame of ``load.Results``.

    Returns:
        One row a group (``GROUP_COLUMNS``), by block, label and ruleset. ``title`` names the block
        (the others only where the task has several); ``label`` names the method,
        with the hyperparameters that tell groups of one optimizer apart; ``trials`` is the effort
        of tuning behind these; ``expected`` counts the seeds that any method of the block has.
    """
    if runs.empty:
        return pd.DataFrame(columns=list(GROUP_COLUMNS))
    shared = ["group_id", *BLOCK, "optimizer", "family", "ruleset", "metric", "higher_is_better"]
    own = ["control", "control_of", "hyperparameters", "settings"]
    groups = runs.drop_duplicates("group_id")[[*shared, *own]].copy()
    groups["title"] = _titles(groups)
    groups["label"] = _labels(groups)
    seeds = runs.groupby(list(BLOCK))["seed"].nunique()
    groups["expected"] = [
        int(seeds.loc[key]) for key in groups[list(BLOCK)].itertuples(index=False)
    ]
    members = dict(list(runs.groupby("group_id")))
    groups["trials"] = [effort_of(members[key]).count for key in groups["group_id"]]
    groups["run_ids"] = [" ".join(members[key]["run_id"]) for key in groups["group_id"]]
    groups["command"] = [command(members[key]) for key in groups["group_id"]]
    order = ["title", "label", "ruleset", "group_id"]
    return groups.sort_values(order).reset_index(drop=True)[list(GROUP_COLUMNS)]


def command(runs: pd.DataFrame) -> str:
    """The command that makes these runs: one run, or several that differ in their seed only.

    It is written out from the identity; what a run changed in its task or model beyond that is in
    its ``config.yaml`` alone.
    """
    seeds = ",".join(str(seed) for seed in runs["seed"])
    sweep = ["-m"] if len(runs) > 1 else []
    overrides = [*_overrides(runs.iloc[0]), f"seed={seeds}"]
    return shlex.join(["python", "-m", "experiments.train", *sweep, *overrides])


def _overrides(run: pd.Series) -> list[str]:
    chosen = [f"{key}={run[key]}" for key in ("task", "model", "optimizer", "ruleset")]
    if run["tokenization"]:  # "bpe vocab_size=8192"
        name, *settings = run["tokenization"].split(" ")
        chosen += [f"tokenization={name}", *(f"tokenization.{item}" for item in settings)]
    chosen += _budget_overrides(str(run["budget"]))
    if run["control"]:
        chosen.append(f"control={run['control']}")
    chosen += [f"{SETTINGS[key]}={value}" for key, value in run["settings"].items()]
    values = run["hyperparameters"].items()
    return chosen + [f"optimizer.{key}={_hydra(value)}" for key, value in sorted(values)]


def _budget_overrides(words: str) -> list[str]:
    """Turn a budget in words (``experiments.budget.describe``) back into overrides."""
    for kind, pattern in _BUDGETS.items():
        found = re.fullmatch(pattern, words)
        if found:
            given = {key: value for key, value in found.groupdict().items() if value is not None}
            return [f"budget={kind}", *(f"budget.{key}={value}" for key, value in given.items())]
    return []


def _hydra(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _titles(groups: pd.DataFrame) -> list[str]:
    """Name each group's block: the task, and what else is needed to tell its blocks apart."""
    several = {
        task: [key for key in BLOCK[1:] if block[key].nunique() > 1]
        for task, block in groups.groupby("task")
    }
    return [
        ", ".join([row["task"], *(row[key] or f"no {key}" for key in several[row["task"]])])
        for _, row in groups.iterrows()
    ]


def _labels(groups: pd.DataFrame) -> list[str]:
    labels = dict.fromkeys(groups.index, "")
    for _, alike in groups.groupby([*BLOCK, "optimizer", "ruleset"]):
        parts = _differences(
            [
                {**values, **settings}
                for values, settings in zip(
                    alike["hyperparameters"], alike["settings"], strict=True
                )
            ]
        )
        controls = [f"{control} control" if control else "" for control in alike["control"]]
        names = [
            f"{name} ({', '.join(told)})" if (told := [text for text in pair if text]) else name
            for name, *pair in zip(alike["optimizer"], controls, parts, strict=True)
        ]
        counts = Counter(names)
        for index, name, group_id in zip(alike.index, names, alike["group_id"], strict=True):
            # What differs is in neither (the task's or model's arguments): only the id tells.
            labels[index] = name if counts[name] == 1 else f"{name} [{group_id[:6]}]"
    return list(labels.values())


def _differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each setting, the values that are not the same in all of them: ``lr=0.01``."""
    keys = sorted({key for values in settings for key in values})
    differing = [
        key for key in keys if len({json.dumps(values.get(key)) for values in settings}) > 1
    ]
    return [
        ", ".join(f"{key}={_short(values[key])}" for key in differing if key in values)
        for values in settings
    ]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else _hydra(value)
