"""What methods are compared within: the setting of a run, its key and its name.

Everything that a run is but its method and its seed makes its setting (``protocol`` in its record);
a budget that is a table by methods is one budget. Runs of one setting differ in their method alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

FACTS = (
    "task",
    "tokenization",
    "model",
    "setting",
    "budget",
    "schedule",
    "batch_size",
    "precision",
)
"""What records from before there was a protocol tell of their setting."""
UNRECORDED = "protocol not recorded"
COLUMNS = {"tokenization": "tokenization", "pretrained.source": "setting"}
"""Changes of which a column has the name."""


def setting_key(identity: Mapping[str, Any], *, without: str = "") -> str:
    """Name the setting of a run by a digest that no other setting has.

    Args:
        identity: As the record has it.
        without: A key of ``FACTS`` that may differ, as ``batch_size`` where that is varied.
    """
    protocol = identity.get("protocol")
    if not protocol:
        return _digest([identity.get(key) for key in FACTS if key != without])
    kept = {
        section: {key: item for key, item in value.items() if key != without}
        if isinstance(value, Mapping)
        else value
        for section, value in protocol.items()
        if section != without
    }
    if "by_optimizer" in kept.get("budget", {}):
        kept["budget"].pop("epochs", None)
    if "calibration" in kept.get("budget", {}):  # each method has steps of its own
        kept["budget"].pop("steps", None)
    return _digest(kept)


def setting_titles(runs: pd.DataFrame, *, without: str = "") -> dict[str, str]:
    """Name each setting by its task, and by what of it is not that task's default.

    Args:
        runs: One row a run, or one of each setting, of the run-level frame.
        without: A key that is not named, as ``batch_size`` where that is varied.

    Returns:
        The title of each ``block``; the default setting of a task has the task's name alone. Of
        steps at equal time the day and machine that they were timed on are named where two differ
        in nothing else.
    """
    titles = _titles(runs, without, short=True)
    if without:
        return titles
    if twice := _repeated(titles):
        whole = _titles(runs, without, short=False)
        titles |= {block: whole[block] for block, title in titles.items() if title in twice}
    twice = _repeated(titles)
    return {
        block: f"{title} ({number})" if title in twice else title
        for number, (block, title) in enumerate(sorted(titles.items()), start=1)
    }


def _repeated(titles: Mapping[str, str]) -> set[str]:
    return {title for title, count in Counter(titles.values()).items() if count > 1}


def _titles(runs: pd.DataFrame, without: str, *, short: bool) -> dict[str, str]:
    first = runs.drop_duplicates("block")
    counts = runs["block"].value_counts()
    titles = {}
    for task, settings in first.groupby("task", sort=True):
        plain = [run for _, run in settings.iterrows()]
        usual = max(plain, key=lambda run: counts[run["block"]])
        for run in plain:
            differences = [] if run["protocol"] else [UNRECORDED] * bool(settings["protocol"].any())
            told = (
                changes(run, without=(without,), short=short)
                if run["origin"]
                else _unlike(run, usual, without)
            )
            titles[run["block"]] = ", ".join([str(task), *told, *differences])
    return titles


def short_budget(budget: str) -> str:
    """Leave out of steps at equal time the day and machine that they were timed on.

    Example:
        >>> short_budget("equal time (9 steps of sgd, timed 2026-11-29 on M1)")
        'equal time (9 steps of sgd)'
        >>> short_budget("5 epochs")
        '5 epochs'
    """
    words, timed, _ = budget.partition(", timed ")
    return f"{words})" if timed else budget


def changes(run: pd.Series, *, without: Collection[str] = (), short: bool = False) -> list[str]:
    """List what the record of a run says to be no default of its task.

    Args:
        run: Its row of the run-level frame.
        without: Keys, or whole sections, that are not named.
        short: Whether budgets are named by ``short_budget``.
    """
    changed: Mapping[str, Any] = run["origin"]["setting"]
    differences: dict[str, None] = {}
    for key in changed:
        if {key, key.partition(".")[0], key.rpartition(".")[2]} & set(without):
            continue
        change = _change(run, key)
        is_budget = key.partition(".")[0] == "budget"
        differences[short_budget(change) if short and is_budget else change] = None
    return list(differences)


def _change(run: pd.Series, key: str) -> str:
    """Name one change: in the words of a column, else of an override, what is shared once."""
    changed: Mapping[str, Any] = run["origin"]["setting"]
    section = key.partition(".")[0]
    if section == "budget":
        by_method = "by_optimizer" in run["protocol"].get("budget", {})
        return f"budget={changed.get('budget')}" if by_method else str(run["budget"])
    if section == "model":
        return model_text(run)
    if key == "task.train_limit" and changed[key] is not None:
        counted = "images" if run["unit"] == "images" else "samples"
        return f"{changed[key]:,} {counted}"
    if key in COLUMNS or section == "tokenization":
        return str(run[COLUMNS.get(key, section)])
    return f"{key.removeprefix('task.')}={value_text(changed[key])}"


def model_text(run: pd.Series) -> str:
    """Name the model of a run with what of it is no default: ``small_cnn width=8``.

    Args:
        run: Its row of the run-level frame.
    """
    changed: Mapping[str, Any] = (run["origin"] or {}).get("setting", {})
    own = (key for key in changed if key.startswith("model."))
    settings = [f"{key.removeprefix('model.')}={value_text(changed[key])}" for key in own]
    return " ".join([str(run["model"]), *settings])


def _unlike(run: pd.Series, usual: pd.Series, without: str) -> list[str]:
    """List what a setting has otherwise than the one of its task that has most runs."""
    return [
        _fact(key, run[key])
        for key in FACTS
        if key not in ("task", without) and str(run[key]) != str(usual[key])
    ]


def _fact(key: str, value: Any) -> str:
    if key in ("schedule", "batch_size", "precision"):
        return f"{key}={value_text(value)}"
    return str(value) if value else f"no {key}"


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def value_text(value: Any) -> str:
    """Write a value as short as it can be read back: ``0.01``, ``[0.9,0.999]``, ``cosine``."""
    if isinstance(value, float):
        return f"{value:g}"
    return (
        value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
    )


def is_default(title: str) -> bool:
    """Tell whether a title of ``setting_titles`` is that of a task's own setting."""
    return ", " not in title


def differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each mapping, the values that are not the same in all of them: ``lr=0.01``."""
    keys = sorted({key for values in settings for key in values})
    differing = [
        key for key in keys if len({json.dumps(values.get(key)) for values in settings}) > 1
    ]
    return [
        ", ".join(f"{key}={value_text(values[key])}" for key in differing if key in values)
        for values in settings
    ]
