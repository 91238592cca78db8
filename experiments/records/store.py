"""The writing side of a run's record: a locked folder with atomic files and append-only rows.

Standard library only. A reader at any moment, or after a kill at any moment, sees a whole file or
the one before it; only the last line of the rows can be half-written, and readers drop it.
"""

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.records import strict_json
from experiments.records.schema import (
    CHECKPOINT_FILE,
    METRICS_FILE,
    SCHEMA,
    STATUS_FILE,
    BrokenRecordError,
    NewerRecordError,
    Run,
    check_whole,
    is_to_run,
    load_run,
)

LOCKS = ".locks"
SET_ASIDE = ".set-aside"
_LOCK_POLL_SECONDS = 0.1


class RunFolder:
    """The record of one run, open for writing while its lock is held."""

    def __init__(self, runs_dir: Path, run_id: str) -> None:
        self.runs_dir = runs_dir
        self.run_id = run_id
        self.path = runs_dir / run_id

    @contextlib.contextmanager
    def lock(
        self, on_wait: Callable[[], None] = lambda: None, *, seconds: float = math.inf
    ) -> Iterator[bool]:
        """Hold the run; another process that wants it waits here until this one ends or dies.

        The lock belongs to the open file, so the system releases it however the process ends.

        Args:
            on_wait: Called once if another process has the run.
            seconds: How long to wait at most.

        Yields:
            Whether it is held.
        """
        locks = self.runs_dir / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / self.run_id, "a", opener=_no_link) as handle:
            announced, deadline = False, time.monotonic() + seconds
            # Polling instead of a blocking call: Python's signal handlers run in between.
            while not (is_held := try_lock(handle.fileno())) and time.monotonic() < deadline:
                if not announced:
                    on_wait()
                    announced = True
                time.sleep(_LOCK_POLL_SECONDS)
            yield is_held

    def is_locked(self) -> bool:
        """Tell whether a living process holds the run."""
        path = self.runs_dir / LOCKS / self.run_id
        if not path.exists():
            return False
        with open(path, "a", opener=_no_link) as handle:
            return not try_lock(handle.fileno())

    def read(self) -> Run | None:
        """Read the record as it stands, or ``None`` where there is none yet.

        Raises:
            BrokenRecordError: If there is one that cannot be trusted.
        """
        if not self.path.exists():
            return None
        if not os.path.lexists(self.path / STATUS_FILE):
            if (self.path / METRICS_FILE).exists() or (self.path / CHECKPOINT_FILE).exists():
                raise BrokenRecordError(f"{self.run_id}/{STATUS_FILE}: missing")
            return None
        run = load_run(self.path)
        if run.run_id != self.run_id:
            raise BrokenRecordError(f"{self.run_id}/{STATUS_FILE}: belongs to run {run.run_id}")
        check_whole(run)
        return run

    def set_aside(self) -> Path:
        """Move the folder out of the way, to be looked at by a person; nothing is deleted.

        Returns:
            Where it went.
        """
        store = self.runs_dir / SET_ASIDE
        store.mkdir(exist_ok=True)
        number = 1
        while (target := store / f"{self.run_id}-{number}").exists():
            number += 1
        self.path.rename(target)
        return target

    def create(self) -> None:
        """Make the folder, and drop what an interrupted atomic write left behind."""
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*.partial"):
            leftover.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Replace the file ``name`` by ``content``, atomically."""
        write_atomic(self.path / name, content)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace the file ``name`` by ``value`` as JSON, atomically."""
        self.write(name, (strict_json.dumps(value, indent=2) + "\n").encode())

    def write_status(self, status: str, reason: str | None = None, **fields: Any) -> None:
        """Replace the status; ``fields`` are ``identity``, ``progress`` and ``summary``."""
        head = {"schema": SCHEMA, "run_id": self.run_id, "status": status, "reason": reason}
        self.write_json(STATUS_FILE, head | fields)

    def end_as(self, status: str, reason: str) -> None:
        """Record the end of a run whose process died before it could."""
        run = load_run(self.path)
        self.write_status(
            status, reason, identity=run.identity, progress=run.progress, summary=run.summary
        )

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation to the rows; it outlives the process, after `sync_rows` the system."""
        with open(self.path / METRICS_FILE, "ab", opener=_no_link) as handle:
            handle.write((strict_json.dumps(row) + "\n").encode())

    def sync_rows(self) -> None:
        """Wait until the rows are on the disk."""
        with contextlib.suppress(FileNotFoundError), open(self.path / METRICS_FILE, "rb") as handle:
            os.fsync(handle.fileno())

    def cut_rows(self, last_step: int) -> list[dict[str, Any]]:
        """Keep the rows up to ``last_step``, so that a resumed run writes the later ones anew.

        Returns:
            The rows that stay.
        """
        run = load_run(self.path)
        kept = [row for row in run.rows if row["step"] <= last_step]
        if run.problem or len(kept) < len(run.rows):
            self.write(
                METRICS_FILE, "".join(strict_json.dumps(row) + "\n" for row in kept).encode()
            )
        return kept


def settled(
    folder: RunFolder, *, retry: bool, notify: Callable[[str], None], anew: bool = False
) -> tuple[str, str | None] | None:
    """Tell whether a run needs nothing more.

    A record that cannot be trusted is set aside, so that the run starts anew.

    Args:
        folder: The run's folder.
        retry: Whether a run that failed is to be tried again.
        notify: Receives one line about a record that was set aside.
        anew: Whether a run that is over is to be run again, and its record set aside.

    Returns:
        Status and reason of a run that is over; ``None`` where there is work to do.

    Raises:
        UserError: If the record is a newer version's: it may be whole, and is not touched.
    """
    try:
        earlier = folder.read()
    except NewerRecordError as error:
        raise UserError(f"{error}. The run is left as it is.") from None
    except BrokenRecordError as error:
        notify(f"broken record set aside as {folder.set_aside()}, starting anew ({error})")
        return None
    if earlier is None:
        return None
    if is_to_run(earlier.status, retry=retry):
        return None
    if anew:
        folder.set_aside()
        return None
    return earlier.status, earlier.reason


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step; a failed write leaves the old file as it was."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb", opener=_no_link) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        error.filename = str(path)  # a failed write or fsync does not say which file
        raise


def _no_link(path: str, flags: int) -> int:
    """Open a file, but no link: a folder from elsewhere may have one to a file of the user's."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def try_lock(descriptor: int) -> bool:
    """Lock an open file; False if it is locked already. The lock ends with the process, or before.

    Locks of two open files exclude each other, in one process as in two.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
