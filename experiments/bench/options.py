"""What every benchmark can be asked, whatever it measures."""

from dataclasses import dataclass
from pathlib import Path

from experiments.config import commandline


@dataclass(frozen=True)
class BenchOptions:
    """What all parts have.

    Attributes:
        part: Which benchmark; null: all of them.
        quick: The smallest sizes, and a few steps.
        device: As ``device`` of a run.
        threads: Threads of the CPU; null: torch's own number.
        out: Folder of ``bench/``, which gets the numbers.
    """

    part: str | None = None
    quick: bool = False
    device: str = "auto"
    threads: int | None = None
    out: Path = Path("out")

    def __post_init__(self) -> None:
        commandline.folder("out", self.out)
