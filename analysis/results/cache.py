"""Records as columns, and a cache of them beside the records: text is slow to read again.

The cache is one file, ``<runs_dir>/.analysis/records.npz``. Whatever changes in a record changes
the times or sizes of its files, so that this record alone is read anew. Where it cannot be written
there is none.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.records import strict_json
from experiments.records.kinds import TEXT, fault, list_of, mapping, whole
from experiments.records.schema import (
    METRICS_FILE,
    STATUS_FILE,
    Run,
    check_whole,
    final_and_best,
    load_each,
    load_run,
)
from experiments.records.tables import NUMBER_OR_NULL, STATUS

Floats = npt.NDArray[np.float64]
Stamp = list[int]

CACHE = Path(".analysis") / "records.npz"
VERSION = 2  # of the cache; another one is not read
# What it says is checked as the records are: a folder of records may come with one.
HEADS = mapping(
    {
        "version": whole(VERSION, VERSION).needed,
        "records": list_of(
            mapping(
                {
                    "head": mapping(
                        {
                            **STATUS.keys,
                            "folder": TEXT.needed,
                            "problem": TEXT.or_null.needed,
                            **{
                                key: NUMBER_OR_NULL.needed
                                for key in ("final", "best_test", "final_epoch")
                            },
                        }
                    ).needed,
                    "stamp": list_of(whole(0)).needed,
                    "columns": list_of(TEXT).needed,
                    "rows": whole(0).needed,
                }
            )
        ).needed,
    }
)
WORTHWHILE = 200  # runs; fewer are read in a moment


@dataclass(frozen=True)
class CachedRecord:
    """A run with its rows as columns.

    Attributes:
        head: Everything of the run but its rows: ``run_id``, ``folder``, ``status``, ``reason``,
            ``identity``, ``progress``, ``summary``, ``problem`` and ``record.final_and_best``.
        columns: What was measured, ``[rows]`` each; NaN where a row has no number, and infinite
            where it has one that is not finite.
    """

    head: dict[str, Any]
    columns: dict[str, Floats]

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return str(self.head["run_id"])


def read_records(runs_dir: Path) -> tuple[list[CachedRecord], list[str]]:
    """Read every record under ``runs_dir``, from the cache where it is up to date.

    Returns:
        The readable records, and one line for each that was left out.
    """
    known = _read_cache(runs_dir / CACHE)

    def name_of(folder: Path) -> str:
        return folder.relative_to(runs_dir).as_posix()

    stamps: dict[str, Stamp] = {}
    fresh = 0

    def load(folder: Path) -> CachedRecord:
        nonlocal fresh
        stamp = _stamp(folder)
        cached = known.get(name_of(folder))
        if cached is not None and cached[0] == stamp:
            record = cached[1]
        else:
            run = load_run(folder)
            if "last_row_step" in run.progress:  # records of before cannot be held against it
                check_whole(run)
            record = to_record(run, name_of(folder))
            fresh += 1
        stamps[name_of(folder)] = stamp
        return record

    records, broken = load_each(runs_dir, load)
    if len(records) >= WORTHWHILE and (fresh or len(records) != len(known)):
        with contextlib.suppress(OSError):  # a disk that is full or read-only
            _write_cache(runs_dir / CACHE, records, stamps)
    return records, broken


def to_record(run: Run, folder: str) -> CachedRecord:
    """Turn the rows of a run into columns.

    Args:
        run: As it was read.
        folder: Where it lies, from the folder of the runs.
    """
    metric, higher = run.identity["metric"], run.identity["higher_is_better"]
    head = {
        "run_id": run.run_id,
        "folder": folder,
        "status": run.status,
        "reason": run.reason,
        "identity": run.identity,
        "progress": run.progress,
        "summary": run.summary,
        "problem": run.problem,
        **final_and_best(run.rows, metric, higher),
    }
    return CachedRecord(head, _columns(run.rows))


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    if not rows:
        return {}
    keys = list(rows[0])
    if all(list(row) == keys for row in rows):  # as nearly always, and much faster
        return dict(
            zip(keys, map(_column, zip(*(row.values() for row in rows), strict=True)), strict=True)
        )
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def _column(values: Sequence[float | None]) -> Floats:
    column = np.array(values, dtype=np.float64)
    lost = np.flatnonzero(np.isnan(column)).tolist()
    column[[at for at in lost if values[at] is not None]] = np.inf
    return column


def _stamp(folder: Path) -> Stamp:
    stamp: Stamp = []
    for name in (STATUS_FILE, METRICS_FILE):
        try:
            found = os.stat(folder / name)
            stamp += [found.st_mtime_ns, found.st_size]
        except OSError:
            stamp += [0, 0]
    return stamp


def _read_cache(path: Path) -> dict[str, tuple[Stamp, CachedRecord]]:
    """Read the cached records by folder; nothing where the cache is absent, foreign or damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            heads, values = strict_json.loads(file["heads"].tobytes()), file["values"]
        if fault(heads, HEADS) or values.dtype != np.float64 or values.ndim != 1:
            return {}
        found: dict[str, tuple[Stamp, CachedRecord]] = {}
        at = 0
        for entry in heads["records"]:
            keys, rows = entry["columns"], entry["rows"]
            block = values[at : at + len(keys) * rows].reshape(len(keys), rows)
            at += block.size
            columns: Mapping[str, Floats] = dict(zip(keys, block, strict=True))
            found[entry["head"]["folder"]] = (
                entry["stamp"],
                CachedRecord(entry["head"], dict(columns)),
            )
        return found if at == values.size else {}
    except (OSError, EOFError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error):
        return {}


def _write_cache(path: Path, records: Sequence[CachedRecord], stamps: Mapping[str, Stamp]) -> None:
    entries = [
        {
            "head": record.head,
            "stamp": stamps[record.head["folder"]],
            "columns": list(record.columns),
            "rows": len(next(iter(record.columns.values()), ())),
        }
        for record in records
    ]
    heads = strict_json.dumps({"version": VERSION, "records": entries}).encode()
    columns = [column for record in records for column in record.columns.values()]
    values = np.concatenate(columns) if columns else np.empty(0)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, heads=np.frombuffer(heads, dtype=np.uint8), values=values)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
