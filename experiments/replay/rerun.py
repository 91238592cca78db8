"""A recorded run once more: read from its folder, run again in a fresh one, and compared."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import by_name, compose, foreign, named
from experiments.config.lift import lifted
from experiments.config.recorded import read_config
from experiments.config.run_config import RunConfig
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError
from experiments.records.calibration import RUN_FILE
from experiments.records.outcome import EXIT_CODES
from experiments.records.reading import read_bytes
from experiments.records.schema import (
    FINAL_STATUSES,
    UNFINISHED,
    BrokenRecordError,
    Run,
    check_whole,
    load_environment,
    load_run,
)
from experiments.records.store import RunFolder, write_atomic
from experiments.replay import differences, recorded_code
from experiments.replay.differences import DIFFERENT, Difference, RecordComparison
from experiments.system.checkout import ROOT
from experiments.system.cores import VISIBLE, library_variables

REPLAYS = ".replays"
FOLDERS = {"data_dir": "data", "cache_dir": ".cache"}
"""What a record may leave out, with the default."""
"""Statuses of a record that is compared as far as it goes; one of a dead process says running."""

# The same in every version of the code, so that it can start an older one.
_PROGRAM = """
import json, sys
from experiments.errors import report_user_errors
from experiments.run import execute
with report_user_errors():
    execute(json.load(open(sys.argv[1], encoding="utf-8")))
"""


@dataclass(frozen=True)
class Code:
    """Which code a replay runs.

    Attributes:
        is_recorded: The record's, in place of the code that is here.
        is_trusted: Whether the user trusts what the record brings of code.
    """

    is_recorded: bool = False
    is_trusted: bool = False


@dataclass(frozen=True)
class ReplayedRecord:
    """What a run's folder holds."""

    run: Run
    config: dict[str, Any]
    environment: dict[str, Any]

    @property
    def code(self) -> dict[str, Any]:
        """What it says of its code."""
        return self.environment.get("code") or {}


def read(path: Path) -> ReplayedRecord:
    """Read a run's folder.

    Raises:
        UserError: If it is no record that can be replayed.
    """
    try:
        run, config, environment = load_run(path), read_config(path), load_environment(path)
        check_whole(run)
    except BrokenRecordError as error:
        raise UserError(f"{path} is no record that can be replayed: {error}.") from error
    if run.status == "running" and RunFolder(path.parent, path.name).is_locked():
        raise UserError(f"run {run.run_id} is not over yet. Replay it when it has ended.")
    return ReplayedRecord(run, config, environment)


def rerun(
    record: ReplayedRecord,
    store: Path,
    *,
    code: Code,
    folders: Mapping[str, str],
    allowed: Sequence[foreign.Special] = (),
) -> ReplayedRecord:
    """Run a record's config in a fresh folder, as many threads and processes as it had.

    Args:
        record: The record.
        store: Folder of run records; the replay goes below ``.replays/`` there.
        code: Which code runs: the recorded one is checked out in place of the code that is here.
        folders: ``data_dir`` and ``cache_dir``, where they are not those of the record. One that
            the record does not name, or not from the root, is taken from the root of the checkout.
        allowed: What it may be built of besides what the ``conf/`` of that code names.

    Returns:
        The record of the replay.

    Raises:
        UserError: If it could not be run; the one line has been printed already.
    """
    with _code(record, code) as tree:
        foreign.check(record.config, allowed=allowed, conf=tree / "conf")
        place = _fresh_folder(store / REPLAYS / record.run.path.name)
        path = _request(record, place, use_recorded_code=code.is_recorded, folders=folders)
        status = _launch(
            path,
            processes=(record.environment.get("processes") or {}).get("count", 1),
            threads=json.loads(path.read_bytes())["threads"],
            tree=tree,
            variables=_hidden(record),
        )
    records = [path.parent for path in place.glob("*/status.json")]
    if not records:
        sys.exit(status or EXIT_CODES["refused"])
    replayed = read(records[0])
    if replayed.run.status == "interrupted":
        sys.exit(EXIT_CODES["interrupted"])
    return replayed


def _request(
    record: ReplayedRecord, place: Path, *, use_recorded_code: bool, folders: Mapping[str, str]
) -> Path:
    """Write what is to be run, and beside it what was measured for the run."""
    recorded = dict(record.config)
    if not os.path.isdir(recorded.get("cache_dir", "")):  # of another machine: it is written to
        recorded.pop("cache_dir", None)
    config = {**FOLDERS, **recorded, **folders, "runs_dir": str(place), "retry": False}
    config |= {key: str(ROOT / config[key]) for key in FOLDERS}
    # No mirror; code from before there was a `_target_` reads the mode.
    config["tracking"] = {"_target_": None, "mode": "none"}
    config["threads"] = record.environment.get("threads", config.get("threads"))
    if not use_recorded_code:
        config = _with_new_keys(lifted(config))
    config |= _files(config)
    if os.path.lexists(measured := record.run.path / RUN_FILE):  # anew, it were another run
        own = record.run.run_id if use_recorded_code else RunConfig.of(config).run_id
        (place / own).mkdir()
        write_atomic(place / own / RUN_FILE, read_bytes(measured))
    path = place / "config.json"
    write_atomic(path, json.dumps(config, indent=2).encode())
    return path


def _files(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name the Python files that were typed for what the config is built of; a record names none.

    Raises:
        UserError: If one is not the file that the run was made with.
    """
    found: dict[str, Any] = {}
    for group in named.GROUPS:
        suite = config[group].get(SUITE) or {}
        for module, file in (by_name.files(group, suite.get("name")) or {}).items():
            if file["sha256"] != suite.get("sha256"):
                raise UserError(
                    f"{file['path']} is not the file that the run was made with, whose sha256 is "
                    f"{suite.get('sha256')}. Put that one back."
                )
            found[module] = file
    return {"files": found} if found else {}


def compare(record: ReplayedRecord, replayed: ReplayedRecord, *, rtol: float) -> RecordComparison:
    """Compare the measurements, and the end; an interrupted record as far as it goes."""
    old, new = record.run, replayed.run
    ended = old.status in FINAL_STATUSES
    rows = new.rows if ended else new.rows[: len(old.rows)]
    found = differences.compare_rows(old.rows, rows, rtol=rtol)
    if found.verdict == DIFFERENT or old.status in UNFINISHED:
        return found
    ends = [(run.status, run.reason if run.status == "diverged" else None) for run in (old, new)]
    if ends[0] == ends[1]:
        return found
    parts = [status if reason is None else f"{status}, {reason}" for status, reason in ends]
    return RecordComparison(
        DIFFERENT, found.measurements, Difference(None, "status", *parts), found.largest
    )


@contextlib.contextmanager
def _code(record: ReplayedRecord, code: Code) -> Iterator[Path]:
    if not code.is_recorded:
        yield ROOT
        return
    with recorded_code.recorded(record.code, record.run.path, trusted=code.is_trusted) as tree:
        yield tree


def _hidden(record: ReplayedRecord) -> dict[str, str]:
    """Variables that hide the GPUs of this machine from a run that found none on its own.

    Its config says ``device=auto``, and the id of the run is a hash of that.
    """
    return {VISIBLE: ""} if record.environment.get("device") == "cpu" else {}


def _launch(
    config: Path,
    *,
    processes: int,
    threads: int | None,
    tree: Path,
    variables: Mapping[str, str],
) -> int:
    """Run a config file in child processes, with the code of ``tree``; returns the exit code."""
    command = [sys.executable, "-c", _PROGRAM, str(config)]
    if processes > 1:
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--no-python")
        command = [sys.executable, *torchrun, f"--nproc-per-node={processes}", *command]
    # The code of `tree` comes first, whatever is installed.
    paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
    if threads is not None:
        environment |= library_variables(threads, environment)
    child = subprocess.Popen(command, cwd=tree, env=environment)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()  # it saves its state; a terminal has already told it
        child.wait()
        sys.exit(EXIT_CODES["interrupted"])


def _with_new_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of plain keys that came after a config."""
    defaults = compose.composed([]).values
    new = {k: v for k, v in defaults.items() if k not in config and not isinstance(v, Mapping)}
    return new | config


def _fresh_folder(store: Path) -> Path:
    number = 1
    while True:
        with contextlib.suppress(FileExistsError):
            (store / str(number)).mkdir(parents=True)
            return (store / str(number)).absolute()
        number += 1
