"""Records as compact text to commit: `python -m experiments archive runs_dir=runs out=FOLDER`.

Each task becomes `<task>.jsonl.xz`. It has of every run, and of every trial of its tuning, status,
config, environment and rows, and the ledgers of the tuned files that its runs took. Like a copy by
`golden` it says nothing of whose machine it was. A run that is not over is refused, one that failed
is kept; no archive is replaced by one that lacks some of its runs, a line says what is left out.
`make report RUNS=FOLDER`, `status` and `replay` read a folder of archives as one of runs.
"""

import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import arguments, commandline, rulesets
from experiments.errors import UserError
from experiments.records import archive
from experiments.records.reading import BrokenRecordError, read_bytes
from experiments.records.schema import (
    FAULTS,
    FINAL_STATUSES,
    PATCH_FILE,
    STATUS_FILE,
    STUDIES_DIR,
    STUDY_FILE,
    load_runs,
    roots,
)
from experiments.records.verdict import FILE, FOLDER
from experiments.replay.golden import files_of, over
from experiments.replay.rerun import ReplayedRecord, read
from experiments.system.output import say

OVER = (*FINAL_STATUSES, *FAULTS)


@dataclass(frozen=True)
class ArchiveOptions:
    """Whose records are archived, and where to."""

    out: Path
    runs_dir: Path = Path("runs")

    def __post_init__(self) -> None:
        commandline.folder("out", self.out)


def main(words: Sequence[str]) -> int:
    """Write the archives of a folder, and say how large they are; returns the exit code."""
    options, _ = arguments.parse(words, ArchiveOptions)
    if options.out.resolve() == options.runs_dir.resolve():
        raise UserError(
            f"Invalid out: {str(options.out)!r}. Must be another folder than runs_dir: where "
            "archives lie, they alone are read."
        )
    lines: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, list[int]] = {}
    ledgers: dict[str, set[str]] = {}
    patches = 0
    for place, record in _records(options.runs_dir):
        task = record.run.identity["task"]
        lines.setdefault(task, []).append(archive.run_line(files_of(record), place=place))
        counts.setdefault(task, [0, 0])[place != ""] += 1
        ledgers.setdefault(task, set()).update(_tuned_file(record))
        patches += (record.run.path / PATCH_FILE).exists()
    if not lines:
        raise UserError(f"Invalid runs_dir: {str(options.runs_dir)!r}. There are no records in it.")
    for task, kept in lines.items():
        _refuse_loss(options.out / f"{task}{archive.SUFFIX}", kept, options.runs_dir)
    options.out.mkdir(parents=True, exist_ok=True)
    for task in sorted(lines):
        found = [line for file in sorted(ledgers[task]) for line in _ledger(file)]
        path = options.out / f"{task}{archive.SUFFIX}"
        size = archive.write(path, lines[task] + found)
        runs, trials = counts[task]
        say(
            f"{path}: {runs} runs, {trials} trials, {len(found)} ledgers, "
            f"{size / 1e6:.3g} MB ({size / (runs + trials):,.0f} bytes each)"
        )
    if left := _left_out(options.runs_dir, patches):
        say(f"note: an archive has no {', no '.join(left)}: {options.runs_dir} alone has them")
    return 0


def _refuse_loss(path: Path, lines: Iterable[Mapping[str, Any]], runs_dir: Path) -> None:
    """Refuse to replace an archive by one that lacks some of its runs.

    Raises:
        UserError: Says how many, or that it cannot be told.
    """
    if not path.exists():
        return
    try:
        lost = archive.runs_in(path) - {line["run"] for line in lines}
    except (BrokenRecordError, ValueError, lzma.LZMAError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Move it away, or choose another out."
        ) from error
    if lost:
        raise UserError(
            f"{path} has {len(lost)} runs and trials that {runs_dir} lacks ({min(lost)}"
            f"{', ...' * (len(lost) > 1)}). Move it away, or choose another out."
        )


def _left_out(runs_dir: Path, patches: int) -> list[str]:
    """Count what lies beside the runs, or in them, and is in no archive; by its name."""
    found = {
        f"comparisons ({FOLDER}": f"{FOLDER}/*/{FILE}",
        f"studies ({STUDIES_DIR}": f"{STUDIES_DIR}/*/*/{STUDY_FILE}",
    }
    counts = {
        name: sum(1 for root in roots(runs_dir) for _ in root.glob(pattern))
        for name, pattern in found.items()
    }
    counts[f"patches of uncommitted code ({PATCH_FILE}"] = patches
    return [f"{name}: {count})" for name, count in counts.items() if count]


def _records(runs_dir: Path) -> Iterator[tuple[str, ReplayedRecord]]:
    """Yield every record, with its place: runs first, then trials."""
    runs, broken = load_runs(runs_dir)
    for run in over(runs, broken, statuses=OVER):
        yield "", read(run.path)
    for root in roots(runs_dir):
        for path in sorted((root / archive.TRIALS_DIR).glob(f"[!.]*/{STATUS_FILE}")):
            record = read(path.parent)
            over([record.run], [], statuses=OVER)
            yield archive.TRIALS_DIR, record


def _tuned_file(record: ReplayedRecord) -> set[str]:
    """Name the tuned file that a run took, below the folder of them."""
    origin = record.run.identity.get("origin") or {}
    folder, _, file = str((origin.get("ruleset_file") or {}).get("path", "")).partition("/")
    return {file} if folder == rulesets.TUNED else set()


def _ledger(file: str) -> Iterator[dict[str, Any]]:
    tuned = commandline.CONF / rulesets.TUNED / file
    path = tuned.parent / commandline.LEDGERS / tuned.name
    if path.is_file():
        yield archive.ledger_line(file, read_bytes(path).decode(errors="replace"))
