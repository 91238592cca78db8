"""Upload what W&B did not get yet: `python -m experiments wandb_sync runs_dir=runs`.

Every log that arrived is marked by its content, so a second call uploads nothing. A run that is
being trained is left for a later call: W&B would take its half-written log for a crashed run.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config import arguments
from experiments.errors import UserError
from experiments.records.schema import roots
from experiments.records.store import RunFolder
from experiments.system.output import say
from experiments.tracking import offline, server
from experiments.tracking.mirror import JOB_TYPES

LOCK = ".wandb-sync"
_COMMAND = (sys.executable, "-m", "wandb", "sync", "--include-synced", "--include-online")
_RUN_SECONDS = 900.0  # for the upload of one run


@dataclass
class SyncPlan:
    """What is to be done for the runs of one folder."""

    pending: list[list[offline.Log]] = field(default_factory=list)  # by W&B run, oldest log first
    uploaded: int = 0  # logs that are there already
    live: int = 0  # runs that are being trained

    @property
    def size(self) -> str:
        """How much is pending, in words."""
        return f"{_count(sum(map(len, self.pending)), 'log')} of {_count(len(self.pending), 'run')}"


def plan(runs_dir: Path) -> SyncPlan:
    """Look at the logs of every run, trial and report below ``runs_dir``, as a report reads it."""
    found = SyncPlan()
    for folder in _run_folders(runs_dir):
        # First the logs, then the lock: a run that starts in between has a log of its own.
        logs = [log for log in offline.logs(folder) if log.run_id is not None]
        if RunFolder(folder.parent, folder.name).is_locked():
            found.live += 1
            continue
        pending: dict[str, list[offline.Log]] = {}
        for log in logs:
            if offline.is_uploaded(log):
                found.uploaded += 1
            else:
                pending.setdefault(str(log.run_id), []).append(log)
        found.pending += pending.values()
    return found


def sync(runs_dir: Path) -> str:
    """Upload every log that is not there yet.

    Args:
        runs_dir: Folder of the runs.

    Returns:
        One line that tells what was done.

    Raises:
        UserError: If W&B cannot be reached or does not take something; all of it is still there.
    """
    if not runs_dir.is_dir():
        raise UserError(f"runs_dir {runs_dir}: no such folder.")
    with RunFolder(runs_dir, LOCK).lock():
        work = plan(runs_dir)
        if work.pending:
            _check_server(work)
        refused: list[str] = []
        for logs in work.pending:
            reason = _upload(logs)
            if reason is not None:
                refused.append(f"{logs[0].run_id}: {reason}")
    if refused:
        raise UserError(
            f"W&B did not take {_count(len(refused), 'run')} of {len(work.pending)} "
            f"({refused[0]}). Nothing is lost; call it again."
        )
    later = f"; {_count(work.live, 'run')} in training left for later" if work.live else ""
    return f"W&B: {work.size} uploaded, {_count(work.uploaded, 'log')} there already{later}"


def _run_folders(runs_dir: Path) -> list[Path]:
    parents = [root / name for root in roots(runs_dir) for name in ("", *JOB_TYPES)]
    return sorted(
        path.parent for parent in parents if parent.is_dir() for path in parent.glob("*/wandb")
    )


def _check_server(work: SyncPlan) -> None:
    obstacle = server.obstacle()
    if obstacle is not None:
        raise UserError(f"W&B: {obstacle}; {work.size} wait, and nothing is lost.")


def _upload(logs: list[offline.Log]) -> str | None:
    """Upload the logs of one W&B run in order; returns why not, or None."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        sent = [log for at, log in enumerate(logs) if not offline.is_repeated(log, logs[at + 1 :])]
        paths = [stack.enter_context(_readable(log, Path(scratch))) for log in sent]
        for path in paths:
            offline.synced_mark(path).unlink(missing_ok=True)
        # W&B writes its own logs below WANDB_DIR; another mode would keep it from uploading, and
        # silent it does not say why it refuses a log.
        environment = os.environ | {"WANDB_DIR": scratch, "WANDB_MODE": "online"}
        environment["WANDB_SILENT"] = "false"
        try:
            result = subprocess.run(
                [*_COMMAND, *(str(path.parent) for path in paths)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {_RUN_SECONDS:.0f} seconds"
        arrived = [offline.synced_mark(path).exists() for path in paths]
    taken = [log for log, there in zip(sent, arrived, strict=True) if there]
    for log in logs if all(arrived) else taken:
        offline.mark_uploaded(log)
    if all(arrived):
        return None
    lines = result.stdout.strip().splitlines() or [f"exit code {result.returncode}"]
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1]).strip()


@contextlib.contextmanager
def _readable(log: offline.Log, scratch: Path) -> Iterator[Path]:
    """Open the log, or a copy up to its last whole record: W&B never takes a torn one as whole."""
    if log.whole == log.size == log.path.stat().st_size:
        yield log.path
        return
    copy = scratch / log.path.parent.name
    shutil.copytree(log.path.parent, copy)
    os.truncate(copy / log.path.name, log.whole)
    yield copy / log.path.name


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


@dataclass(frozen=True)
class SyncOptions:
    """Where the runs are."""

    runs_dir: Path = Path("runs")


def main(words: Sequence[str]) -> int:
    """Upload the runs of one folder and say so in one line; returns the exit code."""
    say(sync(arguments.parse(words, SyncOptions)[0].runs_dir.absolute()))
    return 0
