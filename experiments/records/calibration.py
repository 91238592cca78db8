"""The record of a calibration: what a step of one method costs beside those of a reference."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.records.reading import BrokenRecordError, read_json
from experiments.records.tables import CALIBRATION

RUN_FILE = "calibration.json"
"""The copy in the folder of a run."""


@dataclass(frozen=True)
class Calibration:
    """Seconds a step of one method beside those of a reference.

    Attributes:
        method: Name in ``conf/optimizer``.
        reference: Likewise.
        seconds_per_step: Of the method, the mean over a cycle of its refreshes.
        reference_seconds_per_step: Of the reference, in the same rounds.
        ratio: Cost of the method's step in steps of the reference.
        spread_percent: Half the range of the rounds about ``ratio``, in percent of it.
        between_runs_percent: The same of rounds of the method beside other rounds of the reference:
            how far a run of one may be from a run of the other, at another time.
        profile: Costs of the steps of one cycle, in mean steps of the reference.
        reference_profile: Those of the reference; their mean is 1.
        drift_percent: Half the range of the rounds about the reference's own seconds: how much the
            machine's speed varied meanwhile.
        rounds: How often all methods had their turn.
        start: How much dearer than later ones the first steps of a run are, all together, in mean
            steps of the reference: what is compiled, loaded and set up once.
        reference_start: That of the reference.
        steps_per_epoch: Steps in one pass over the training data.
        published_ratio: The ratio that the paper's epochs imply; None where there is none.
        setting: What was trained, and how.
        machine: What it was measured on.
    """

    method: str
    reference: str
    seconds_per_step: float
    reference_seconds_per_step: float
    ratio: float
    spread_percent: float
    profile: tuple[float, ...]
    reference_profile: tuple[float, ...]
    drift_percent: float
    rounds: int
    steps_per_epoch: int
    published_ratio: float | None
    setting: dict[str, Any]
    machine: dict[str, Any]
    start: float = 0.0
    reference_start: float = 0.0
    between_runs_percent: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", tuple(self.profile))
        object.__setattr__(self, "reference_profile", tuple(self.reference_profile))
        costs = (self.seconds_per_step, self.reference_seconds_per_step, self.ratio)
        if not all(math.isfinite(c) and c > 0 for c in costs) or self.steps_per_epoch < 1:
            raise ValueError("a calibration needs costs > 0")
        for profile in (self.profile, self.reference_profile):
            if not all(math.isfinite(c) and c >= 0 for c in profile) or not sum(profile) > 0:
                raise ValueError("a profile needs costs >= 0")
        if not all(math.isfinite(c) and c >= 0 for c in (self.start, self.reference_start)):
            raise ValueError("a start costs >= 0")

    def steps(self, reference_steps: int) -> int:
        """Choose the number of steps whose time is nearest to the reference's; at least one."""
        whole = self.reference_start + _cost(self.reference_profile, reference_steps)
        wanted = max(0.0, whole - self.start)
        cycles = int(wanted // sum(self.profile))
        first = cycles * len(self.profile)
        near = range(max(1, first - 1), first + len(self.profile) + 2)
        return min(near, key=lambda steps: abs(_cost(self.profile, steps) - wanted))

    def reference_seconds(self, steps: int) -> float:
        """Training time that the reference takes for so many steps, in seconds."""
        units = self.reference_start + _cost(self.reference_profile, steps)
        return units * self.reference_seconds_per_step

    def seconds(self, steps: int) -> float:
        """Training time that the method takes for so many steps, in seconds."""
        return (self.start + _cost(self.profile, steps)) * self.reference_seconds_per_step

    def to_json(self) -> bytes:
        """Write the calibration as the text of a file."""
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    def summary(self) -> dict[str, Any]:
        """Give what the status of a run tells of it; profiles are in the run's file."""
        facts = dataclasses.asdict(self)
        return {key: value for key, value in facts.items() if not key.endswith("profile")}


def read(path: Path) -> Calibration | None:
    """Read one file; None where there is none, or none that can be trusted."""
    try:
        facts = read_json(path, CALIBRATION)
    except BrokenRecordError:
        return None
    known = {one.name for one in dataclasses.fields(Calibration)}
    return Calibration(**{key: value for key, value in facts.items() if key in known})


def lines(found: Sequence[Calibration]) -> list[str]:
    """Write a table of what was measured together."""
    first = found[0]
    where = f"{first.machine['device']}, {first.machine['processor']}"
    lines = [
        f"{first.setting['task']} {first.setting['model']}, batch {first.setting['batch_size']}, "
        f"{where}, {first.machine['threads']} threads: a step of {first.reference} takes "
        f"{first.reference_seconds_per_step:.4g} s (varied by {first.drift_percent:.1f} %)",
        f"  {'method':<22}{'steps of ' + first.reference:>22}{'spread':>10}"
        f"{'between runs':>14}{'start':>9}{'paper':>8}",
    ]
    for one in sorted(found, key=lambda one: one.ratio):
        paper = "-" if one.published_ratio is None else f"{one.published_ratio:g}"
        spread, between = f"{one.spread_percent:.1f} %", f"{one.between_runs_percent:.1f} %"
        start = f"{one.start * one.reference_seconds_per_step:.2f} s"
        lines.append(
            f"  {one.method:<22}{one.ratio:>22.3f}{spread:>10}{between:>14}{start:>9}{paper:>8}"
        )
    return lines


def _cost(profile: Sequence[float], steps: int) -> float:
    """Cost of the first ``steps`` steps, of which ``profile`` is one cycle."""
    cycles, rest = divmod(steps, len(profile))
    return cycles * sum(profile) + sum(profile[:rest])
