"""What the processes of one sweep share: a folder with its ledger, a request to stop, and slots.

Jobs may run in any process, on any machine that sees the runs folder; files and their locks are all
that they have in common. Standard library only.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.records.outcome import Outcome
from experiments.records.store import try_lock, write_atomic

ANSWER_SUFFIX = ".outcome"  # of the file beside a request, in which its run tells how it ended
_LEDGER = "ledger.jsonl"
_BEGUN = "begun"  # numbers, one a line
_STOP = "stop"
_PARENT = "parent.lock"
_POLL_SECONDS = 0.1


class SweepFolder:
    """The folder of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def led(self) -> Iterator[None]:
        """Make the folder and lead the sweep: jobs elsewhere see whether their leader lives."""
        self.path.mkdir(parents=True)
        with (self.path / _PARENT).open("w") as handle:
            try_lock(handle.fileno())
            yield

    def leader_lives(self) -> bool:
        """Tell whether the process that started the sweep is there; its lock dies with it."""
        try:
            with (self.path / _PARENT).open("r+") as handle:
                return not try_lock(handle.fileno())
        except FileNotFoundError:
            return False

    def stop(self, cause: str) -> None:
        """Ask every job of the sweep to end, and further ones not to start; the first cause stays.

        Args:
            cause: A signal's name, or why else.
        """
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            descriptor = os.open(self.path / _STOP, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, cause.encode())
            os.close(descriptor)

    def stop_cause(self) -> str | None:
        """Say why the sweep was asked to stop; ``None`` if it was not."""
        try:
            return (self.path / _STOP).read_text(encoding="utf-8") or "stop"
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def slot(self, count: int) -> Iterator[int | None]:
        """Wait for one of ``count`` places on this machine; yields its number, from 0.

        Some launchers start all jobs at once; and by its place a run knows its devices.
        Yields ``None`` where the sweep stops meanwhile.
        """
        with contextlib.ExitStack() as stack:
            handles = [
                stack.enter_context((self.path / f"slot-{number}.lock").open("w"))
                for number in range(count)
            ]
            while self.stop_cause() is None and self.leader_lives():
                for number, handle in enumerate(handles):
                    if try_lock(handle.fileno()):
                        yield number
                        return
                time.sleep(_POLL_SECONDS)
            yield None

    def plan(self, number: int, config: Mapping[str, Any]) -> None:
        """Write down the config of a job, for the process that is to execute it.

        Args:
            number: Index of the job in the sweep.
            config: The values of its config.
        """
        (self.path / f"job-{number}.json").write_text(json.dumps(config), encoding="utf-8")

    def planned(self, number: int) -> dict[str, Any]:
        """Read the config of a job."""
        found: dict[str, Any] = json.loads(
            (self.path / f"job-{number}.json").read_text(encoding="utf-8")
        )
        return found

    def request(self, number: int, content: str) -> Path:
        """Write down what a child process is to do, and that the job began."""
        path = self.path / f"{number}.json"
        write_atomic(path, content.encode())
        with (self.path / _BEGUN).open("ab", buffering=0) as handle:
            handle.write(f"{number}\n".encode())
        return path

    def progress_file(self, number: int) -> Path:
        """Name the file in which the run of a job notes where it stands."""
        return self.path / f"progress-{number}.json"

    def begun(self) -> set[int]:
        """Tell which jobs began, of those that no earlier sweep had finished."""
        return {int(path.stem) for path in self.path.glob("[0-9]*.json")}

    def started(self) -> int:
        """Count the jobs that began."""
        return len(self.begun())

    def note(self, number: int, outcome: Outcome) -> None:
        """Add a job's outcome; a small append is whole even from several processes."""
        line = json.dumps({"number": number, "outcome": outcome.to_line()}) + "\n"
        with (self.path / _LEDGER).open("ab", buffering=0) as handle:
            handle.write(line.encode())

    def outcomes(self) -> dict[int, Outcome]:
        """Tell how the jobs ended, by number; of a job that was queued again, its last end."""
        return Ends(self).read()

    def remove(self) -> None:
        """Remove the folder, when no job needs it any more."""
        shutil.rmtree(self.path, ignore_errors=True)


class Growing:
    """A file that others add lines to, read from where the last reading ended.

    Args:
        path: Of the file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def lines(self) -> list[bytes]:
        """Read the lines that are new; one that is half written comes when it is whole."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                read = file.read()
        except OSError:
            return []
        whole = read[: read.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.splitlines()


class Begun:
    """Which jobs of a sweep began, for who asks often and only shows it.

    Args:
        shared: The sweep's folder.
    """

    def __init__(self, shared: SweepFolder) -> None:
        self._listed = Growing(shared.path / _BEGUN)
        self._found: set[int] = set()

    def read(self) -> set[int]:
        """Tell which began, as ``SweepFolder.begun`` does."""
        # Machines that share a disk may write over one another's lines.
        self._found.update(int(line) for line in self._listed.lines() if line.isdigit())
        return self._found


class Ends:
    """How the jobs of a sweep have ended, for who asks often: the ledger may have thousands.

    Args:
        shared: The sweep's folder.
    """

    def __init__(self, shared: SweepFolder) -> None:
        self._ledger = Growing(shared.path / _LEDGER)
        self._found: dict[int, Outcome] = {}

    def read(self) -> dict[int, Outcome]:
        """Tell how the jobs ended, as ``SweepFolder.outcomes`` does."""
        for line in self._ledger.lines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # half of a line
                note = json.loads(line)
                self._found[int(note["number"])] = Outcome.from_line(note["outcome"])
        return self._found
