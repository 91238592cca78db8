"""What the suite says of itself beside the displays of its runs."""

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from pathlib import Path

from experiments.system.output import plain

SAID_VARIABLE = "ADAFISHER_SAID"
"""Set by a sweep for its runs: a folder of theirs, in which a line that was said leaves a mark."""

PROGRESS_VARIABLE = "ADAFISHER_PROGRESS"
"""Set by a sweep for a run: the file that tells where it stands; its lines go beside it."""
LINES_FILE = "lines.jsonl"

logger = logging.getLogger(__name__)
_said: set[str] = set()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class _Handler(logging.StreamHandler):
    def emit(self, record: logging.LogRecord) -> None:
        if not noted(self.format(record), progress_file()):
            super().emit(record)


def on_terminal() -> bool:
    """Tell whether standard error is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


def progress_file() -> Path | None:
    """Name the file in which this run of a sweep notes where it stands; None if it is of none."""
    path = os.environ.get(PROGRESS_VARIABLE)
    return None if path is None else Path(path)


def noted(line: str, progress: Path | None) -> bool:
    """Hand a line to the sweep that shows its runs on this terminal; False where none does.

    Args:
        line: The line.
        progress: As ``progress_file`` gives it.
    """
    if progress is None or not on_terminal():
        return False
    with contextlib.suppress(OSError):
        with progress.with_name(LINES_FILE).open("ab", buffering=0) as handle:
            handle.write(json.dumps(line).encode() + b"\n")
        return True
    return False


def show_log() -> None:
    """Show the suite's own remarks on standard error; of the libraries' only warnings."""
    handler = _Handler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("experiments").setLevel(logging.INFO)


def once(line: str) -> None:
    """Show a line, unless this process has, or another run of the same sweep."""
    if line in _said:
        return
    _said.add(line)
    mark = _mark(line)
    if mark is not None:
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        except OSError:  # a sweep's folder may be gone, or the disk full: rather twice than never
            pass
    logger.warning("%s", line)


def found(fact: str) -> None:
    """Tell the other runs of this sweep what this one found out; see ``was_found``."""
    if (mark := _mark(fact)) is not None:
        with contextlib.suppress(OSError):
            mark.touch()


def was_found(fact: str, *, seconds: float) -> bool:
    """Tell whether a run of this sweep has found the same within the last ``seconds``."""
    mark = _mark(fact)
    try:
        return mark is not None and time.time() - mark.stat().st_mtime < seconds
    except OSError:
        return False


def _mark(line: str) -> Path | None:
    """Name the file by which the runs of a sweep know of a line; None outside of a sweep."""
    folder = os.environ.get(SAID_VARIABLE)
    if folder is None:
        return None
    return Path(folder) / f"said-{hashlib.sha256(line.encode()).hexdigest()[:12]}"
