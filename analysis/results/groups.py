"""Which runs belong together, what they are called, and the command that makes them.

A *group* is a configuration without its seed (``group_id``); a *block* is what methods are compared
within, one setting (``settings``). In a block the *row* of a method is the configuration
that its ruleset gives. Every other configuration of it is a *variant*: typed by somebody who may
have seen the test results, so it is shown without a verdict, and in the way of no row.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results.settings import differences, setting_titles, value_text
from analysis.statistics.effort import effort_of

CONF = Path(__file__).resolve().parents[2] / "conf"
BLOCK = ("task", "tokenization", "model", "setting", "budget")
METHOD = ["block", "optimizer", "ruleset", "control", "tuned"]
NO_GRIDS = "grids=null"
GROUP_COLUMNS = (
    "group_id",
    "block",
    *BLOCK,
    "title",
    "optimizer",
    "family",
    "ruleset",
    "control",
    "tuned",
    "effort",
    "label",
    "what",
    "is_row",
    "is_untyped",
    "metric",
    "higher_is_better",
    "units",
    "expected",
    "run_ids",
    "command",
    "hyperparameters",
    "control_of",
)


def group_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Name the groups of runs.

    Args:
        runs: The run-level frame of ``load.Results``.

    Returns:
        One row a group (``GROUP_COLUMNS``), by block, label and ruleset. ``title`` names the block;
        ``label`` names the method, a variant with what it has otherwise than the others, and one
        that was tuned in another setting than most that it stands beside with that (``tuned``);
        ``what`` is that without the method; ``is_row`` tells the method's row from its variants,
        ``is_untyped`` that its record tells of no value that somebody gave;
        ``effort`` is the tuning behind the hyperparameters; ``expected`` counts the seeds that any
        row of the block has, or any variant where the block has none.
    """
    if runs.empty:
        return pd.DataFrame(columns=list(GROUP_COLUMNS))
    shared = ["group_id", "block", *BLOCK, "optimizer", "family", "ruleset", "control"]
    own = [
        "metric",
        "higher_is_better",
        "units",
        "control_of",
        "hyperparameters",
        "origin",
        "tuning",
    ]
    groups = runs.drop_duplicates("group_id")[[*shared, *own]].copy()
    titles = setting_titles(runs)
    groups["title"] = [titles[block] for block in groups["block"]]
    groups["tuned"] = [tuned_setting(origin) for origin in groups["origin"]]
    groups["is_untyped"] = [bool(of) and not of["typed"] for of in groups["origin"]]
    groups["is_row"] = _rows(groups)
    groups["what"] = _what(groups)
    groups["label"] = _labels(groups)
    members = dict(list(runs.groupby("group_id")))
    groups["expected"] = _expected(groups, members)
    efforts = [effort_of(members[key]) for key in groups["group_id"]]
    groups["effort"] = pd.Series(efforts, index=groups.index, dtype=object)
    groups["run_ids"] = [" ".join(members[key]["run_id"]) for key in groups["group_id"]]
    groups["command"] = [command(members[key]) for key in groups["group_id"]]
    order = ["title", "label", "ruleset", "group_id"]
    return groups.sort_values(order).reset_index(drop=True)[list(GROUP_COLUMNS)]


def rows_of(groups: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of the methods, in the order of ``group_runs``."""
    return groups[groups["is_row"].astype(bool)]


def shown_of(groups: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of each block; of a block that has none, its variants."""
    has_row = groups["block"].isin(rows_of(groups)["block"])
    return groups[groups["is_row"].astype(bool) | ~has_row]


def without_row(groups: pd.DataFrame) -> pd.DataFrame:
    """One line, under the name of the row, for each method that has variants but no row.

    ``versions`` counts the groups that nobody typed a value for: where there are several, as of two
    versions of a file of one's own, nothing tells which of them is the row.
    """
    has_row = groups.groupby(METHOD)["is_row"].transform("any").astype(bool)
    left = groups[~has_row]
    versions = left.groupby(METHOD)["is_untyped"].transform("sum").astype(int)
    lines = left.assign(versions=versions).drop_duplicates(METHOD)
    named = zip(lines["optimizer"], lines["what"], strict=True)
    return lines.assign(label=[_named(*of) for of in named])


def command(runs: pd.DataFrame) -> str:
    """Give the command that makes these runs: one run, or several that differ in their seed only.

    Empty where the record does not tell it (it is older than the schema that does).
    """
    origin = runs.iloc[0]["origin"]
    if not origin:
        return ""
    seeds = ",".join(str(seed) for seed in runs["seed"])
    sweep = ["-m"] if len(runs) > 1 else []
    control = runs.iloc[0]["control"]
    # A sweep of controls runs what they control too; by itself it is one of the two.
    typed = [item for item in origin["command"] if not item.startswith("control=")]
    typed += [f"control={control}"] if control else []
    # These runs of an experiment alone, in its setting, not all that its grids list.
    typed += [NO_GRIDS] if any(item.startswith("experiment=") for item in typed) else []
    return shlex.join(["python", "-m", "experiments.train", *sweep, *typed, f"seed={seeds}"])


def _rows(groups: pd.DataFrame) -> list[bool]:
    """Tell which groups are the rows of their methods: of each at most one."""
    row = dict.fromkeys(groups.index, False)
    for _, alike in groups.groupby(METHOD):
        candidates = [index for index in alike.index if not _is_typed(alike.loc[index])]
        if len(candidates) > 1:  # a ruleset's file was renewed: the one that is there now counts
            candidates = [index for index in candidates if _is_of_now(alike.loc[index])]
        if len(candidates) == 1:
            row[candidates[0]] = True
    return list(row.values())


def _is_typed(group: pd.Series) -> bool:
    """Tell whether somebody gave an argument of the optimizer that its ruleset does not give."""
    if group["origin"]:
        return bool(group["origin"]["typed"])
    chosen = (group["tuning"] or {}).get("chosen") or {}  # a record from before there was an origin
    return any(group["hyperparameters"].get(key) != value for key, value in chosen.items())


def _is_of_now(group: pd.Series) -> bool:
    origin: dict[str, Any] = group["origin"]
    file = origin.get("ruleset_file") if origin else None
    return file is not None and _digest(CONF / file["path"]) == file["sha256"]


@cache
def _digest(path: Path) -> str:
    """Sha256 of a file; empty where it is gone. A file that changes meanwhile is not seen."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def tuned_setting(origin: Mapping[str, Any]) -> str:
    """Name the setting whose tuned file a run took, as ``tuned=`` does; empty: none, or its task's.

    Example:
        >>> tuned_setting({"ruleset_file": {"path": "tuned/digits/w8/adam.yaml"}})
        'w8'
    """
    path = ((origin or {}).get("ruleset_file") or {}).get("path", "")
    folders = str(path).split("/")[:-1]
    return folders[2] if len(folders) == 3 and folders[0] == "tuned" else ""


def _expected(groups: pd.DataFrame, members: dict[Any, pd.DataFrame]) -> list[int]:
    seeds: dict[str, set[int]] = {}
    for _, group in shown_of(groups).iterrows():
        seeds.setdefault(group["block"], set()).update(members[group["group_id"]]["seed"])
    return [len(seeds[block]) for block in groups["block"]]


def _what(groups: pd.DataFrame) -> list[list[str]]:
    """Say of each group what its method's row is called by, besides the optimizer."""
    usual = _usual_tunings(groups[groups["ruleset"] == "tuned"].drop_duplicates(METHOD))
    found = []
    for _, group in groups.iterrows():
        what = [f"{group['control']} control"] if group["control"] else []
        if group["ruleset"] == "tuned" and group["tuned"] != usual[group["tuned"]]:
            what.append(f"tuned={group['tuned'] or '.'}")
        found.append(what)
    return found


def _usual_tunings(methods: pd.DataFrame) -> dict[str, str]:
    """Of tunings that stand side by side in some block, name the one that most methods have.

    It is the same in all blocks, or a name would stand for one tuning here and another there.

    Args:
        methods: A line a method and block.

    Returns:
        The usual one by the name of each.
    """
    together: list[set[str]] = []
    for _, block in methods.groupby("block"):
        beside = set(block["tuned"])
        near = [one for one in together if one & beside]
        together = [one for one in together if one not in near] + [beside.union(*near)]
    counts = methods["tuned"].value_counts()
    return {
        setting: max(sorted(beside), key=counts.__getitem__)
        for beside in together
        for setting in beside
    }


def _labels(groups: pd.DataFrame) -> list[str]:
    labels = dict.fromkeys(groups.index, "")
    for _, alike in groups.groupby(METHOD):
        optimizer, what = alike["optimizer"].iloc[0], alike["what"].iloc[0]
        parts = differences(list(alike["hyperparameters"]))
        names = [
            _named(optimizer, what if group["is_row"] else [*what, *_told(group, part)])
            for (_, group), part in zip(alike.iterrows(), parts, strict=True)
        ]
        counts = Counter(names)
        for index, name, group_id in zip(alike.index, names, alike["group_id"], strict=True):
            # Of one configuration by all that is recorded, as by two versions of the code.
            labels[index] = name if counts[name] == 1 else f"{name} [{group_id[:6]}]"
    return list(labels.values())


def _told(variant: pd.Series, part: str) -> list[str]:
    """Say what a variant is called by: what was typed, else what it has otherwise than its like."""
    typed = (variant["origin"] or {}).get("typed")
    text = ", ".join(f"{key}={value_text(value)}" for key, value in (typed or {}).items())
    return [text or part] if text or part else []


def _named(name: object, named: list[str]) -> str:
    return f"{name} ({', '.join(named)})" if named else str(name)


def blocks(groups: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the groups of each block, by title."""
    for title, block in groups.groupby("title", sort=True):
        yield str(title), block
