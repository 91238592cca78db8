"""What a run will cost, from the records of runs like it: its seconds, and bytes on the disk."""

import dataclasses
import heapq
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import budget, identity
from experiments.config.run_config import RunConfig
from experiments.records.schema import BrokenRecordError, Run, load_environment
from experiments.records.states import run_states
from experiments.timing import calibration, calibration_key

SHORT_RUNS = ".plan"
"""Below the runs folder: where short runs may lie that are made for their cost, and in no table."""

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "runs" / "sweep"
GOLDEN_SOURCE = "golden records"


class Setting(NamedTuple):
    """What decides a cost: the runs that share it are alike.

    Attributes:
        task: Name; as ``model`` and ``optimizer``.
        batch_size: Of all processes together.
        precision: As the config has it.
        tokenization: In words, None: no text.
        further: Every other value that does: of the model's, the task's and other sections, the
            parts of train and validation among them; None in records that have no protocol.
    """

    task: str
    model: str
    optimizer: str
    batch_size: int | None
    precision: str
    tokenization: str | None
    further: str | None


@dataclass(frozen=True)
class RunCost:
    """What the runs of one setting cost.

    Attributes:
        seconds_per_step: Of training, without evaluations.
        steps_per_epoch: None if it is not known.
        record_bytes: What a finished run leaves behind; None if none is finished.
        checkpoint_bytes: What a run under way holds besides.
        source: Where the numbers come from, in words.
        start_seconds: From the start of a run to its first step; None if it is not known.
        validation_seconds: Of a pass over validation; likewise.
        test_seconds: Of a pass over test; likewise.
        test_share: Of the evaluations those that looked at test.
    """

    seconds_per_step: float
    steps_per_epoch: int | None
    record_bytes: int | None
    checkpoint_bytes: int | None
    source: str
    start_seconds: float | None = None
    validation_seconds: float | None = None
    test_seconds: float | None = None
    test_share: float = 1.0


@dataclass(frozen=True)
class Time:
    """Seconds that a run still takes: of training, of evaluations, and of its start.

    None of the latter two where no record tells.
    """

    training: float
    evaluation: float | None = None
    start: float | None = None

    @property
    def total(self) -> float:
        """All that is known of it."""
        return self.training + (self.evaluation or 0.0) + (self.start or 0.0)


def setting(config: RunConfig, *, optimizer: str | None = None) -> Setting:
    """Gather what decides the cost of a step: the runs that share it are alike.

    Args:
        config: The resolved config.
        optimizer: Another method in the place of the config's.
    """
    return Setting(
        config.task.name,
        config.model.name,
        optimizer or config.optimizer.name,
        config.task.batching.batch_size,
        config.precision,
        identity.tokenization(config),
        _further(config.essence),
    )


def costs(runs: Iterable[Run]) -> dict[Setting, RunCost]:
    """Estimate the cost of every setting of which a run has trained.

    Args:
        runs: Records. Finished ones decide where a setting has any.
    """
    by_setting: dict[Setting, list[Run]] = {}
    for run in runs:
        if run.progress.get("step") and run.progress.get("train_seconds"):
            by_setting.setdefault(_setting_of(run), []).append(run)
    return {key: _cost(alike) for key, alike in by_setting.items()}


def short_runs(runs_dir: Path) -> list[Run]:
    """Find the runs that were made for their cost alone."""
    return [item.run for item in run_states(runs_dir / SHORT_RUNS) if item.run is not None]


def golden() -> dict[Setting, RunCost]:
    """Find what the runs that come with the suite tell, where it is a checkout: of their machine.

    Their ratios are told better by them than their seconds; yet seconds of another machine say
    more than nothing.
    """
    if not GOLDEN.is_dir():
        return {}
    runs = [item.run for item in run_states(GOLDEN) if item.run is not None]
    models = {_cpu_model(run) for run in runs} - {None}
    where = f", on {', '.join(sorted(map(str, models)))}" if models else ""
    source = f"{GOLDEN_SOURCE}{where}: elsewhere ratios hold better than seconds"
    return {key: dataclasses.replace(cost, source=source) for key, cost in costs(runs).items()}


def calibrated(config: RunConfig, runs_dir: Path) -> dict[Setting, RunCost]:
    """Find the cost of a config that no run tells of, and of its reference, if calibrated.

    Steps at equal time that were written down tell it of the machine that they were timed on.

    Args:
        config: The resolved config.
        runs_dir: Where the calibrations are kept.
    """
    listed = config.budget.get(budget.CALIBRATION)
    if listed is not None:
        measured = config.budget[budget.MEASURED]
        seconds = measured["methods"][config.optimizer.name]["seconds_per_step"]
        source = f"a calibration of {listed['date']} on {listed['machine']}"
        return {setting(config): RunCost(seconds, measured["steps_per_epoch"], None, None, source)}
    if not (runs_dir / calibration_key.CACHE_DIR).is_dir():  # else torch is loaded, for the machine
        return {}
    found = calibration.of_any_reference(config, runs_dir)
    if found is None:
        return {}

    def cost(seconds: float) -> RunCost:
        return RunCost(seconds, found.steps_per_epoch, None, None, "a calibration")

    return {
        setting(config, optimizer=found.reference): cost(found.reference_seconds_per_step),
        setting(config): cost(found.seconds_per_step),
    }


def time_left(config: RunConfig, run: Run | None, known: Mapping[Setting, RunCost]) -> Time | None:
    """Tell what a run still takes; None where that of its training cannot be told.

    Args:
        config: The resolved config.
        run: Its record, if it has begun.
        known: The cost of each setting, as far as it is known.
    """
    training = _training_left(config, run, known)
    if training is None:
        return None
    own = known.get(setting(config))
    steps = None if own is None else training / own.seconds_per_step
    # Beside its steps a run pays nearly the same for whatever method.
    others = [cost for key, cost in known.items() if _is_beside(key, setting(config))]
    found = [cost for cost in (own, *others) if cost is not None]
    evaluations = (_evaluation_left(config, steps, cost) for cost in found)
    starts = (cost.start_seconds for cost in found)
    return Time(training, _first(evaluations), _first(starts))


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _training_left(
    config: RunConfig, run: Run | None, known: Mapping[Setting, RunCost]
) -> float | None:
    section, progress = config.budget, {} if run is None else run.progress
    if "train_seconds" in section:
        return max(0.0, float(section["train_seconds"]) - (progress.get("train_seconds") or 0.0))
    cost, step = known.get(setting(config)), progress.get("step") or 0
    if cost is not None and progress.get("total_steps"):
        return cost.seconds_per_step * max(0, progress["total_steps"] - step)
    if (reference := section.get("match_seconds")) is not None:
        cost = known.get(setting(config, optimizer=reference))
    if cost is None:
        return None
    total = _total_steps(section, cost.steps_per_epoch)
    return None if total is None else cost.seconds_per_step * total


def _evaluation_left(config: RunConfig, steps: float | None, cost: RunCost) -> float | None:
    """Tell how long the evaluations of so many steps take; None where that is not known."""
    batching, share = config.task.batching, cost.test_share
    if config.evaluate_test != "best":
        share = float(config.evaluate_test)
    every: float | None = batching.evaluate_every
    if every is None and cost.steps_per_epoch is not None:
        every = cost.steps_per_epoch / batching.evaluations_per_epoch
    test = 0.0 if share == 0 else cost.test_seconds
    if steps is None or every is None or cost.validation_seconds is None or test is None:
        return None
    return math.ceil(steps / every) * (cost.validation_seconds + share * test)


def _is_beside(one: Setting, other: Setting) -> bool:
    return one._replace(optimizer=other.optimizer) == other


def _total_steps(section: Mapping[str, Any], steps_per_epoch: int | None) -> int | None:
    """Count the steps that a budget allows at most, or its reference's; None where not known."""
    for key in ("steps", "reference_steps"):
        if section.get(key) is not None:
            return int(section[key])
    for key in ("epochs", "max_epochs", "reference_epochs"):
        if section.get(key) is not None and steps_per_epoch is not None:
            return int(section[key]) * steps_per_epoch
    return None


def seconds_side_by_side(seconds: Iterable[float], jobs: int) -> float:
    """Seconds until the last of the runs ends, each started as soon as a place is free.

    Example:
        >>> seconds_side_by_side([1.0, 1.0, 2.0], jobs=2)
        3.0
    """
    ends = [0.0] * jobs
    for duration in seconds:
        heapq.heappush(ends, heapq.heappop(ends) + duration)
    return max(ends)


def _setting_of(run: Run) -> Setting:
    facts = run.identity
    protocol = facts.get("protocol")
    return Setting(
        facts["task"],
        facts["model"],
        facts["optimizer"],
        facts.get("batch_size"),
        facts.get("precision", "fp32"),
        facts.get("tokenization"),
        _further(protocol) if protocol else None,
    )


def _further(essence: Mapping[str, Any]) -> str:
    task = essence.get("task") or {}
    looked_at = [task.get(key) for key in ("validation_limit", "eval_batch_size")]
    return json.dumps([calibration_key.cost_facts(essence), looked_at], sort_keys=True)


def _cost(alike: list[Run]) -> RunCost:
    finished = [run for run in alike if run.status == "done"]
    used = finished or alike
    per_epoch = [
        round(min(run.progress["step"] / run.progress["epoch"], 2.0**53))
        for run in used
        if run.progress.get("epoch")
    ]
    devices = sorted({device for run in used if (device := _device(run)) is not None})
    words = "runs"
    passes = [run for run in used if run.rows and "validation_seconds" in run.progress]
    looks = {run.run_id: _looks_at_test(run) for run in passes}
    return RunCost(
        statistics.median(run.progress["train_seconds"] / run.progress["step"] for run in used),
        max(1, int(statistics.median(per_epoch))) if per_epoch else None,
        max((_bytes_of(run.path) for run in finished), default=None),
        max((_checkpoint_bytes(run) for run in used), default=None),
        f"{words} on {', '.join(devices)}" if devices else words,
        start_seconds=_median(run.progress.get("start_seconds") for run in used),
        validation_seconds=_median(  # none without that split
            (run.progress["validation_seconds"] or 0.0) / len(run.rows) for run in passes
        ),
        test_seconds=_median(
            run.progress["evaluation_seconds"] / looks[run.run_id]
            for run in passes
            if looks[run.run_id]
        ),
        test_share=_median(looks[run.run_id] / len(run.rows) for run in passes) or 0.0,
    )


def _looks_at_test(run: Run) -> int:
    return sum(any(key.startswith("test_") for key in row) for row in run.rows)


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def _checkpoint_bytes(run: Run) -> int:
    """Weights and optimizer state, in float32."""
    summary = run.summary
    return 4 * int(summary.get("parameters") or 0) + int(summary.get("state_bytes") or 0)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _device(run: Run) -> str | None:
    return _environment(run, "device")


def _cpu_model(run: Run) -> str | None:
    return _environment(run, "cpu_model")


def _environment(run: Run, key: str) -> str | None:
    try:
        found: str | None = load_environment(run.path).get(key)
    except BrokenRecordError:
        return None
    return found
