"""A process that has loaded what a run needs, and is forked for each: `... forkserver FD NAME`.

Loading takes ten times as long as a short run. The process computes nothing: a parallel region or a
look at CUDA before the fork would hang or cripple each run. So it only loads modules, and what it
then has beside its one thread and its runs makes it refuse. It is started by exec, keeps no lock or
file, and holds all that a run must not share with another: a run gets signals, exit handlers and
random numbers of its own. Linux only; ``experiments.sweep.forks`` is who asks it.

A message on the socket FD is one JSON object. Asked is ``{"request", "variables", "modules"}``;
told are ``{"pid"}`` and then ``{"code"}``, or ``{"refused"}``. A run that has ended is reaped when
the answer to its code comes, so that until then nobody else can have its number. NAME is for
whoever lists the processes.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from experiments.system import exits, process, signals

MESSAGE_BYTES = 2**16
PATIENCE_SECONDS = 120.0
"""What a run that is to stop has to finish its step, or its evaluation, and to save its state."""

# torch loads its compiler in the first construction of any optimizer, though nothing is compiled.
_NEEDED = ("experiments.sweep.child", "experiments.run.run", "torch._dynamo")


def serve(channel: socket.socket) -> None:
    """Fork a run for each request, until the other end of the channel is closed."""
    handlers: dict[int, Any] = {
        number: signal.signal(number, signal.SIG_IGN) for number in signals.SIGNALS
    }
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)  # as who started it had them
    load(_NEEDED)
    from experiments.engine import machine
    from experiments.system import checkout
    from experiments.timing import calibration_key

    checkout.version()  # of the code that was loaded, whatever is edited meanwhile
    machine.software()
    calibration_key.remember_code()
    looked_at = 0
    while message := channel.recv(MESSAGE_BYTES):
        request = json.loads(message)
        load(request["modules"])
        gc.collect()
        gc.freeze()  # or the first collection of each run would copy every page
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        sys.stdout and sys.stdout.flush()
        server = os.getpid()
        try:
            is_as_before = looked_at == len(sys.modules)
            looked_at = len(sys.modules)
            if (refused := _unfit(is_as_before=is_as_before)) is not None:
                _tell(channel, refused=refused)
                return
            pid = os.fork()
        except OSError as error:
            _tell(channel, refused=f"a process cannot be forked ({error.strerror})")
            return
        if pid == 0:
            channel.close()
            _run(request, handlers, server)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        _tell(channel, pid=pid)
        _see_to_its_end(channel, pid)


def load(modules: Iterable[str]) -> None:
    """Import what is not yet; a module that fails is left to the run, which tells of it."""
    for name in modules:
        with contextlib.suppress(Exception):
            module = importlib.import_module(name)
            load(getattr(module, "LOADED_LATE", ()))


def _unfit(*, is_as_before: bool = False) -> str | None:
    """Say why a fork of this process would not be as good as a new one; None if it would.

    Args:
        is_as_before: Whether nothing was loaded since it was asked last.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"this system has no descriptors of processes ({error.strerror})"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"a module that it loads starts {'a thread' if threads == 2 else 'threads'}"
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return "a module that it loads starts a process"
    if not is_as_before and _has_lost_cuda():
        return "a module that it loads looks at CUDA"
    return None


def _has_lost_cuda() -> bool:
    """Tell whether a fork of this process can use CUDA no more.

    Only a fork knows: a mere question whether CUDA is there, which initialises nothing that this
    process could tell, is enough.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(int(sys.modules["torch"].cuda._is_in_bad_fork()))
    return os.waitpid(pid, 0)[1] != 0


def _see_to_its_end(channel: socket.socket, pid: int) -> None:
    """Tell how the run ended and reap it; where nobody listens any more, end it."""
    ended = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([channel.fileno(), ended], [], [])
        if ended not in ready:  # the channel is closed: nothing else is sent meanwhile
            os.kill(pid, signal.SIGTERM)
            if not select.select([ended], [], [], PATIENCE_SECONDS)[0]:
                os.kill(pid, signal.SIGKILL)
        else:
            info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert info is not None
            exited = info.si_code == os.CLD_EXITED
            _tell(channel, code=info.si_status if exited else -info.si_status)
            channel.recv(MESSAGE_BYTES)
    finally:
        os.close(ended)
        os.waitpid(pid, 0)


def _tell(channel: socket.socket, **answer: Any) -> None:
    with contextlib.suppress(OSError):  # of a closed channel the next `recv` tells
        channel.send(json.dumps(answer).encode())


def _run(request: Mapping[str, Any], handlers: Mapping[int, Any], server: int) -> NoReturn:
    """Be a run of its own, from here to the end of the process.

    The number of the server is from before the fork: where that has died since, `getppid` is
    another's.
    """
    code = 1
    try:
        exits.forget_handlers()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if handlers[signal.SIGINT] != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `child` has it before its imports
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        for name, value in request["variables"].items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        process.started = "forked"
        seed_anew()
        from experiments.sweep import child

        sys.argv = [child.__file__, request["request"]]
        code = child.main(Path(request["request"]), parent=server)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        exits.end_fork(code)


def seed_anew() -> None:
    """Seed what the import seeded: alike in each run, a forgotten seed would look like care."""
    import numpy
    import torch

    torch.seed()
    numpy.random.seed()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as its_end:
        serve(its_end)
