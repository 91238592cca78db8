"""What the suite says of itself beside the displays of its runs."""

import hashlib
import logging
import os
from pathlib import Path

from experiments.system.output import plain

SAID_VARIABLE = "ADAFISHER_SAID"
"""Set by a sweep for its runs: a folder of theirs, in which a line that was said leaves a mark."""

logger = logging.getLogger(__name__)
_said: set[str] = set()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def show_log() -> None:
    """Show the suite's own remarks on standard error; of the libraries' only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("experiments").setLevel(logging.INFO)


def once(line: str) -> None:
    """Show a line, unless this process has, or another run of the same sweep."""
    if line in _said:
        return
    _said.add(line)
    folder = os.environ.get(SAID_VARIABLE)
    if folder is not None:
        mark = Path(folder) / f"said-{hashlib.sha256(line.encode()).hexdigest()[:12]}"
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        except OSError:  # a sweep's folder may be gone, or the disk full: rather twice than never
            pass
    logger.warning("%s", line)
