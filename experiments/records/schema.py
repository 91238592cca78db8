"""The run record: what a run leaves in its folder, and how it is read back.

A record is a folder ``runs/<run_id>/`` with the files named below. Rows and statuses are plain
dicts, so that whatever a task measures passes through unchanged; a number that is not finite stands
in the file as a word (``strict_json``). What is read is checked as a whole (``tables``), so that
nobody who uses it later need ask again. Standard library only: the writer (``store``) and the
reader (``analysis``) both import this, and neither should pay for the other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from experiments.records.reading import (
    BrokenRecordError,
    NewerRecordError,
    check,
    name_of,
    read_json,
)
from experiments.records.rows import read_rows
from experiments.records.tables import ENVIRONMENT, PROTOCOLLED, STATUS, STATUSES

__all__ = ["STATUSES", "BrokenRecordError", "NewerRecordError", "read_rows"]

SCHEMA = 2
"""Of what is written: 2 is the first whose identity holds ``protocol`` and ``origin``."""
READABLE = (1, 2)

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FILE = "checkpoint.pt"
PATCH_FILE = "uncommitted.patch"  # what the code of the run has over its commit
STATUS_FILE = "status.json"
ARRAYS_DIR = "arrays"  # of a run: <name>.npz, what is too large for a row
STUDY_FILE, STUDY_ARRAYS = "study.json", "arrays.npz"
DAMPING_SHARE = "curvature_damping_share/"  # begins the column of a layer, whose name follows
STUDIES_DIR = ".studies"  # beside the runs: measurements that are no comparison of methods

FINAL_STATUSES = ("done", "diverged")
FAULTS = ("failed", "out_of_memory")
UNFINISHED = ("interrupted", "running")
NEWER = "newer"
"""In place of a status: the record is a newer version's, to be read by that and left alone here."""


def is_to_run(status: str, *, retry: bool) -> bool:
    """Tell whether a run of this status is to be run (again): one that failed on request only."""
    return status not in (*FINAL_STATUSES, NEWER) and (retry or status not in FAULTS)


class Identified(Protocol):
    """Whatever a record is read into."""

    @property
    def run_id(self) -> str:
        """Id of the run."""


Loaded = TypeVar("Loaded", bound=Identified)


@dataclass(frozen=True)
class Run:
    """One run as its record tells it."""

    run_id: str  # hash of the resolved config
    path: Path
    status: str  # one of STATUSES
    reason: str | None  # one line, where the run did not end well
    identity: dict[str, Any]  # task, model, optimizer, ruleset, budget, seed, group_id, ...
    progress: dict[str, Any] = field(default_factory=dict)  # step, epoch, train_seconds, ...
    summary: dict[str, Any] = field(default_factory=dict)  # peak_memory_bytes, parameters, ...
    rows: list[dict[str, Any]] = field(default_factory=list)  # one an evaluation, by step
    problem: str | None = None  # one line on a fault that was worked around
    schema: int = SCHEMA  # of READABLE


def load_run(path: Path) -> Run:
    """Read one run from its folder (only its status and rows); raises ``BrokenRecordError``."""
    status = _read_status(path / STATUS_FILE)
    rows, dropped = read_rows(path / METRICS_FILE)
    return Run(
        run_id=status["run_id"],
        path=path,
        status=status["status"],
        reason=status.get("reason"),
        identity=status["identity"],
        progress=status.get("progress") or {},
        summary=status.get("summary") or {},
        rows=rows,
        problem=f"{path.name}/{METRICS_FILE}: half-written last row dropped" if dropped else None,
        schema=status["schema"],
    )


def check_whole(run: Run) -> None:
    """Raise ``BrokenRecordError`` for a run that is over and lacks rows that it had."""
    last = run.rows[-1].get("step") if run.rows else None
    if run.status in FINAL_STATUSES and (run.problem or last != run.progress.get("last_row_step")):
        raise BrokenRecordError(
            f"{run.path.name}/{METRICS_FILE}: rows of a finished run are missing"
        )


def load_runs(runs_dir: Path) -> tuple[list[Run], list[str]]:
    """Read every run under ``runs_dir``; see ``load_each``."""
    return load_each(runs_dir, load_run)


def load_each(runs_dir: Path, load: Callable[[Path], Loaded]) -> tuple[list[Loaded], list[str]]:
    """Read every run under ``runs_dir`` by ``load``, in order of folder name.

    Hidden entries and plain files are ignored; a folder that does not exist holds no runs. Runs of
    several places may lie in a folder each: a subfolder that holds runs is read like ``runs_dir``.

    Args:
        runs_dir: Folder of the run records.
        load: Reads one record from its folder; raises ``BrokenRecordError``.

    Returns:
        The readable runs, and one line for each record that was left out.
    """
    runs: list[Loaded] = []
    broken: list[str] = []
    seen: dict[str, str] = {}
    places = roots(runs_dir)
    for root in places:
        for path in _subfolders(root):
            if path in places:
                continue
            try:
                run = load(path)
            except BrokenRecordError as error:
                broken.append(str(error))
                continue
            name = path.relative_to(runs_dir).as_posix()
            if not _is_text(name):
                broken.append(f"{name_of(path)}: the folder's name is no UTF-8")
                continue
            if run.run_id in seen:  # a copied folder must not count as one more seed
                broken.append(f"{name}: the same run as {seen[run.run_id]} ({run.run_id})")
                continue
            seen[run.run_id] = name
            runs.append(run)
    return runs, broken


def roots(runs_dir: Path) -> list[Path]:
    """Find the folders under which runs lie: ``runs_dir``, and its subfolders that hold runs."""
    return [runs_dir, *filter(_holds_runs, _subfolders(runs_dir))]


def load_environment(path: Path) -> dict[str, Any]:
    """Read where a run ran, from its folder.

    Raises:
        BrokenRecordError: If it is missing or cannot be read.
    """
    return read_json(path / ENVIRONMENT_FILE, ENVIRONMENT)


def _subfolders(folder: Path) -> list[Path]:
    entries = folder.iterdir() if folder.exists() else ()
    # `os.path`: a folder that may not be looked into is named as a record, and ends nothing.
    return sorted(p for p in entries if not p.name.startswith(".") and os.path.isdir(p))


def _is_text(name: str) -> bool:
    """Tell whether a name is text; of bytes that are none Python makes half characters."""
    return name.isascii() or name == os.fsencode(name).decode(errors="replace")


def _holds_runs(folder: Path) -> bool:
    """Tell whether it is no record but has some; a record of its own hides what lies under it."""
    if os.path.exists(folder / STATUS_FILE) or not os.access(folder, os.R_OK):
        return False
    return any(os.path.exists(path / STATUS_FILE) for path in _subfolders(folder))


def final_and_best(
    rows: Sequence[Mapping[str, Any]], metric: str, higher_is_better: bool
) -> dict[str, float | None]:
    """Reduce a run's rows to its two result columns.

    Args:
        rows: Rows in order of ``step``.
        metric: Name without the split, as ``accuracy_percent``.
        higher_is_better: Whether larger values of ``metric`` are better.

    Returns:
        ``final``: ``test_<metric>`` of the row best on ``validation_<metric>`` (the earliest on
        ties; the last row where there is no validation split). ``final_epoch``: that row's epoch.
        ``best_test``: the best ``test_<metric>``, if each row has one. ``None`` where no row has a
        finite value.
    """
    on_test, on_validation = f"test_{metric}", f"validation_{metric}"
    if any(on_validation in row for row in rows):
        chosen = _best_row(rows, on_validation, higher_is_better)
    else:
        chosen = rows[-1] if rows else None
    # Of a run that looked at test now and then, the best may be where it did not.
    is_whole = all(on_test in row for row in rows)
    best = _best_row(rows, on_test, higher_is_better) if is_whole else None
    return {
        "final": None if chosen is None else _finite(chosen.get(on_test)),
        "best_test": None if best is None else _finite(best.get(on_test)),
        "final_epoch": None if chosen is None else _finite(chosen.get("epoch")),
    }


def _read_status(path: Path) -> dict[str, Any]:
    status = read_json(path, STATUS, schemas=READABLE)
    if status["schema"] > 1:
        check(path, status, PROTOCOLLED)
    return status


def _best_row(
    rows: Sequence[Mapping[str, Any]], key: str, higher_is_better: bool
) -> Mapping[str, Any] | None:
    measured = [row for row in rows if _finite(row.get(key)) is not None]
    if not measured:
        return None
    return (max if higher_is_better else min)(measured, key=lambda row: row[key])


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
