"""A copy of run records to keep: `python -m experiments golden runs_dir=runs out=FOLDER`.

A copy has what analysis and `make replay` read: status, rows, config, environment and calibration,
and the studies; no checkpoints, logs, traces and patches. It says nothing of whose machine it was:
the config's folders and mirror are left out, and a record that names a path is refused. Nothing is
written unless every record can be copied. Records of ``out`` that are not in ``runs_dir`` are
named, and removed with ``stale=remove``.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config import arguments, commandline
from experiments.config.values import leaves
from experiments.errors import UserError
from experiments.records import strict_json
from experiments.records.calibration import RUN_FILE
from experiments.records.kinds import MAPPING
from experiments.records.reading import read_bytes, read_json
from experiments.records.schema import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    FINAL_STATUSES,
    METRICS_FILE,
    STATUS_FILE,
    STUDIES_DIR,
    STUDY_ARRAYS,
    STUDY_FILE,
    BrokenRecordError,
    Run,
    load_runs,
    roots,
)
from experiments.records.store import write_atomic
from experiments.replay.rerun import ReplayedRecord, read
from experiments.system.output import say

KEEP, REMOVE = "keep", "remove"
_PRIVATE = ("data_dir", "runs_dir", "cache_dir", "tracking")
"""Of a config: where a run read and wrote, and whom it told."""
# From the root or from somebody's home; neither `images/s` nor an address.
_PATH = re.compile(r"(?<![\w.:/~])/[\w.+-]+\S*|~[\w-]*/\S*|\b[A-Za-z]:\\\S*")

Files = dict[str, bytes]


@dataclass(frozen=True)
class GoldenOptions:
    """Which records are copied and where to; what becomes of others there: keep or remove."""

    out: Path
    runs_dir: Path = Path("runs")
    stale: str = KEEP

    def __post_init__(self) -> None:
        if self.stale not in (KEEP, REMOVE):
            raise UserError(f"Invalid stale: {self.stale!r}. Must be one of: keep, remove.")
        commandline.folder("out", self.out)
        if os.path.realpath(self.out) == os.path.realpath(self.runs_dir):
            raise UserError(f"Invalid out: {str(self.out)!r}. Must not be runs_dir.")


def main(words: Sequence[str]) -> int:
    """Copy the records of a folder, and say how many; returns the exit code."""
    options, _ = arguments.parse(words, GoldenOptions)
    runs_dir, out = options.runs_dir, options.out
    records = _records(runs_dir)
    runs = {record.run.run_id: files_of(record) for record in records}
    studies = dict(_studies(runs_dir))
    if not runs and not studies:
        raise UserError(f"Invalid runs_dir: {str(runs_dir)!r}. There are no records in it.")
    for name, files in (runs | studies).items():
        _write(out / name, files)
    say(f"{len(runs)} runs and {len(studies)} studies copied to {out}")
    if changed := sum(bool(record.code.get("uncommitted_changes")) for record in records):
        say(f"note: {changed} runs were made with uncommitted changes, which no copy keeps")
    for folder in _others(out, {out / name for name in runs | studies}):
        say(f"{folder}: not in {runs_dir}, {options.stale}")
        if options.stale == REMOVE:
            shutil.rmtree(folder)
    return 0


def _records(runs_dir: Path) -> list[ReplayedRecord]:
    """Every record, each of a run that is over."""
    return [read(run.path) for run in over(*load_runs(runs_dir), statuses=FINAL_STATUSES)]


def over(runs: Sequence[Run], broken: Sequence[str], *, statuses: Sequence[str]) -> Sequence[Run]:
    """Give runs back, if each can be read and has one of some statuses.

    Raises:
        UserError: At the first that does not.
    """
    if broken:
        raise UserError(f"{broken[0]}. Move it away, or run it again.")
    for run in runs:
        if run.status not in statuses:
            raise UserError(
                f"run {run.run_id} is {run.status}; must be {' or '.join(statuses)}. "
                "Run it to its end, or move it away."
            )
    return runs


def files_of(record: ReplayedRecord) -> Files:
    """Read what is kept of a run, by name."""
    folder = record.run.path
    config = {key: value for key, value in record.config.items() if key not in _PRIVATE}
    facts = {
        STATUS_FILE: strict_json.loads(read_bytes(folder / STATUS_FILE)),
        CONFIG_FILE: config,
        ENVIRONMENT_FILE: record.environment,
    }
    for name, content in facts.items():
        _refuse_paths(f"run {record.run.run_id}: {name}", content)
    copied = (STATUS_FILE, METRICS_FILE, ENVIRONMENT_FILE, RUN_FILE)
    return {
        CONFIG_FILE: OmegaConf.to_yaml(OmegaConf.create(config)).encode(),
        **{name: read_bytes(folder / name) for name in copied if (folder / name).exists()},
    }


def _studies(runs_dir: Path) -> Iterator[tuple[str, Files]]:
    """Yield the finished studies, by their folder below that of the runs."""
    for root in roots(runs_dir):
        for path in sorted((root / STUDIES_DIR).glob(f"[!.]*/[!.]*/{STUDY_FILE}")):
            name = path.parent.relative_to(root).as_posix()
            try:
                facts = read_json(path, MAPPING)
                files = {
                    file: read_bytes(path.parent / file) for file in (STUDY_FILE, STUDY_ARRAYS)
                }
            except BrokenRecordError as error:
                raise UserError(f"{name} is no study that can be copied: {error}.") from error
            _refuse_paths(f"{name}/{STUDY_FILE}", facts)
            yield name, files


def _refuse_paths(name: str, content: Mapping[str, Any]) -> None:
    for key, value in leaves(content):
        if found := _PATH.search(f"{key} {value}"):
            raise UserError(
                f"{name} names a path of its machine ({key}: {found[0]}); must name none."
            )


def _write(folder: Path, files: Files) -> None:
    """Replace a folder by files."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name, content in files.items():
        write_atomic(folder / name, content)


def _others(out: Path, copied: set[Path]) -> list[Path]:
    """Find the records in ``out`` that were not copied now."""
    found = [*out.glob(f"[!.]*/{STATUS_FILE}"), *out.glob(f"{STUDIES_DIR}/*/[!.]*/{STUDY_FILE}")]
    return sorted(path.parent for path in found if path.parent not in copied)
