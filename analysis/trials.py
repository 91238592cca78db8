"""The trials of tuning studies: their records beside the runs, else the ledger of a tuned file.

A study's runs are under ``.tuning/`` where the runs lie. What it found is also in the header of
``conf/tuned/<task>/<optimizer>.yaml``, a line a trial; that is read for the runs whose record tells
of that very study, so that trials which were made elsewhere can be shown too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis.aggregate import Floats
from analysis.cache import read_records
from analysis.groups import BLOCK
from analysis.load import Results, to_results
from analysis.statistics.trials import trial_results
from experiments.record import METRICS_FILE, STATUS_FILE, roots

TRIALS_DIR = Path(".tuning")
TUNED = Path(__file__).resolve().parents[1] / "conf" / "tuned"
"""What tuning has found: data, in a folder a task."""
UNFINISHED = ("running", "interrupted")
CHOSEN = "<- chosen"


@dataclass(frozen=True)
class Trials:
    """All trials of one method on one task, each of one budget.

    Attributes:
        title: Task, model and budget.
        optimizer: The method.
        family: Lends it its colour.
        metric: What is measured, as ``validation_accuracy_percent``.
        higher_is_better: Its direction.
        values: The best result of each trial, ``[trials]``; NaN where it has none.
    """

    title: str
    optimizer: str
    family: str
    metric: str
    higher_is_better: bool
    values: Floats


def trials_of(results: Results) -> list[Trials]:
    """Find the trials beside the runs, and the ledgers of tuned runs for what is not there."""
    found = {
        (trials.title, trials.optimizer): trials
        for source in (_ledgers(results), _recorded(results.runs_dir))
        for trials in source
    }
    return [found[key] for key in sorted(found)]


def trials_digest(runs_dir: Path | None) -> bytes:
    """Digest of all that ``trials_of`` reads besides the runs."""
    digest = hashlib.sha256()
    paths = sorted(TUNED.glob("*/*.yaml"))
    for root in [] if runs_dir is None else roots(runs_dir):
        for name in (STATUS_FILE, METRICS_FILE):
            paths += sorted((root / TRIALS_DIR).glob(f"*/{name}"))
    for path in paths:
        digest.update(f"{path.parent.name}/{path.name}".encode() + path.read_bytes())
    return digest.digest()


def _recorded(runs_dir: Path | None) -> Iterator[Trials]:
    # What is no record there (a study's own folder) is none of the report's concern.
    records = {
        record.run_id: record
        for root in ([] if runs_dir is None else roots(runs_dir))
        for record in read_records(root / TRIALS_DIR)[0]
    }
    loaded = to_results(list(records.values()))
    ended = loaded.runs[~loaded.runs["status"].isin(UNFINISHED)]
    for _, runs in ended.groupby([*BLOCK, "optimizer"], sort=True):
        first = runs.iloc[0]
        metric, higher = f"validation_{first['metric']}", bool(first["higher_is_better"])
        curves = loaded.series_by_run(metric, "step")
        values = trial_results(runs, curves, higher_is_better=higher)
        title = _title(first, first["budget"])
        yield Trials(title, first["optimizer"], first["family"], metric, higher, values)


def _ledgers(results: Results) -> Iterator[Trials]:
    tuned = results.runs[results.runs["ruleset"] == "tuned"]
    for _, runs in tuned.groupby([*BLOCK, "optimizer"], sort=True):
        first = runs.iloc[0]
        path = TUNED / first["task"] / f"{first['optimizer']}.yaml"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        tuning = (yaml.safe_load(text) or {}).get("tuning")
        # The file may have been made anew since the run.
        if not tuning or tuning != first["tuning"]:
            continue
        values = ledger_values(text.splitlines(), tuning)
        if values is not None:
            yield Trials(
                _title(first, tuning["budget"]),
                first["optimizer"],
                first["family"],
                tuning["spread"]["metric"],
                bool(first["higher_is_better"]),
                values,
            )


def ledger_values(lines: Sequence[str], tuning: Mapping[str, Any]) -> Floats | None:
    """Read the result of each trial off the header of a tuned file.

    Args:
        lines: Of the file.
        tuning: Its mapping of that name.

    Returns:
        ``[trials]``, NaN for a trial without a result; None where there are not as many lines as
        trials.
    """
    heads = [at for at, line in enumerate(lines) if tuning["spread"]["metric"] in line.split()]
    if not heads:
        return None
    values = []
    for line in lines[heads[0] + 1 :]:
        if not line.startswith("#"):
            break
        *_, metric, loss = ["", *line.removesuffix(CHOSEN).split()]
        values.append(_number(metric) if np.isfinite(_number(loss)) else np.nan)
    return np.array(values) if len(values) == tuning["trials"] else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # how the trial ended, in words
        return float("nan")


def _title(run: pd.Series, budget: str) -> str:
    names = [run["task"], run["tokenization"], run["model"]]
    setting = run["setting"] if run["setting"] not in ("scratch", "") else ""
    return f"{', '.join(name for name in [*names, setting] if name)}: trials of {budget}"
