"""What a process is like as a program sees it, as JSON; then it ends as the words behind it say."""

import json
import locale
import os
import random
import signal
import sys
import threading
from typing import Any

import numpy
import torch


def facts() -> dict[str, Any]:
    """Say what a command might depend on, and what must not differ with how it was started."""
    streams: Any = (sys.stdin, sys.stdout, sys.stderr)
    return {
        "name": [__name__, sys.modules["__main__"].__dict__ is globals()],
        "arguments": sys.argv,
        "path": sys.path,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": os.umask(os.umask(0)),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "signals": {
            int(number): str(signal.getsignal(number)) for number in signal.valid_signals()
        },
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "descriptors": sorted(name for name in os.listdir("/proc/self/fd") if _is_open(int(name))),
        "streams": [
            [stream.encoding, stream.errors, stream.line_buffering, stream.write_through]
            for stream in streams
        ],
        "originals": [sys.__stdin__ is streams[0], sys.__stdout__ is streams[1]],
        "encoding": locale.getpreferredencoding(),
        "threads": [len(os.listdir("/proc/self/task")), threading.active_count()],
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
        "cuda is lost": torch.cuda._is_in_bad_fork(),
        "limits": _limits(),
    }


def drawn() -> list[float]:
    """Draw where nobody has seeded."""
    return [random.random(), float(numpy.random.random()), float(torch.rand(()))]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _limits() -> list[Any]:
    import resource

    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return [resource.getrlimit(getattr(resource, name)) for name in sorted(names)]


if __name__ == "__main__":
    print(json.dumps({"facts": facts(), "drawn": drawn(), "read": sys.stdin.read()}))
    print("told", file=sys.stderr)
    sys.stdout.flush()
    exec(sys.argv[1])
