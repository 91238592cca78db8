"""How a run ended: what a child process tells its parent, and what a sweep counts."""

import json
import signal
from dataclasses import asdict, dataclass

EXIT_CODES = {
    "done": 0,
    "diverged": 1,
    "failed": 1,
    "out_of_memory": 1,
    "interrupted": 130,
    "refused": 2,  # no status of a run: the user's input stood in its way
}
# Signals that say nothing about the run itself: it goes on where it was when asked again.
_FROM_OUTSIDE = (
    *(signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


class PreparationError(Exception):
    """What a run needs before it can train could not be had; the run ends by it.

    Args:
        reason: One line.
        status: That of the run, one of ``record.STATUSES``.
    """

    def __init__(self, reason: str, *, status: str = "failed") -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Outcome:
    """One run's end, or that of an earlier attempt which stands.

    Attributes:
        run_id: Id of the run.
        label: The run in a few words.
        status: How it ended.
        reason: Why, where it is not done.
        skipped: Whether it ended in an earlier attempt.
        result: Metric, unit and seconds, as they are shown; empty where not known.
    """

    run_id: str
    label: str
    status: str
    reason: str | None = None
    skipped: bool = False
    result: str = ""

    def told(self) -> str:
        """Say it in a line that ends with the run's id.

        Example:
            >>> Outcome("0041ccdca88e", "digits sgd seed 0", "failed", "why").told()
            'failed (why), run 0041ccdca88e'
        """
        why = f" ({self.reason})" if self.reason else ""
        return ", ".join(filter(None, (f"{self.status}{why}", self.result, f"run {self.run_id}")))

    def to_line(self) -> str:
        """Write the outcome as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> "Outcome":
        """Read back ``to_line``."""
        return Outcome(**json.loads(line))


def judge(code: int, *, for_memory: bool, process: str) -> tuple[str, str]:
    """Status and reason of a run whose process died.

    Args:
        code: The exit code of the process.
        for_memory: Whether the system killed a process for memory meanwhile.
        process: The process, in words.

    Example:
        >>> judge(-9, for_memory=False, process="the run's process")
        ('interrupted', "the run's process was killed by SIGKILL")
    """
    if code >= 0:
        return "failed", f"{process} ended with exit code {code}"
    if -code == signal.SIGKILL and for_memory:
        return "out_of_memory", f"the system killed {process} for its memory"
    status = "interrupted" if -code in _FROM_OUTSIDE else "failed"
    return status, f"{process} was killed by {signal.Signals(-code).name}"
