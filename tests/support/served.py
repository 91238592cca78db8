"""Commands of the suite, forked from a server that has loaded what they load: ``run`` for most.

A server (``tests.support.server``) serves all workers of a test session and what they start, for
one environment as far as libraries read it when they are loaded; another one has a server of its
own. What is no ``python -m`` of the suite, or asks for what only exec gives, ``subprocess`` starts.
Where a test is about the start itself, call ``subprocess``.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import server

ROOT = Path(__file__).resolve().parents[2]
# What Python, glibc and libraries read when they are loaded: beginnings of names.
READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "HOME", "PATH", "TZ", "TMPDIR", "XDG_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "TORCH", "PYTORCH"),
    *("CUDA_", "CUBLAS_", "NVIDIA_", "TRITON_", "MPL", "HYDRA_", "HF_"),
)
STARTS_WITHIN_SECONDS = 120.0
CAN_SERVE = sys.platform == "linux" and hasattr(os, "pidfd_open")


def run(command: Sequence[object], **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run a command to its end, as ``subprocess.run`` does."""
    words = [str(word) for word in command]
    check, timeout = options.pop("check", False), options.pop("timeout", None)
    is_text, captures = options.pop("text", False), options.pop("capture_output", False)
    if captures:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if not is_served(words, options):
        return subprocess.run(words, check=check, timeout=timeout, text=is_text, **options)
    with contextlib.ExitStack() as files:
        told = {
            name: files.enter_context(tempfile.TemporaryFile())
            for name in ("stdout", "stderr")
            if options.get(name) == subprocess.PIPE
        }
        process = Served(words, **(options | told))
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        read = {name: _read(file, is_text=is_text) for name, file in told.items()}
    done = subprocess.CompletedProcess(
        words, process.wait(), read.get("stdout"), read.get("stderr")
    )
    if check:
        done.check_returncode()
    return done


def is_served(words: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Tell whether a fork does for a command what exec would."""
    return (
        CAN_SERVE
        and list(words[:2]) == [sys.executable, "-m"]
        and package_of(words) in server.LOADED
        and not set(options) - {"cwd", "env", "stdin", "stdout", "stderr", "pass_fds"}
        and Path(options.get("cwd") or Path.cwd()) == ROOT
    )


def package_of(words: Sequence[str]) -> str:
    """Give the package of the module that a command runs."""
    return words[2].partition(".")[0]


class Served:
    """A command that a server has forked: what ``subprocess.Popen`` has of a process.

    Args:
        words: The command, as ``Popen`` takes it.
        options: Of ``Popen``: ``cwd``, ``env``, ``pass_fds``, and files for the streams.
    """

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        self.args = words
        sys.audit("subprocess.Popen", words[0], words, options.get("cwd"), options.get("env"))
        self.returncode: int | None = None
        environment = dict(os.environ if options.get("env") is None else options["env"])
        request = {
            "words": words[2:],
            "environment": environment,
            "folder": str(options.get("cwd") or Path.cwd()),
            "group": os.getpgrp(),
            "ignored": [
                int(number)
                for number in signal.valid_signals()
                if number not in (signal.SIGPIPE, signal.SIGXFSZ)
                and signal.getsignal(number) == signal.SIG_IGN
            ],
            "files": [0, 1, 2, *options.get("pass_fds", ())],
        }
        with contextlib.ExitStack() as opened:
            files = [
                _descriptor(options.get(name), number, opened)
                for number, name in enumerate(("stdin", "stdout", "stderr"))
            ]
            self._channel = _connected(package_of(words), environment)
            message = json.dumps(request).encode()
            socket.send_fds(self._channel, [message], [*files, *options.get("pass_fds", ())])
        self.pid: int = self._heard()["pid"]

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0.0)
            self.returncode = self._heard()["code"]
            self._channel.close()
        return self.returncode

    def poll(self) -> int | None:
        """Give the exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _heard(self) -> dict[str, int]:
        message = self._channel.recv(server.MESSAGE_BYTES)
        if not message:
            raise OSError("the server of the tests' commands has ended")
        heard: dict[str, int] = json.loads(message)
        return heard


def replace_popen() -> None:
    """Have a command of this process get its own server of runs forked, too, where it starts one.

    For a process that a server has forked, and that shares nothing with its test: what it starts by
    ``subprocess.Popen`` but this is started by exec.
    """
    started = subprocess.Popen
    of_runs = [sys.executable, "-m", "experiments.sweep.forkserver"]

    class Popen(started):  # type: ignore[valid-type, misc]
        def __new__(cls, words: Any, *rest: Any, **options: Any) -> Any:
            is_of_runs = not isinstance(words, str) and list(words)[:3] == of_runs
            if is_of_runs and not rest and is_served(words, options):
                return Served(words, **options)
            return super().__new__(cls)

    subprocess.Popen = Popen  # type: ignore[assignment, misc]


def _descriptor(file: Any, number: int, opened: contextlib.ExitStack) -> int:
    if file is None:
        return number
    if file == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        opened.callback(os.close, null)
        return null
    return file if isinstance(file, int) else int(file.fileno())


def _read(file: Any, *, is_text: bool) -> Any:
    file.seek(0)
    content = file.read()
    return content.decode().replace("\r\n", "\n") if is_text else content


def _connected(package: str, environment: Mapping[str, str]) -> socket.socket:
    """Connect to the server of an environment, which is started if it is the first to need it."""
    read = {key: text for key, text in environment.items() if key.startswith(READ_AT_START)}
    name = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]
    folder = server.folder() / f"{package}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            return _connect(folder)
        with contextlib.suppress(OSError):
            (folder / server.SOCKET).unlink()
        ready, told = os.pipe()
        command = [sys.executable, "-m", server.__name__, package, folder, server.session(), told]
        with (folder / "log").open("w") as log:
            subprocess.run(
                list(map(str, command)),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[told],
                check=True,
            )
        os.close(told)
        with open(ready, "rb") as end:
            if not select.select([end], [], [], STARTS_WITHIN_SECONDS)[0] or not end.read(1):
                raise OSError(f"no server of commands: {(folder / 'log').read_text()}")
        return _connect(folder)


def _connect(folder: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(str(folder / server.SOCKET))
    except OSError:
        channel.close()
        raise
    return channel
