"""Runs commands in forks of a process that has loaded what they load; `served` starts and asks it.

Loading takes a command of the suite some seconds, and the tests run a hundred of them. The server
loads modules and computes nothing (a parallel region or a look at CUDA would cripple the forks), so
that a fork of it is what an interpreter is once it has loaded them. Its words are the package whose
commands it takes, the folder of its ``socket``, the process that it ends with (that of the test
session), and the descriptor on which it tells that it listens.

Asked is one JSON object with the words behind ``python -m``, the environment, the folder, the
process group, the signals that are ignored and the numbers of the descriptors, which come along;
told are ``{"pid"}`` and then ``{"code"}``. The command is reaped when the connection is closed: its
number is nobody else's until then.
"""

import contextlib
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.sweep.forkserver import seed_anew
from experiments.system import exits

SOCKET = "socket"
MESSAGE_BYTES = 2**17
MOST_FILES = 16
# What most commands of a package load, or their runs; the rest is loaded after the fork. The
# compiler of torch is loaded in the first construction of any optimizer.
LOADED = {
    "experiments": (
        *("experiments.__main__", "experiments.train", "experiments.sweep.child"),
        *("experiments.sweep.status", "experiments.sweep.plan", "experiments.replay.compare"),
        *("experiments.run.run", "torch._dynamo"),
    ),
    "analysis": (
        *("analysis.report.__main__", "matplotlib.pyplot", "matplotlib.backends.backend_pdf"),
        *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    ),
}
FREE = 64  # descriptors of a command are moved above this number before they get their own

_of_session: tuple[Path, int] | None = None  # in a server, and what it forks


def session() -> int:
    """Give the process that the servers end with: pytest, or what started its workers."""
    if _of_session is not None:
        return _of_session[1]
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def folder() -> Path:
    """Give the folder of the session's servers."""
    if _of_session is not None:
        return _of_session[0]
    return Path(tempfile.gettempdir(), f"commands-{os.getuid()}-{session()}")


def serve(package: str, own: Path, lasts: int, told: int) -> None:
    """Fork a process for each command, until the test session is gone.

    Args:
        package: The package whose commands they are.
        own: The folder for the socket, which is removed in the end.
        lasts: The process of the session.
        told: The descriptor on which to tell that commands are taken.
    """
    global _of_session
    _of_session = own.parent, lasts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.fork() != 0:  # nobody is left to wait for it
        os._exit(0)
    lasting = os.pidfd_open(lasts)
    for name in LOADED[package]:
        with contextlib.suppress(Exception):  # the command that needs it tells of it
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or the first collection of each command would copy every page
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(own / SOCKET))
            listening.listen(64)
            os.write(told, b"1")
            os.close(told)
            _listen(listening, lasting)
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with contextlib.suppress(OSError):
            own.parent.rmdir()


def _listen(listening: socket.socket, lasting: int) -> None:
    asking: set[socket.socket] = set()
    running: dict[int, tuple[int, socket.socket]] = {}  # by its descriptor: number, who asked
    told: dict[socket.socket, int] = {}  # numbers of those that have ended and are not reaped
    while True:
        waited: list[Any] = [listening, lasting, *asking, *running, *told]
        ready = select.select(waited, [], [])[0]
        if lasting in ready:
            return
        for one in ready:
            if one is listening:
                asking.add(listening.accept()[0])
            elif one in told:
                os.waitpid(told.pop(one), 0)
                one.close()
            elif one in asking:
                asking.remove(one)
                others = [listening, *asking, *told, *(who for _, who in running.values())]
                pid = _answer(one, close=others)
                if pid is not None:
                    running[os.pidfd_open(pid)] = pid, one
            else:
                pid, who = running.pop(one)
                os.close(one)
                _tell_the_end(who, pid)
                told[who] = pid


def _answer(connection: socket.socket, close: Sequence[socket.socket]) -> int | None:
    """Fork what is asked for, and tell its number."""
    message, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, MOST_FILES)
    if not message:
        connection.close()
        return None
    pid = os.fork()
    if pid == 0:
        for other in (connection, *close):
            other.close()
        be(json.loads(message), files)
    for file in files:
        os.close(file)
    _tell(connection, pid=pid)
    return pid


def _tell_the_end(connection: socket.socket, pid: int) -> None:
    """Tell the code of a process that has ended, which is reaped once whoever asked knows."""
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    exited = info.si_code == os.CLD_EXITED
    _tell(connection, code=info.si_status if exited else -info.si_status)


def _tell(connection: socket.socket, **answer: int) -> None:
    with contextlib.suppress(OSError):
        connection.send(json.dumps(answer).encode())


def be(request: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """Be the command, from here to the end of the process."""
    code = 1
    try:
        exits.forget_handlers()
        os.setpgid(0, request["group"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        _take(files, request["files"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        seed_anew()
        code = _run(request["words"])
    except SystemExit as error:
        code = _code(error)
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        exits.end_fork(code)


def _run(words: Sequence[str]) -> int:
    """Do what ``python -m`` does with these words."""
    from tests.support import served

    served.replace_popen()
    module, *arguments = words
    found = importlib.util.find_spec(module)
    is_package = found is not None and found.submodule_search_locations is not None
    sys.modules.pop(f"{module}.__main__" if is_package else module, None)  # its name is another now
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _take(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give the descriptors that came along the numbers that they had, and make the streams anew."""
    high = []
    for file in files:
        high.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, FREE))
        os.close(file)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    _close_all_but({0, 1, 2, *numbers})
    sys.stdin = _stream(io.BufferedReader(io.FileIO(0, "r", closefd=False)), like=sys.stdin)
    sys.stdout = _stream(io.FileIO(1, "w", closefd=False), like=sys.stdout)
    sys.stderr = _stream(io.FileIO(2, "w", closefd=False), like=sys.stderr)
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def _stream(file: Any, *, like: Any) -> io.TextIOWrapper:
    is_raw = like.write_through or file.readable()  # as PYTHONUNBUFFERED says of what is written
    return io.TextIOWrapper(
        file if is_raw else io.BufferedWriter(file),
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=like.line_buffering or (file.isatty() and not like.write_through),
        write_through=like.write_through,
    )


def _close_all_but(kept: Collection[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # that of the listing
                os.close(int(name))


if __name__ == "__main__":
    from tests.support import server  # as those that it forks know it

    server.serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
