"""How a run ended: what a child process tells its parent, and what a sweep counts."""

import json
from dataclasses import asdict, dataclass

EXIT_CODES = {
    "done": 0,
    "diverged": 1,
    "failed": 1,
    "out_of_memory": 1,
    "interrupted": 130,
    "refused": 2,  # no status of a run: the user's input stood in its way
}


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
    """One run's end, or that of an earlier attempt which stands."""

    run_id: str
    label: str
    status: str
    reason: str | None = None
    skipped: bool = False

    def to_line(self) -> str:
        """The outcome as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> "Outcome":
        """Read back ``to_line``."""
        return Outcome(**json.loads(line))
