"""Run records to one row a run, and a curve a run and metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from analysis.results.cache import CachedRecord, Floats, read_records
from analysis.results.environments import Environment, environments
from analysis.results.groups import group_runs
from analysis.results.settings import setting_key
from experiments.records import archive
from experiments.records.collapse import is_collapsed
from experiments.system.output import plain_values

IDENTITY = (
    "task",
    "tokenization",
    "model",
    "setting",
    "optimizer",
    "family",
    "ruleset",
    "budget",
    "seed",
    "group_id",
    "metric",
    "higher_is_better",
    "units",
    "unit",
    "validation",
    "evaluate_test",
    "schedule",
    "batch_size",
    "precision",
    "published_as",
    "tuning",
    "control",
    "control_of",
    "protocol",
    "origin",
)
COSTS = {  # column: where the record has it
    "steps": ("progress", "step"),
    "train_seconds": ("progress", "train_seconds"),
    "evaluation_seconds": ("progress", "evaluation_seconds"),  # of the test set; not in the other
    "setup_seconds": ("progress", "setup_seconds"),  # before the clock of training starts
    "parameters": ("summary", "parameters"),
    "state_bytes": ("summary", "state_bytes"),
    "peak_memory_bytes": ("summary", "peak_memory_bytes"),
    "left_alone_percent": ("summary", "left_alone_percent"),
    "form": ("summary", "form"),
    "constant_prediction": ("summary", "constant_prediction"),  # its metric on test
}
MACHINE = {  # fact of a timing: where the environment of a run has it
    "device": "device",
    "processor": "cpu_model",
    "cpu_count": "cpu_count",
    "threads": "threads",
}
RESULTS = ("final", "best_test")
RUN_COLUMNS = (
    "run_id",
    "folder",
    "status",
    "reason",
    *IDENTITY,
    "block",
    "timed_on",
    "hyperparameters",
    *RESULTS,
    "final_epoch",
    "collapsed",
    *COSTS,
)
MEASUREMENT_COLUMNS = ("run_id", "step", "epoch", "train_seconds", "metric", "value")
AXES = MEASUREMENT_COLUMNS[1:4]


@dataclass(frozen=True)
class Absent:
    """What stands where the runs have nothing to show.

    Attributes:
        why: A sentence.
        command: What to type, in one line that a shell takes.
        does: What that does, as ``runs two``; empty where the sentence is said alone.
    """

    why: str
    command: str
    does: str = "makes some"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Stay: pandas copies ``attrs`` with each row that is read."""
        return self

    def __str__(self) -> str:
        """Say it whole."""
        return f"{self.why} `{self.command}` {self.does}." if self.does else self.why


NOT_YET = Absent("No runs to show yet.", "make sweep OPT=adafisher")
NO_RUNS = str(NOT_YET)


@dataclass(frozen=True)
class Results:
    """What every table and figure is built from.

    Attributes:
        runs: One row a run (``RUN_COLUMNS``), in order of task, model, optimizer and seed.
            ``tuning`` is the effort behind the hyperparameters, or None; ``timed_on`` the machine
            of the calibration that its steps come from, that of the run itself where its budget is
            in seconds, or empty. A run with a loss or a
            value of its metric that is not finite has ``diverged``, also where its record says
            that it is done. ``collapsed`` is one that is done and no better than a constant
            prediction (``experiments.records.collapse``); it counts in every mean.
        curves: For each run id its measurements, a column ``[rows]`` each; NaN where there is none,
            infinite where it is not finite.
        broken: One line for each record that could not be read in full, and one for all that are
            older than the protocol.
        runs_dir: Folder that the records are in, for what lies beside them.
    """

    runs: pd.DataFrame
    curves: Mapping[str, Mapping[str, Floats]]
    broken: tuple[str, ...] = ()
    runs_dir: Path | None = None
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """The groups of the runs, see ``group_runs``: most tables and figures begin with them."""
        return group_runs(self.runs)

    def known_of(self, block: pd.DataFrame) -> tuple[str, ...]:
        """Name the ``RESULTS`` that any run of some groups can have (``evaluate_test``)."""
        of_block = self.runs["group_id"].isin(block["group_id"])
        is_known = set(self.runs.loc[of_block, "evaluate_test"]) != {"best"}
        return RESULTS if is_known else RESULTS[:1]

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """One row a run, step and metric (``MEASUREMENT_COLUMNS``): tidy, and large."""
        parts = [
            pd.DataFrame({**axes, "metric": metric, "value": values})[~np.isnan(values)]
            for run_id, columns in self.curves.items()
            for axes in [{"run_id": run_id, **{axis: columns.get(axis, np.nan) for axis in AXES}}]
            for metric, values in columns.items()
            if metric not in AXES
        ]
        if not parts:
            return pd.DataFrame(columns=list(MEASUREMENT_COLUMNS))
        return pd.concat(parts, ignore_index=True)[list(MEASUREMENT_COLUMNS)]

    def series(self, run_ids: Sequence[str], metric: str, axis: str) -> list[tuple[Floats, Floats]]:
        """Pick each run's curve of ``metric`` against ``axis``; runs without one are left out.

        Returns:
            For each run ``x`` and ``y``, both ``[points]``, ascending in ``x``; ``y`` is NaN where
            what was measured is not finite.
        """
        drawn = (_series(self.curves.get(run_id, {}), metric, axis) for run_id in run_ids)
        return [pair for pair in drawn if pair is not None]

    def series_by_run(self, metric: str, axis: str) -> dict[str, tuple[Floats, Floats]]:
        """Pick the curves of all runs that have one, by run id; see ``series``."""
        drawn = {run_id: _series(of, metric, axis) for run_id, of in self.curves.items()}
        return {run_id: pair for run_id, pair in drawn.items() if pair is not None}

    @cached_property
    def digest(self) -> bytes:
        """Digest of everything that a figure may show; the same in every process."""
        digest = hashlib.sha256()
        for run_id, columns in self.curves.items():
            for name, values in columns.items():
                digest.update(f"{run_id}/{name}:{len(values)}:".encode())
                digest.update(values.tobytes())
        digest.update(self.runs.to_json(orient="records", double_precision=15).encode())
        return digest.digest()


Made = TypeVar("Made")


def once(make: Callable[[Results], Made]) -> Callable[[Results], Made]:
    """Keep what is made of results with them, as several tables ask for it; nobody changes it."""
    name = f"{make.__module__}.{make.__qualname__}"

    @wraps(make)
    def kept(results: Results) -> Made:
        if name not in results._made:
            results._made[name] = make(results)
        made: Made = results._made[name]
        return made

    return kept


def _series(columns: Mapping[str, Floats], metric: str, axis: str) -> tuple[Floats, Floats] | None:
    if metric not in columns or axis not in columns:
        return None
    x, y = columns[axis], columns[metric]
    kept = np.isfinite(x) & ~np.isnan(y)
    order = np.argsort(x[kept], kind="stable")
    y = np.where(np.isfinite(y), y, np.nan)
    return (x[kept][order], y[kept][order]) if order.size else None


def load_results(runs_dir: Path) -> Results:
    """Read every record under ``runs_dir``; a folder that does not exist holds no runs.

    Of a folder of archives the results are those of the records in them, and ``runs_dir`` is where
    these are laid out.
    """
    folder, left_out = archive.opened(runs_dir)
    records, broken = read_records(folder)
    return to_results(records, [*left_out, *broken], folder)


def to_results(
    records: Sequence[CachedRecord], broken: Sequence[str] = (), runs_dir: Path | None = None
) -> Results:
    """Turn records into frames and curves; the order of ``records`` does not matter."""
    # Names in tables, labels in figures and lines on a terminal; the folder stays as it is on disk.
    records = [
        CachedRecord(plain_values(r.head) | {"folder": r.head["folder"]}, r.columns)
        for r in records
    ]
    records = sorted(records, key=_sort_key)
    notes = [*broken, *(record.head["problem"] for record in records if record.head["problem"])]
    clocked = [str(record.head["folder"]) for record in records if _is_clocked(record.head)]
    ran_on = environments(runs_dir, clocked) if runs_dir else {}
    rows = [_run_row(r.head, ran_on.get(str(r.head["folder"]), {})) for r in records]
    frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    for at, record in enumerate(records):
        if record.head["status"] == "done" and (lost := _not_finite(record)):
            frame.loc[at, ["status", "reason"]] = "diverged", lost
            notes.append(f"{record.head['folder']}: done, but {lost}: counts as diverged")
    empty_handed = frame[(frame["status"] == "done") & frame["final"].isna()]
    notes += [
        f"{row.folder}: done, but without a finite test_{row.metric}"
        for row in empty_handed.itertuples()
    ]
    notes += _without_protocol(frame)
    curves = {record.run_id: whole_curves(record) for record in records}
    return Results(frame, curves, tuple(notes), runs_dir)


def whole_curves(record: CachedRecord) -> Mapping[str, Floats]:
    """Give the curves of a run without what was measured on test now and then.

    Means of it would be of the best alone. So would those of the runs that happened to be best each
    time.
    """
    at_best = _tests_at_best(record.head["identity"])
    return {
        name: values
        for name, values in record.columns.items()
        if not (name.startswith("test_") and (at_best or np.isnan(values).any()))
    }


def _tests_at_best(identity: Mapping[str, Any]) -> bool:
    """Tell whether test was looked at where validation was best; without a split it always was."""
    return identity.get("evaluate_test") == "best" and bool(identity.get("validation"))


def _without_protocol(runs: pd.DataFrame) -> list[str]:
    """One line on all records from before there was a protocol, with what is to be done."""
    count = sum(not protocol for protocol in runs["protocol"])
    if not count:
        return []
    # Without their folder: where the records lie changes no page.
    return [
        f"{count} of {len(runs)} records are older than the protocol of a run, and join no "
        "published row: `python -m experiments migrate runs_dir=FOLDER` adds it to those that "
        "have their config.yaml"
    ]


def _not_finite(record: CachedRecord) -> str:
    """Name the first loss, or value of the run's own metric, that is not finite; empty for none."""
    metrics = ["train_loss"]
    for split in ("validation", "test"):
        metrics += [f"{split}_loss", f"{split}_{record.head['identity']['metric']}"]
    found = [
        (int(np.flatnonzero(lost)[0]), metric)
        for metric in metrics
        if (lost := np.isinf(record.columns.get(metric, np.empty(0)))).any()
    ]
    if not found:
        return ""
    row, metric = min(found)
    step = record.columns["step"][row] if "step" in record.columns else row + 1
    return f"{metric} is not finite at step {step:g}"


def _sort_key(record: CachedRecord) -> tuple[str, ...]:
    keys = ("task", "model", "budget", "optimizer", "ruleset", "group_id")
    identity = record.head["identity"]
    # Seeds sort as numbers, and the id makes the order total.
    return (
        *(str(identity.get(key)) for key in keys),
        f"{identity['seed']!s:>20}",
        record.run_id,
    )


def _is_clocked(head: Mapping[str, Any]) -> bool:
    """Tell whether the clock of its own machine ended a run, and no calibration gave its steps."""
    summary = head["summary"]
    return "budget_train_seconds" in summary and not summary.get("calibration")


def _run_row(head: Mapping[str, Any], ran_on: Environment) -> dict[str, object]:
    identity = head["identity"]
    row: dict[str, object] = {key: identity.get(key) for key in IDENTITY}
    row |= {key: head[key] for key in ("run_id", "folder", "status", *RESULTS, "final_epoch")}
    row["reason"] = head["reason"] or ""
    # A run of images has no tokenization, few are controls; a text column has no room for None.
    for key in ("setting", "tokenization", "control", "control_of"):
        row[key] = identity.get(key) or ""
    for key in ("published_as", "protocol", "origin"):
        row[key] = identity.get(key) or {}
    if _tests_at_best(identity):  # also where that happened to be each time
        row["best_test"] = None
    elif identity.get("evaluate_test") == "best":
        row["evaluate_test"] = "true"
    machine = {fact: ran_on[key] for fact, key in MACHINE.items() if key in ran_on}
    row["timed_on"] = (head["summary"].get("calibration") or {}).get("machine") or machine
    row["units"] = identity.get("units") or {}
    row["block"] = setting_key(row)
    row |= {column: head[part].get(key) for column, (part, key) in COSTS.items()}
    row["collapsed"] = head["status"] == "done" and is_collapsed(
        row["final"],  # type: ignore[arg-type]
        row["constant_prediction"],  # type: ignore[arg-type]
        higher_is_better=identity["higher_is_better"],
        unit=row["units"].get(identity["metric"], ""),  # type: ignore[attr-defined]
    )
    row["family"] = identity.get("family") or identity["optimizer"]
    row["hyperparameters"] = identity.get("hyperparameters") or {}
    return row
