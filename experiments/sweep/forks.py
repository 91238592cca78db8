"""Starts the process of a run: forked from one that has loaded everything, or by exec.

A process that starts runs keeps one server for them, with the environment of the runs, which the
libraries below torch read at exec. A run whose environment is another one gets another server.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from experiments.run.display import PLAIN_VARIABLE
from experiments.sweep.forkserver import MESSAGE_BYTES
from experiments.system import cores
from experiments.system.log import SAID_VARIABLE
from experiments.system.output import say

ROOT = Path(__file__).parents[2]
# Read by Python, when they are needed: these alone may differ between runs of one server.
_OF_A_RUN = (cores.VISIBLE, PLAIN_VARIABLE, SAID_VARIABLE)
_MOST_DEATHS = 2


class Process(Protocol):
    """What of ``subprocess.Popen`` both kinds have."""

    returncode: int

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""


def start(
    request: Path, environment: Mapping[str, str], *, modules: Sequence[str] | None
) -> Process:
    """Start the process of a run.

    Args:
        request: The file that tells it what to do, for ``experiments.sweep.child``.
        environment: Its variables.
        modules: What a server loads before it forks; None: an interpreter of its own.
    """
    if modules is not None and sys.platform == "linux":
        forked = _Servers.ours().fork(request, environment, modules)
        if forked is not None:
            return forked
    return _fresh(request, environment)


def _fresh(request: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep.child", str(request)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def prepare(environment: Mapping[str, str], name: str) -> None:
    """Start the server of runs that will be asked for, which loads what they need meanwhile.

    Args:
        environment: The variables of the runs.
        name: For whoever lists the processes.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # told of when the first run is asked for
            _Servers.ours().prepare(environment, name)


def end(*, at_once: bool = False) -> None:
    """End the server of this process, if it has one.

    Args:
        at_once: Without waiting for what it is about, which is no run.
    """
    _Servers.ours().end(at_once=at_once)


class _Server:
    """A server that runs, and the channel to it."""

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        self.environment = environment
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.enter_context(ours)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "experiments.sweep.forkserver", str(theirs.fileno()), name],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
            unless_started.pop_all()
        self.channel = ours

    def end(self, *, at_once: bool = False) -> None:
        self.channel.close()
        if at_once:
            self.process.kill()
        self.process.wait()


class _Servers:
    """The one server of this process, replaced where another environment is needed."""

    _kept: "_Servers | None" = None

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.server: _Server | None = None
        self.deaths = 0

    @classmethod
    def ours(cls) -> "_Servers":
        """Give the one of this process: after a fork, the parent's is not ours."""
        if cls._kept is None or cls._kept.pid != os.getpid():
            cls._kept = cls()
        return cls._kept

    def end(self, *, at_once: bool = False) -> None:
        if self.server is not None:
            self.server.end(at_once=at_once)
            self.server = None

    def prepare(self, environment: Mapping[str, str], name: str) -> "_Server":
        """Give the server for an environment."""
        lasting = {key: text for key, text in environment.items() if key not in _OF_A_RUN}
        if self.server is not None and self.server.environment != lasting:
            self.end()
        if self.server is None:
            self.server = _Server(lasting, name)
        return self.server

    def fork(
        self, request: Path, environment: Mapping[str, str], modules: Sequence[str]
    ) -> "Forked | None":
        """Ask for a run; None where a server cannot give it."""
        if self.deaths >= _MOST_DEATHS:
            return None
        try:
            server = self.prepare(environment, str(request.parent))
            variables = {name: environment.get(name) for name in _OF_A_RUN}
            asked = {"request": str(request), "variables": variables, "modules": list(modules)}
            server.channel.send(json.dumps(asked).encode())
        except OSError:  # it died while it had no run
            self.end(at_once=True)
            self.deaths += 1
            return None
        return Forked(self, server, request, environment)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Forked:
    """A run that a server has forked, or is about to, while it loads what it needs.

    Where the server cannot give it, it is one with an interpreter of its own.
    """

    def __init__(
        self, servers: _Servers, server: _Server, request: Path, environment: Mapping[str, str]
    ) -> None:
        self.returncode = 0
        self._servers, self._server = servers, server
        self._of_its_own = lambda: _fresh(request, environment)
        self._instead: subprocess.Popen[bytes] | None = None
        self._gone: int | None = None  # a descriptor that is ready when the run is gone
        self._has_ended = False
        self._is_orphan = False  # its server was killed, and it may still be saving

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._instead is not None:
                self._ends_with(self._instead.wait(left))
            elif select.select([self._source()], [], [], left)[0]:
                if self._is_orphan:
                    self._servers.end(at_once=True)
                    self._servers.deaths += 1
                    self._ends_with(-signal.SIGTERM)
                else:
                    self._hear()
            else:
                raise subprocess.TimeoutExpired("a run", timeout or 0.0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal; before the run is there, it ends as one that came while it loaded."""
        while not self._has_ended and self._gone is None and self._is_told():
            self._hear()
        if self._has_ended:
            return
        if self._instead is not None:
            self._instead.send_signal(sig)
        elif self._gone is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._gone, sig)  # once its server is gone, others reap it
        else:
            self._servers.end(at_once=True)
            self._ends_with(-sig)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _source(self) -> socket.socket | int:
        """Give what is ready when there is news: the run itself, once its server is gone."""
        return self._gone if self._is_orphan and self._gone is not None else self._server.channel

    def _is_told(self) -> bool:
        return self._instead is None and bool(select.select([self._server.channel], [], [], 0)[0])

    def _hear(self) -> None:
        with _undisturbed():  # a message that a Ctrl-C swallows would be waited for without end
            try:
                message = self._server.channel.recv(MESSAGE_BYTES)
            except OSError:
                message = b""
            answer = json.loads(message) if message else {}
            if "pid" in answer:
                with contextlib.suppress(ProcessLookupError):  # gone already, and its server too
                    self._gone = os.pidfd_open(answer["pid"])
                return
            if "code" in answer:
                self._servers.deaths = 0
                with contextlib.suppress(OSError):
                    self._server.channel.send(b"seen")
                self._ends_with(answer["code"])
                return
        if self._gone is None:  # refused, or the server died before there was a run
            why = answer.get("refused", "the process that was to fork them has ended")
            say(f"runs get an interpreter each: {why}", error=True)
            self._servers.end(at_once=True)
            self._servers.deaths = _MOST_DEATHS
            self._instead = self._of_its_own()
        else:
            # The server was killed. The system tells its run, which finishes its step and saves.
            self._is_orphan = True

    def _ends_with(self, code: int) -> None:
        self._has_ended, self.returncode = True, code
        if self._gone is not None:
            os.close(self._gone)
            self._gone = None
