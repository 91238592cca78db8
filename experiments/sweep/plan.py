"""What a sweep would do: `python -m experiments plan` with the overrides of the sweep.

It composes every job and reads the records; nothing is written, trained or loaded. What it prints
fits a screen: totals, then a row a method and task, or a row a method where they are too many;
``each=true`` lists every run, and how to get every time that is not known. ``json=true``, or
``--json``, tells all of it to a program.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import commandline, compose, grids, named
from experiments.config.arguments import AS_JSON
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import FAULTS, Run
from experiments.records.states import RunState, run_states
from experiments.records.strict_json import dumps
from experiments.sweep import estimate, plan_table
from experiments.sweep.estimate import RunCost, Time
from experiments.sweep.plan_table import EACH, Job, duration
from experiments.sweep.status import aligned
from experiments.system import cores
from experiments.system.output import say

_N_JOBS = "hydra.launcher.n_jobs"
_SCREEN = (24, 80)  # lines and columns


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
    """Print how many of the jobs are done, and what the others will take."""
    found = plan([word for word in words if word not in ("-m", "--multirun", EACH, *AS_JSON)])
    if not set(AS_JSON).isdisjoint(words):
        say(dumps(facts(found)))
    else:
        is_each = EACH in words
        say(*report(found, whole=is_each), *(each(found) if is_each else ()))
    return 0


def plan(overrides: list[str]) -> Plan:
    """Compose the jobs of a sweep, and look for their records and for those of runs like them.

    Args:
        overrides: Those of the sweep, as typed.

    Raises:
        UserError: If a job does not compose.
    """
    overrides = commandline.normalise(overrides)
    composed: dict[str, tuple[tuple[str, ...], RunConfig]] = {}
    for grid in grids.spelled_out(overrides):
        for varied, config in _varied(grid):
            composed.setdefault(config.run_id, (varied, config))
    first = next(iter(composed.values()))[1]
    runs_dir = first.runs_dir
    found = {item.run_id: item for item in run_states(runs_dir)}
    runs = [item.run for item in found.values() if item.run is not None]
    known = estimate.costs([*runs, *estimate.short_runs(runs_dir)])
    side_by_side = _side_by_side(overrides, first)
    lacking = {estimate.setting(config): config for _, config in composed.values()}
    for setting, config in lacking.items():
        if setting not in known:
            threads = cores.threads_of(config, side_by_side)  # as the sweep would measure it
            known = estimate.calibrated(config.having(threads=threads), runs_dir) | known
    if any(estimate.setting(config) not in known for _, config in composed.values()):
        known = estimate.golden() | known
    jobs = [
        Job(run_id, " ".join([config.label, *varied]), varied, config, *_state(found.get(run_id)))
        for run_id, (varied, config) in composed.items()
    ]
    return Plan(jobs, side_by_side, runs_dir, known)


def _varied(grid: list[str]) -> Iterator[tuple[tuple[str, ...], RunConfig]]:
    """Yield the config of every job of a grid, and what sets it apart that its label lacks."""
    listed = list(compose.listed(grid))
    counts = Counter(item for job, _ in listed for item in job)
    named = ("task=", "optimizer=", "seed=", "control=")
    varied = {item for item, count in counts.items() if count < len(listed)}
    for job, config in listed:
        yield tuple(item for item in job if item in varied and not item.startswith(named)), config


def report(found: Plan, *, whole: bool = False) -> list[str]:
    """Write the plan as lines of text, at most a screen of them.

    Args:
        found: The plan.
        whole: Whether how to get unknown times is told also where a screen has no room for it.
    """
    open_jobs = [job for job in found.jobs if job.is_open]
    told = list(_report(found, open_jobs))
    if places := _unknown(open_jobs, found):
        commands = list(_how_to_know(places, found.runs_dir))
        if not whole and _lines_on_screen([*told, *commands]) > _SCREEN[0]:
            rows = sum(map(len, places))
            commands = [f"  unknown: s a step in {rows} rows; {EACH} has the commands that tell"]
        told += commands
    return told


def _report(found: Plan, open_jobs: Sequence[Job]) -> Iterator[str]:
    times = {job.run_id: estimate.time_left(job.config, job.run, found.known) for job in open_jobs}
    seconds = {run_id: _total(time) for run_id, time in times.items()}
    counts = Counter(job.state for job in found.jobs if not job.is_open)
    parts = [f"{count} {state}" for state, count in sorted(counts.items())]
    yield f"sweep of {len(found.jobs)}: {', '.join([*parts, f'{len(open_jobs)} to do'])}"
    if any(counts[state] for state in FAULTS):
        yield "  `retry=true` runs what failed again"
    if open_jobs:
        yield from _time(list(times.values()), found.side_by_side)
        yield _disk(open_jobs, found.known, found.side_by_side)
    yield from plan_table.lines(found.jobs, seconds, found.known)
    yield from _sources(open_jobs, found)


def facts(found: Plan) -> dict[str, Any]:
    """Give the plan as plain values; what is not known is null."""
    rows: list[dict[str, Any]] = []
    for job in found.jobs:
        cost = found.known.get(estimate.setting(job.config))
        time = _time_of(job, found.known)
        rows.append(
            {
                "run_id": job.run_id,
                "state": job.state,
                "is_to_run": job.is_open,
                "task": job.config.task.name,
                "model": job.config.model.name,
                "optimizer": job.config.optimizer.name,
                "control": job.config.control,
                "seed": job.config.seed,
                "overrides": list(job.varied),
                "seconds": _total(time),
                "training_seconds": time and time.training,
                "evaluation_seconds": time and time.evaluation,
                "start_seconds": time and time.start,
                "seconds_per_step": cost and cost.seconds_per_step,
                "source": cost and cost.source,
            }
        )
    times = [row["seconds"] for row in rows if row["is_to_run"]]
    certain = [one for one in times if one is not None]
    return {
        "runs_dir": str(found.runs_dir),
        "jobs": found.side_by_side,
        "to_run": len(times),
        "states": dict(Counter(job.state for job in found.jobs)),
        "seconds": sum(certain),
        "seconds_side_by_side": estimate.seconds_side_by_side(certain, found.side_by_side),
        "of_unknown_cost": len(times) - len(certain),
        "runs": rows,
    }


def each(found: Plan) -> list[str]:
    """List every run."""
    rows = [["run", "state", "time", "job"]]
    for job in found.jobs:
        time = _time_of(job, found.known)
        left = _total(time)
        rows.append([job.run_id, job.state, duration(left) if job.is_open else "-", job.label])
    return aligned(rows)


def _time_of(job: Job, known: Mapping[estimate.Setting, RunCost]) -> Time | None:
    """Tell what a job still takes: nothing where the sweep would not train it."""
    if not job.is_open:
        return Time(0.0, 0.0, 0.0)
    return estimate.time_left(job.config, job.run, known)


def _total(time: Time | None) -> float | None:
    return None if time is None else time.total


def _sources(jobs: Sequence[Job], found: Plan) -> Iterator[str]:
    """Say where the step times come from."""
    keys = dict.fromkeys(estimate.setting(job.config) for job in jobs)
    costs = [cost for key in keys if (cost := found.known.get(key)) is not None]
    for source in dict.fromkeys(cost.source for cost in costs):
        mark = plan_table.mark(source)
        yield f"  {mark or 's a step'}: {source}"


def _unknown(jobs: Sequence[Job], found: Plan) -> list[list[Job]]:
    """Gather a job of each method whose time is not known, by what one command can measure."""
    keys = dict.fromkeys(estimate.setting(job.config) for job in jobs)
    unknown: dict[tuple[object, ...], list[Job]] = {}
    for job in {key: job for job in jobs if (key := estimate.setting(job.config)) in keys}.values():
        key = estimate.setting(job.config)
        if key not in found.known:
            unknown.setdefault((*key[:2], *key[3:]), []).append(job)
    return list(unknown.values())


def _how_to_know(places: Sequence[Sequence[Job]], runs_dir: Path) -> Iterator[str]:
    """Give the commands of short runs that tell what is not known."""
    for alike in places:
        names = ", ".join(job.config.optimizer.name for job in alike)
        many = f"{len(alike)} methods" if len(alike) > 3 else names
        yield f"  unknown on {alike[0].config.task.name}: {many}. Short runs tell:"
        yield f"    {_short_runs([job.config for job in alike], runs_dir)}"


def _lines_on_screen(told: Sequence[str]) -> int:
    """Count lines as a terminal shows them, which wraps the long ones."""
    return sum(-(-len(line) // _SCREEN[1]) or 1 for line in told)


def _state(found: RunState | None) -> tuple[str, Run | None]:
    return ("to do", None) if found is None else (found.state, found.run)


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


def _time(times: list[Time | None], jobs: int) -> Iterator[str]:
    certain = [one for one in times if one is not None]
    if not certain:
        yield "time: unknown"
        return
    totals = [time.total for time in certain]
    line = f"time: {duration(sum(totals))} one after another"
    if jobs > 1:
        line += f", {duration(estimate.seconds_side_by_side(totals, jobs))} with jobs={jobs}"
    unknown = len(times) - len(certain)
    yield line + (f"; without {unknown} of unknown cost" if unknown else "")
    parts = [f"{duration(sum(time.training for time in certain))} of training"]
    lacking: list[str] = []
    for what, seconds in (
        ("evaluation", [time.evaluation for time in certain]),
        ("start", [time.start for time in certain]),
    ):
        told = [one for one in seconds if one is not None]
        parts += [f"{duration(sum(told))} of {what}"] * bool(told)
        lacking += [f"{what} of {len(seconds) - len(told)}"] * (len(told) < len(seconds))
    untold = f"; no run tells the {' and the '.join(lacking)}" if lacking else ""
    yield f"  {', '.join(parts)}{untold}"


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


def _short_runs(configs: Sequence[RunConfig], runs_dir: Path) -> str:
    config, methods = configs[0], ",".join(config.optimizer.name for config in configs)
    words = [
        *named.spelled([f"task={config.task.name}"]),
        f"model={config.model.name}",
        *named.spelled([f"optimizer={methods}"]),
        f"task.batch_size={config.task.batching.batch_size}",
        *_typed(config),
        *([] if config.precision == "fp32" else [f"precision={config.precision}"]),
        *([] if config.loss_scale is None else [f"loss_scale={config.loss_scale}"]),
        "budget=steps budget.steps=30 evaluate_test=true tracking=none",
        f"data_dir={config.data_dir}",
        f"runs_dir={runs_dir / estimate.SHORT_RUNS}",
    ]
    sweep = ["-m"] if len(configs) > 1 else []
    return " ".join(["python -m experiments.train", *sweep, *words])


def _typed(config: RunConfig) -> Iterator[str]:
    """List overrides that give task, tokenization and model the values of a config."""
    choices = {"task": config.task.name, "model": config.model.name}
    if config.tokenization is not None:
        choices["tokenization"] = config.tokenization.name
    usual = compose.composed([f"{group}={name}" for group, name in choices.items()])
    for group in choices:
        if group == "tokenization":
            yield f"tokenization={choices[group]}"
        theirs = getattr(usual, group).arguments
        for key, value in getattr(config, group).arguments.items():
            is_said = f"{group}.{key}" == "task.batch_size"
            if not is_said and value != theirs.get(key):
                yield f"{group}.{key}={commandline.quoted(value)}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB"
