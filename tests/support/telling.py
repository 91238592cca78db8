"""The task `digits`, which tells in a file what the process of its run is like."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy
import torch

from experiments.tasks import digits
from experiments.tasks.digits import check

__all__ = ["FILE", "build", "check"]

FILE = "TELLING_FILE"  # names the file, one line a run
# As this is loaded, in the process of the run: what a task draws as it is built is seeded.
UNSEEDED = [torch.initial_seed(), float(numpy.random.random())]


def build(**settings: Any) -> Any:
    """Add a line, and give the task."""
    facts = {
        "pid": os.getpid(),
        "unseeded": UNSEEDED,
        "arguments": sys.argv[1:],
        "threads": len(os.listdir("/proc/self/task")),
        "cuda is lost": torch.cuda._is_in_bad_fork(),
        "stdin": os.readlink("/proc/self/fd/0"),
        "sockets": [name for name in _open_files() if name.startswith("socket:")],
        "hangup is ignored": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "left": os.environ.get("LEFT_BY_A_RUN"),
    }
    os.environ["LEFT_BY_A_RUN"] = "something"
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(facts) + "\n")
    return digits.build(**settings)


def _open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # that of the listing itself
            continue
    return found
