"""The record of a calibration: what a step of one method costs beside one of a reference."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.records.reading import BrokenRecordError, read_json
from experiments.records.tables import CALIBRATION

RUN_FILE = "calibration.json"
"""The copy in the folder of a run."""

HEADINGS = (
    f"  {'method':<22}{'reference':<22}{'ratio':>8}{'of CPU time':>13}{'spread':>9}{'noise':>9}"
    f"{'s a step':>11}{'paper':>7}"
)
"""What the columns of ``Calibration.line`` are."""


@dataclass(frozen=True)
class Calibration:
    """The mean step of one method beside that of a reference, over a cycle of its refreshes.

    What a run pays once is in neither. Records of before have it in numbers of their own, which are
    left out: a run that goes on from one takes the steps that its ratio gives.

    Attributes:
        method: Name in ``conf/optimizer``.
        reference: Likewise.
        seconds_per_step: Of the method.
        reference_seconds_per_step: Of the reference, in the same rounds.
        ratio: Cost of the method's step in steps of the reference: the median over the rounds, or
            the mean where a few of them are dear.
        spread_percent: Half the 95 % interval of that median, in percent of the ratio; how far
            mean and median are apart, where that is more (``steady.Cost.spread_percent``).
        rounds: How often each had its turn.
        steps_per_epoch: Steps in one pass over the training data.
        published_ratio: The ratio that the paper's epochs imply; None where there is none.
        setting: What was trained, and how.
        machine: What it was measured on.
        cpu_ratio: As ``ratio``, of processor time; None in records of before.
        noise_percent: How far the reference was from itself: of its second turn in each round over
            the first, the end of the 95 % interval of the median that is farther from 1; None in
            records of before.
    """

    method: str
    reference: str
    seconds_per_step: float
    reference_seconds_per_step: float
    ratio: float
    spread_percent: float
    rounds: int
    steps_per_epoch: int
    published_ratio: float | None
    setting: dict[str, Any]
    machine: dict[str, Any]
    cpu_ratio: float | None = None
    noise_percent: float | None = None

    def __post_init__(self) -> None:
        costs = (self.seconds_per_step, self.reference_seconds_per_step, self.ratio)
        if not all(math.isfinite(c) and c > 0 for c in costs) or self.steps_per_epoch < 1:
            raise ValueError("a calibration needs costs > 0")

    def steps(self, reference_steps: int) -> int:
        """Choose the number of steps whose time is nearest to the reference's; at least one."""
        return max(1, round(reference_steps / self.ratio))

    def reference_seconds(self, steps: int) -> float:
        """Training time that the reference takes for so many steps, in seconds."""
        return steps * self.reference_seconds_per_step

    def seconds(self, steps: int) -> float:
        """Training time that the method takes for so many steps, in seconds."""
        return steps * self.ratio * self.reference_seconds_per_step

    def to_json(self) -> bytes:
        """Write the calibration as the text of a file."""
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    def summary(self) -> dict[str, Any]:
        """Give what the status of a run tells of it."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """Write it as a row of a table, under ``HEADINGS``."""
        paper = "-" if self.published_ratio is None else f"{self.published_ratio:g}"
        cpu = "-" if self.cpu_ratio is None else f"{self.cpu_ratio:.3f}"
        noise = "-" if self.noise_percent is None else f"{self.noise_percent:.1f} %"
        return (
            f"  {self.method:<22}{self.reference:<22}{self.ratio:>8.3f}{cpu:>13}"
            f"{f'{self.spread_percent:.1f} %':>9}{noise:>9}{self.seconds_per_step:>11.3g}{paper:>7}"
        )


def read(path: Path) -> Calibration | None:
    """Read one file; None where there is none, or none that can be trusted."""
    try:
        facts = read_json(path, CALIBRATION)
    except BrokenRecordError:
        return None
    known = {one.name for one in dataclasses.fields(Calibration)}
    return Calibration(**{key: value for key, value in facts.items() if key in known})
