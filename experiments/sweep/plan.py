"""What a sweep would do: `python -m experiments plan` with the overrides of the sweep.

It composes every job and reads the records; nothing is written, trained or loaded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import commandline, compose, grids
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import FAULTS, Run, is_to_run
from experiments.records.states import RunState, run_states
from experiments.sweep import estimate
from experiments.sweep.estimate import RunCost
from experiments.sweep.status import aligned
from experiments.system import cores
from experiments.system.output import say

_N_JOBS = "hydra.launcher.n_jobs"


@dataclass(frozen=True)
class Job:
    """One run of the sweep.

    Attributes:
        run_id: Its id.
        label: It in a few words, with the overrides that set it apart.
        config: Its resolved config.
        state: ``to do``, or one of ``records.states.STATES``.
        run: Its record, if there is one.
    """

    run_id: str
    label: str
    config: RunConfig
    state: str
    run: Run | None

    @property
    def is_open(self) -> bool:
        """Whether the sweep would train it."""
        return is_to_run(self.state, retry=self.config.retry)


@dataclass(frozen=True)
class Plan:
    """A sweep and what is known of it.

    Attributes:
        jobs: Its runs, in order and each once.
        side_by_side: How many run at once.
        runs_dir: Where the records are.
        known: The cost of each setting of the jobs, as far as records or a calibration tell.
    """

    jobs: list[Job]
    side_by_side: int
    runs_dir: Path
    known: Mapping[estimate.Setting, RunCost]


def main(words: Sequence[str]) -> int:
    """Print the jobs, how many of them are done, and what the others will take."""
    say(*report(plan([word for word in words if word not in ("-m", "--multirun")])))
    return 0


def plan(overrides: list[str]) -> Plan:
    """Compose the jobs of a sweep, and look for their records and for those of runs like them.

    Args:
        overrides: Those of the sweep, as typed.

    Raises:
        UserError: If a job does not compose.
    """
    overrides = commandline.normalise(overrides)
    composed: dict[str, tuple[str, RunConfig]] = {}
    for grid in grids.spelled_out(overrides):
        for label, config in _labelled(grid):
            composed.setdefault(config.run_id, (label, config))
    first = next(iter(composed.values()))[1]
    runs_dir = first.runs_dir
    found = {item.run_id: item for item in run_states(runs_dir)}
    runs = [item.run for item in found.values() if item.run is not None]
    known = estimate.costs([*runs, *estimate.short_runs(runs_dir)])
    for _, config in composed.values():
        if estimate.setting(config) not in known:
            known = estimate.calibrated(config, runs_dir) | known
    jobs = [
        Job(run_id, label, config, *_state(found.get(run_id)))
        for run_id, (label, config) in composed.items()
    ]
    return Plan(jobs, _side_by_side(overrides, first), runs_dir, known)


def _labelled(grid: list[str]) -> Iterator[tuple[str, RunConfig]]:
    """Yield the label and the config of every job of a grid."""
    listed = list(compose.listed(grid))
    counts = Counter(item for job, _ in listed for item in job)
    varied = {item for item, count in counts.items() if count < len(listed)}
    for job, config in listed:
        yield _label(config, [item for item in job if item in varied]), config


def report(found: Plan) -> Iterator[str]:
    """Write the plan as lines of text."""
    open_jobs = [job for job in found.jobs if job.is_open]
    seconds = {
        job.run_id: estimate.seconds_left(job.config, job.run, found.known) for job in open_jobs
    }
    rows = [["run", "state", "hours", "job"]]
    for job in found.jobs:
        hours = _hours(seconds[job.run_id]) if job.is_open else "-"
        rows.append([job.run_id, job.state, hours, job.label])
    yield from aligned(rows)
    counts = Counter(job.state for job in found.jobs if not job.is_open)
    parts = [f"{count} {state}" for state, count in sorted(counts.items())]
    yield f"sweep of {len(found.jobs)}: {', '.join([*parts, f'{len(open_jobs)} to do'])}"
    if any(counts[state] for state in FAULTS):
        yield "  `retry=true` runs what failed again"
    if open_jobs:
        yield _time(list(seconds.values()), found.side_by_side)
        yield _disk(open_jobs, found.known, found.side_by_side)
    for job in {estimate.setting(job.config): job for job in open_jobs}.values():
        yield from _source(job, found, seconds[job.run_id])


def _source(job: Job, found: Plan, seconds: float | None) -> Iterator[str]:
    """Say where the estimate of a setting comes from, or how to get one."""
    key = estimate.setting(job.config)
    name = "  {} {} {} batch {} {}".format(*key) + (f" {key[5]}" if key[5] else "")
    cost = found.known.get(key)
    if cost is None:
        yield f"{name}: unknown, no run of it is in {found.runs_dir}. A short one tells:"
        yield f"    {_short_run(job.config, found.runs_dir)}"
        return
    line = f"{name}: {cost.seconds_per_step:.3g} s a step, from {cost.source}"
    yield line + ("; the number of steps is unknown" if seconds is None else "")


def _state(found: RunState | None) -> tuple[str, Run | None]:
    return ("to do", None) if found is None else (found.state, found.run)


def _label(config: RunConfig, varied: list[str]) -> str:
    named = ("task=", "optimizer=", "seed=", "control=")
    return " ".join([config.label, *(item for item in varied if not item.startswith(named))])


def _side_by_side(overrides: list[str], config: RunConfig) -> int:
    given = dict(item.partition("=")[::2] for item in overrides)
    by_hand = given.get(_N_JOBS)
    count = config.jobs if by_hand is None else by_hand
    try:
        jobs = int(count)
    except (TypeError, ValueError):
        raise UserError(f"Invalid jobs: {count!r}. Must be a whole number >= 1.") from None
    if by_hand is not None and jobs < 0:  # joblib's way to count from the cores
        return cores.side_by_side(jobs)
    if jobs < 1:
        raise UserError(f"Invalid jobs: {count}. Must be a whole number >= 1.")
    return jobs


def _time(seconds: list[float | None], jobs: int) -> str:
    certain = [duration for duration in seconds if duration is not None]
    if not certain:
        return "time: unknown"
    line = f"time: {_hours(sum(certain))} h of training one after another"
    if jobs > 1:
        line += f", {_hours(3600 * estimate.hours_side_by_side(certain, jobs))} h with jobs={jobs}"
    unknown = len(seconds) - len(certain)
    return line + (f"; without {unknown} of unknown cost" if unknown else "")


def _disk(jobs: Sequence[Job], known: Mapping[estimate.Setting, RunCost], side_by_side: int) -> str:
    found = [known.get(estimate.setting(job.config)) for job in jobs]
    records = [cost.record_bytes for cost in found if cost and cost.record_bytes is not None]
    checkpoints = [cost.checkpoint_bytes for cost in found if cost and cost.checkpoint_bytes]
    if not records and not checkpoints:
        return "disk: unknown"
    # A checkpoint is written beside the one that it replaces.
    under_way = 2 * sum(sorted(checkpoints)[-side_by_side:])
    line = f"disk: {_megabytes(sum(records))} of records, {_megabytes(under_way)} of checkpoints"
    unknown = len(jobs) - len(records)
    return line + " under way" + (f"; without {unknown} of unknown size" if unknown else "")


def _short_run(config: RunConfig, runs_dir: Path) -> str:
    words = [
        f"task={config.task.name}",
        f"model={config.model.name}",
        f"optimizer={config.optimizer.name}",
        f"task.batch_size={config.task.batching.batch_size}",
        *([] if config.precision == "fp32" else [f"precision={config.precision}"]),
        *([] if config.loss_scale is None else [f"loss_scale={config.loss_scale}"]),
        "budget=steps budget.steps=30 tracking=none",
        f"data_dir={config.data_dir}",
        f"runs_dir={runs_dir / estimate.SHORT_RUNS}",
    ]
    return " ".join(["python -m experiments.train", *words])


def _hours(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds / 3600:.2f}" if seconds >= 36 or seconds == 0 else "<0.01"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB"
