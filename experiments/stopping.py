"""Requests to stop a run: Ctrl-C, a scheduler's SIGTERM, or SIGUSR1 before preemption."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether and by which signal a stop was requested."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.signal_name is not None

    @contextlib.contextmanager
    def listen(self) -> Iterator["StopRequest"]:
        """Note the signals instead of dying from them; a second Ctrl-C dies at once."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_name == "SIGINT":
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
