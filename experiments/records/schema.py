"""The run record: what a run leaves in its folder, and how it is read back.

A record is a folder ``runs/<run_id>/`` with the files named below. Rows and statuses are plain
dicts, so that whatever a task measures passes through unchanged; a number that is not finite stands
in the file as a word (``strict_json``). Standard library only: the writer (``store``) and the
reader (``analysis``) both import this, and neither should pay for the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from experiments.records import strict_json

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
STUDIES_DIR = ".studies"  # beside the runs: measurements that are no comparison of methods

STATUSES = ("done", "diverged", "out_of_memory", "failed", "interrupted", "running")
FINAL_STATUSES = ("done", "diverged")
FAULTS = ("failed", "out_of_memory")
UNFINISHED = ("interrupted", "running")


def is_to_run(status: str, *, retry: bool) -> bool:
    """Whether a run of this status is to be run (again): one that failed on request only."""
    return status not in FINAL_STATUSES and (retry or status not in FAULTS)


# What every identity must hold; further keys are allowed.
TEXTS = ("task", "model", "optimizer", "ruleset", "budget", "group_id", "metric")
NUMBERS = ("seed", "higher_is_better")


class Identified(Protocol):
    """Whatever a record is read into."""

    @property
    def run_id(self) -> str:
        """Id of the run."""


Loaded = TypeVar("Loaded", bound=Identified)


class BrokenRecordError(ValueError):
    """A record that cannot be read; the message is one line that names file and fault."""


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
            if run.run_id in seen:  # a copied folder must not count as one more seed
                broken.append(f"{name}: the same run as {seen[run.run_id]} ({run.run_id})")
                continue
            seen[run.run_id] = name
            runs.append(run)
    return runs, broken


def roots(runs_dir: Path) -> list[Path]:
    """The folders under which runs lie: ``runs_dir``, and its subfolders that hold runs."""
    return [runs_dir, *filter(_holds_runs, _subfolders(runs_dir))]


def _subfolders(folder: Path) -> list[Path]:
    entries = folder.iterdir() if folder.exists() else ()
    return sorted(path for path in entries if not path.name.startswith(".") and path.is_dir())


def _holds_runs(folder: Path) -> bool:
    """Whether it is no record but has some; a record of its own hides what lies under it."""
    if (folder / STATUS_FILE).exists():
        return False
    return any((path / STATUS_FILE).exists() for path in _subfolders(folder))


def read_rows(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Read ``metrics.jsonl``; a missing file has no rows.

    Returns:
        The rows, and whether a half-written last line was dropped.

    Raises:
        BrokenRecordError: If any other line is not a JSON object.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise BrokenRecordError(f"{name}: not readable ({_one_line(error)})") from None
    try:  # all at once is a third faster, and nearly every file is whole
        together = strict_json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        together = []
    if len(together) == len(lines) and set(map(type, together)) <= {dict}:
        return together, False
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = strict_json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number == len(lines):
            return rows, True
        else:
            raise BrokenRecordError(f"{name}: line {number} is not a JSON object")
    return rows, False


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
        ``best_test``: the best ``test_<metric>``. ``None`` where no row has a finite value.
    """
    on_test, on_validation = f"test_{metric}", f"validation_{metric}"
    if any(on_validation in row for row in rows):
        chosen = _best_row(rows, on_validation, higher_is_better)
    else:
        chosen = rows[-1] if rows else None
    best = _best_row(rows, on_test, higher_is_better)
    return {
        "final": None if chosen is None else _finite(chosen.get(on_test)),
        "best_test": None if best is None else _finite(best.get(on_test)),
        "final_epoch": None if chosen is None else _finite(chosen.get("epoch")),
    }


def _read_status(path: Path) -> dict[str, Any]:
    name = f"{path.parent.name}/{path.name}"
    try:
        status = strict_json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrokenRecordError(f"{name}: missing") from None
    except (OSError, ValueError) as error:
        raise BrokenRecordError(f"{name}: not readable as JSON ({_one_line(error)})") from None
    found = status.get("schema") if isinstance(status, dict) else type(status).__name__
    if not isinstance(status, dict) or found not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise BrokenRecordError(f"{name}: schema is {found!r}, this version reads {known}")
    if status.get("status") not in STATUSES:
        allowed = ", ".join(STATUSES)
        raise BrokenRecordError(f"{name}: status is {status.get('status')!r}, allowed: {allowed}")
    identity = status["identity"] if isinstance(status.get("identity"), dict) else {}
    _require(name, status, ("run_id",), str)
    _require(name, identity, TEXTS, str)
    _require(name, identity, NUMBERS, int)
    _require(name, {"hyperparameters": {}, **identity}, ("hyperparameters",), dict)
    if found > 1:
        _require(name, identity, ("protocol",), dict)
    return status


def _require(name: str, mapping: Mapping[str, Any], keys: Iterable[str], kind: type) -> None:
    if missing := [key for key in keys if not isinstance(mapping.get(key), kind)]:
        raise BrokenRecordError(f"{name}: lacks {', '.join(missing)}")


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
