"""Where each run of a folder stands, told from its record and from who holds its lock."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.records.schema import (
    FAULTS,
    NEWER,
    STATUS_FILE,
    UNFINISHED,
    BrokenRecordError,
    NewerRecordError,
    Run,
    roots,
)
from experiments.records.store import LOCKS, RunFolder

# In the order in which they are shown. `stale`: the status says running, but its process is gone.
STATES = (
    "done",
    "diverged",
    "running",
    "failed",
    "out_of_memory",
    "interrupted",
    "stale",
    "broken",
    NEWER,
)


@dataclass(frozen=True)
class RunState:
    """A run and its state.

    Attributes:
        run_id: The run.
        state: One of ``STATES``.
        reason: One line, where there is something to say.
        run: Its record; None where there is none yet, or none that can be read.
    """

    run_id: str
    state: str
    reason: str | None = None
    run: Run | None = None


def run_state(folder: RunFolder) -> RunState | None:
    """Tell where one run stands; None if nothing is known of it."""
    try:
        run = folder.read()
    except NewerRecordError as error:
        return RunState(folder.run_id, NEWER, str(error))
    except BrokenRecordError as error:
        return RunState(folder.run_id, "broken", str(error))
    except OSError as error:  # a folder that may not be looked into
        return RunState(folder.run_id, "broken", f"{folder.run_id}: {error.strerror}")
    if run is None:
        if not _is_held(folder):
            return None
        return RunState(folder.run_id, "running", "it begins, without a record yet")
    # A final record is written by nobody, and its lock need not be tried.
    if run.status in (*UNFINISHED, *FAULTS) and _is_held(folder):
        return RunState(run.run_id, "running", None, run)
    if run.status == "running":
        return RunState(run.run_id, "stale", "its process is gone; it resumes when asked", run)
    return RunState(run.run_id, run.status, run.reason, run)


def run_states(runs_dir: Path) -> Iterator[RunState]:
    """Yield where every run below ``runs_dir`` stands, in order of their ids."""
    places = roots(runs_dir)  # a subfolder that holds runs of another place is no run
    names = {path.name for path in _entries(runs_dir) if path.is_dir() and path not in places}
    names |= {path.name for path in _entries(runs_dir / LOCKS)}
    for name in sorted(names):
        folder = RunFolder(runs_dir, name)
        found = run_state(folder)
        if found is None and folder.path.is_dir() and any(folder.path.iterdir()):
            found = RunState(name, "broken", f"{name}/{STATUS_FILE}: missing")
        if found is not None:
            yield found


def _is_held(folder: RunFolder) -> bool:
    try:
        return folder.is_locked()
    except OSError:  # somebody else's folder, which must not be written
        return False


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not path.name.startswith(".")]
