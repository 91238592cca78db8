"""Run records to data frames: one row a run, and one row a (run, step, metric)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from experiments.record import Run, final_and_best, load_runs

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
    "unit",
    "validation",
    "schedule",
    "batch_size",
    "precision",
    "published_as",
    "tuning",
    "control",
)
COSTS = {  # column: where the record has it
    "steps": ("progress", "step"),
    "train_seconds": ("progress", "train_seconds"),
    "parameters": ("summary", "parameters"),
    "state_bytes": ("summary", "state_bytes"),
    "peak_memory_bytes": ("summary", "peak_memory_bytes"),
}
SETTINGS = {"schedule": "schedule", "batch_size": "task.batch_size"}  # and their overrides
RESULTS = ("final", "best_test")
RUN_COLUMNS = (
    "run_id",
    "folder",
    "status",
    "reason",
    *IDENTITY,
    "hyperparameters",
    "settings",
    *RESULTS,
    "final_epoch",
    *COSTS,
)
MEASUREMENT_COLUMNS = ("run_id", "step", "epoch", "train_seconds", "metric", "value")
NO_RUNS = "No runs to show yet. `make sweep OPT=adafisher` makes some."
AXES = MEASUREMENT_COLUMNS[:4]


@dataclass(frozen=True)
class Results:
    """What every table and figure is built from.

    Attributes:
        runs: One row a run (``RUN_COLUMNS``), in order of task, model, optimizer and seed.
            ``tuning`` is the effort behind the hyperparameters, or None; ``control`` likewise.
        measurements: One row a run, step and metric (``MEASUREMENT_COLUMNS``).
        broken: One line for each record that could not be read in full.
    """

    runs: pd.DataFrame
    measurements: pd.DataFrame
    broken: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """Digest of everything that a figure may show; the same in every process."""
        digest = hashlib.sha256()
        for column in self.measurements:  # hashes in a fixed way, and each text only once
            hashes = pd.util.hash_pandas_object(self.measurements[column], index=False)
            digest.update(f"{column}:{len(hashes)}:".encode())
            digest.update(hashes.to_numpy().tobytes())
        digest.update(self.runs.to_json(orient="records", double_precision=15).encode())
        return digest.digest()


def load_results(runs_dir: Path) -> Results:
    """Read every record under ``runs_dir``; a folder that does not exist holds no runs."""
    runs, broken = load_runs(runs_dir)
    return to_frames(runs, broken)


def to_frames(runs: Sequence[Run], broken: Sequence[str] = ()) -> Results:
    """Turn runs into frames; the order of ``runs`` does not matter."""
    runs = sorted(runs, key=_sort_key)
    notes = [*broken, *(run.problem for run in runs if run.problem)]
    frame = pd.DataFrame([_run_row(run) for run in runs], columns=list(RUN_COLUMNS))
    empty_handed = frame[(frame["status"] == "done") & frame["final"].isna()]
    notes += [
        f"{row.folder}: done, but without a finite test_{row.metric}"
        for row in empty_handed.itertuples()
    ]
    return Results(frame, _measurements(runs), tuple(notes))


def _sort_key(run: Run) -> tuple[str, ...]:
    keys = ("task", "model", "budget", "optimizer", "ruleset", "group_id")
    # Seeds sort as numbers, and the id makes the order total.
    return (
        *(str(run.identity.get(key)) for key in keys),
        f"{run.identity['seed']!s:>20}",
        run.run_id,
    )


def _run_row(run: Run) -> dict[str, object]:
    identity = run.identity
    row: dict[str, object] = {key: identity.get(key) for key in IDENTITY}
    row |= {"run_id": run.run_id, "folder": run.path.name}
    row |= {"status": run.status, "reason": run.reason or ""}
    row["settings"] = {key: identity[key] for key in SETTINGS if identity.get(key) is not None}
    for key in ("setting", "tokenization"):  # a run of images has no tokenization
        row[key] = identity.get(key) or ""
    row["published_as"] = identity.get("published_as") or {}
    row |= {column: getattr(run, part).get(key) for column, (part, key) in COSTS.items()}
    row["family"] = identity.get("family") or identity["optimizer"]
    row["hyperparameters"] = identity.get("hyperparameters") or {}
    return row | final_and_best(run.rows, identity["metric"], identity["higher_is_better"])


def _measurements(runs: Sequence[Run]) -> pd.DataFrame:
    rows = [{**row, "run_id": run.run_id} for run in runs for row in run.rows]
    if not rows:
        return pd.DataFrame(columns=list(MEASUREMENT_COLUMNS))
    wide = pd.DataFrame.from_records(rows)
    for axis in AXES:
        if axis not in wide:
            wide[axis] = float("nan")
        if axis != "run_id":
            wide[axis] = pd.to_numeric(wide[axis], errors="coerce")
    tall = wide.melt(id_vars=list(AXES), var_name="metric", value_name="value")
    tall["value"] = pd.to_numeric(tall["value"], errors="coerce")
    return tall.dropna(subset=["value"])[list(MEASUREMENT_COLUMNS)].reset_index(drop=True)
