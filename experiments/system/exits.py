"""How child processes end: with their parent, and where they are forks, as interpreters do.

An orphan would train beside the same run of the next sweep.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0


def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent process ends, whose number is ``parent``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before this was set
        signal.raise_signal(signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def forget_handlers() -> None:
    """Forget, in a fork, what its parent does at its exit: the parent's folders would go."""
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def end_fork(code: int) -> NoReturn:
    """End a fork as an interpreter ends, with its threads, handlers and streams."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
