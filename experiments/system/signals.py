"""Requests to stop: Ctrl-C, a closed terminal, SIGTERM, or a SIGUSR before preemption."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

Handler = Callable[[int, FrameType | None], None]


class StopRequest:
    """Whether and by which signal a stop was requested."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __call__(self) -> bool:
        """Tell whether a stop was requested."""
        return self.signal_name is not None

    @contextlib.contextmanager
    def listen(self) -> Iterator["StopRequest"]:
        """Note the signals instead of dying from them; a second Ctrl-C dies at once."""
        with handled(self._note):
            yield self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_name == "SIGINT":
            raise KeyboardInterrupt
        self.signal_name = self.signal_name or signal.Signals(number).name


@contextlib.contextmanager
def handled(handler: Handler) -> Iterator[dict[int, Any]]:
    """Let ``handler`` have the signals; what had them before has them again afterwards.

    A signal that is ignored stays so: `nohup` ignores SIGHUP. Only a main thread may set handlers,
    in another nothing changes.

    Yields:
        The earlier handlers, by number.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield before
    finally:
        for which, earlier in before.items():
            signal.signal(which, earlier)
