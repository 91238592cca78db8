"""A recorded run, once more, and compared: `python -m experiments replay run=<id> runs_dir=runs`.

An id that is not in ``runs_dir`` is looked for among the records that the repository keeps. The
record is read, never written; the new one goes to ``<runs_dir>/.replays/<id>/``. Exit code 0:
identical, or within tolerance; 1: different; 2: a mistake in what was asked for.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.config import arguments, foreign
from experiments.config.lift import lifted
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records import archive, strict_json
from experiments.records.schema import roots
from experiments.records.store import write_atomic
from experiments.replay import differences, recorded_code
from experiments.replay.differences import DIFFERENT, RecordComparison
from experiments.replay.rerun import UNFINISHED, Code, ReplayedRecord, compare, read, rerun
from experiments.system.checkout import ROOT
from experiments.system.output import say

CODES = ("current", "recorded")
GOLDEN = ROOT / "tests" / "golden"
"""Below its ``runs/`` are the records that the repository keeps."""
_ROUNDING = ("cpu_", "device:", "gpu.", "threads:", "processes.", "packages.torch:")
"""Facts that decide in which order numbers are summed."""


@dataclass(frozen=True)
class ReplayOptions:
    """What is replayed, and how.

    Attributes:
        run: Id of the run.
        runs_dir: Where it is.
        code: ``current`` or ``recorded``.
        trust: Whether code that the record brings, and no commit has, may be run.
        rtol: Relative tolerance.
        data_dir: Where the data are; null: where the record says.
        cache_dir: Likewise of what is made from them.
    """

    run: str
    runs_dir: Path = Path("runs")
    code: str = "current"
    trust: bool = False
    rtol: str = str(differences.RTOL)
    data_dir: Path | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise UserError(f"Invalid code: {self.code!r}. Must be one of: {', '.join(CODES)}.")


def main(words: Sequence[str]) -> int:
    """Replay a run and print how it compares; returns the exit code."""
    allowed, others = foreign.typed(words)
    options, _ = arguments.parse(others, ReplayOptions)
    rtol = _tolerance(options.rtol)
    record = read(_find(options.run, options.runs_dir))
    if not record.run.rows and record.run.status in UNFINISHED:
        raise UserError(
            f"run {record.run.run_id} has no measurements (status {record.run.status}): "
            "nothing can be compared. Run it to its end first."
        )
    given = {"data_dir": options.data_dir, "cache_dir": options.cache_dir}
    folders = {key: str(path.absolute()) for key, path in given.items() if path is not None}
    label = RunConfig.of(lifted(record.config)).label
    say(f"replay of run {record.run.run_id}: {label}")
    replayed = rerun(
        record,
        _store(options.runs_dir),
        code=Code(options.code == "recorded", options.trust),
        folders=folders,
        allowed=allowed,
    )
    found = compare(record, replayed, rtol=rtol)
    _report(record, replayed, found, rtol=rtol)
    return 1 if found.verdict == DIFFERENT else 0


def _report(
    record: ReplayedRecord, replayed: ReplayedRecord, found: RecordComparison, *, rtol: float
) -> None:
    old, new = record.run, replayed.run
    facts = differences.compare_environments(record.environment, replayed.environment)
    say(f"recorded: {old.status} at step {old.progress.get('step')}, {old.path}")
    say(f"replayed: {new.status} at step {new.progress.get('step')}, {new.path}")
    say("environment: " + ("no difference" if not facts else f"{len(facts)} facts differ"))
    for fact in facts:
        say(f"  {fact}")
    for note in (*_notes(record, replayed, facts), *_rounding(record, found, facts)):
        say(note)
    values = f"{found.measurements} values in {len(old.rows)} rows, times left out"
    if found.first is None:
        say(f"{found.verdict}: {values}")
    else:
        say(f"{found.verdict}: {found.first}")
        say(f"  largest relative difference {found.largest:.3g}, rtol {rtol:.3g}; {values}")
    report = asdict(found) | {"rtol": rtol, "environment": facts, "record": str(old.path)}
    write_atomic(
        new.path.parent / "comparison.json", (strict_json.dumps(report, indent=2) + "\n").encode()
    )


def _notes(record: ReplayedRecord, replayed: ReplayedRecord, facts: list[str]) -> Iterator[str]:
    if not record.run.rows:
        yield "note: the record has no measurements; only its end is compared"
    elif record.run.status in UNFINISHED:
        yield f"note: the record is {record.run.status}; it is compared as far as it goes"
    if "train_seconds" in record.config.get("budget", {}):
        yield "note: the budget is a training time, so that a clock decides the steps and their lr"
    if record.environment.get("earlier_code"):
        yield "note: the run was resumed under other code; its first part is not that of `code`"
    if replayed.run.run_id != record.run.run_id:
        yield f"note: this version of the code gives the config the id {replayed.run.run_id}"
    if not any(fact.startswith("code.") for fact in facts):
        return
    code, path = record.code, record.run.path
    if recorded_code.lost_changes(code, path):
        yield "note: the uncommitted changes of the recorded code were not kept"
    command = recorded_code.by_hand(code, path)
    if command is not None:
        yield "note: the code differs; `code=recorded` replays with the recorded one; by hand:"
        yield f"  {command}"


def _rounding(record: ReplayedRecord, found: RecordComparison, facts: list[str]) -> Iterator[str]:
    """Say where a difference may be no more than that of another machine."""
    step = found.first and found.first.step
    differing = [fact.partition(": ")[0] for fact in facts if fact.startswith(_ROUNDING)]
    if found.verdict != DIFFERENT or step is None or not differing:
        return
    before = sum(row["step"] < step for row in record.run.rows)
    yield (
        f"note: {', '.join(differing)} differ: the last bits do too, and training amplifies them; "
        f"{before} of {len(record.run.rows)} rows agree before the first difference"
    )


def _find(name: str, runs_dir: Path) -> Path:
    """Find the folder of a run that is given by its id or as a path."""
    places = (archive.opened(runs_dir)[0], GOLDEN / "runs")
    own, kept = ([root / name for root in roots(place)] for place in places)
    for path in (*own, Path(name).expanduser(), *kept):
        if path.is_dir():
            return path.absolute()
    raise UserError(
        f"Invalid run: {name!r}. Must be the id of a run in {runs_dir} or in tests/golden/runs, "
        "or the folder of one."
    )


def _store(runs_dir: Path) -> Path:
    """Tell where the replay goes: not among the records that the repository keeps."""
    folder = Path(os.path.realpath(runs_dir))  # `resolve` ends at a loop of links
    if archive.archives_in(runs_dir):
        return ROOT / "runs"
    return ROOT / "runs" if folder.is_relative_to(os.path.realpath(GOLDEN)) else folder


def _tolerance(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 <= value < math.inf:
            return value
    raise UserError(f"Invalid rtol: {text!r}. Must be a number >= 0.")
