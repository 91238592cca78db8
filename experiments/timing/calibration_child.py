"""Measures the methods of a setting: `-m experiments.timing.calibration_child`, jobs on stdin.

The process ends after it, so that neither its memory nor its random streams touch a run. It tells
the calibrations on standard error; the last line of its standard output is a list of JSON with, for
each job, null, or a status and the reason why its method could not be measured.
"""

import signal

if __name__ == "__main__":
    # Ctrl-C ends the process without a traceback: whoever waits for it tells what there is to tell.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import fcntl
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import torch
import yaml

from experiments.config import commandline
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine import determinism, failures
from experiments.engine.build import build_task
from experiments.errors import refusal
from experiments.records.calibration import Calibration, lines, read
from experiments.records.store import write_atomic
from experiments.system import exits, memory
from experiments.system.output import say
from experiments.tasks.task import Task
from experiments.timing import calibration_key, calibration_rounds, calibration_start
from experiments.timing.calibration_process import REFUSED

Answer = tuple[str, str] | None  # status and reason; None: measured
REFRESH_KEYS = ("interval", "update_interval", "precondition_frequency")
"""How methods call the number of steps between two refreshes of their curvature."""


def main() -> int:
    """Measure what the cache lacks; returns the exit code."""
    request = json.load(sys.stdin)
    exits.end_with_parent(request["parent"])
    memory.limit(None)  # where memory ends, this process is to go before the sweep's
    cache = Path(request["runs_dir"]) / calibration_key.CACHE_DIR
    cache.mkdir(parents=True, exist_ok=True)
    jobs = [RunConfig.of(values) for values in request["jobs"]]
    assert jobs[0].threads is not None  # whoever asks has counted them
    torch.set_num_threads(jobs[0].threads)
    by_reference: dict[str, list[int]] = {}
    for index, reference in enumerate(request["references"]):
        by_reference.setdefault(json.dumps(reference, sort_keys=True), []).append(index)
    answer: list[Answer] = [None] * len(jobs)
    with determinism.strict(jobs[0].deterministic), _turn(cache):
        for reference, indices in by_reference.items():
            configs = [jobs[index] for index in indices]
            try:
                measured = _measure(configs, MethodSection.of(json.loads(reference)), cache)
            except OSError as error:
                if (line := refusal(error)) is None:
                    raise
                measured = [(REFUSED, line)] * len(configs)
            for index, one in zip(indices, measured, strict=True):
                answer[index] = one
    print(json.dumps(answer), flush=True)
    return 0


def cycle(method: MethodSection) -> int:
    """Count the steps from one refresh of the curvature to the next; 1 without such a key."""
    periods = (method.arguments.get(key) for key in REFRESH_KEYS)
    found = [period for period in periods if isinstance(period, int)]
    return max(found, default=1)


def published_ratio(config: RunConfig) -> float | None:
    """Give the cost of a step in steps of AdaFisher that the paper's epochs imply."""
    model = yaml.safe_load((commandline.CONF / "model" / f"{config.model.name}.yaml").read_text())
    family = next(
        choice["override /family@_global_.family"]
        for choice in model["defaults"]
        if "override /family@_global_.family" in choice
    )
    table = yaml.safe_load((commandline.CONF / "paper" / "seconds_per_step.yaml").read_text())
    ratio: float | None = table[family].get(config.optimizer.published_as)
    return ratio


@contextlib.contextmanager
def _turn(cache: Path) -> Iterator[None]:
    """Wait until no other process measures: two at once would measure each other."""
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
        yield


def _measure(configs: list[RunConfig], reference: MethodSection, cache: Path) -> list[Answer]:
    """Measure methods against one reference, and write down what they cost."""
    facts = calibration_key.machine(configs[0])
    keys = [calibration_key.key(config, reference, facts) for config in configs]
    wanted = {
        key: config
        for key, config in reversed(list(zip(keys, configs, strict=True)))
        if read(cache / f"{key}.json") is None
    }
    if not wanted:
        return [None] * len(configs)
    standard = configs[0].having(optimizer=reference.values)
    standard_key = calibration_key.key(standard, reference, facts)
    methods = {standard_key: standard} | wanted
    failures: dict[str, tuple[str, str]] = {}

    def failed(key: str, error: Exception) -> None:
        name = methods[key].optimizer.name
        status, reason = _judge(error)
        failures[key] = (status, f"{name}{', the reference' * (key == standard_key)}: {reason}")

    try:
        task = build_task(standard)
    except Exception as error:
        failed(standard_key, error)
    else:
        say(f"calibration: {len(methods)} methods on {task.name} take turns", error=True)
        _take_turns(methods, wanted, standard_key, task, cache, failed)
    lost = failures.get(standard_key)
    return [failures.get(key, lost) if key in wanted else None for key in keys]


def _take_turns(
    methods: Mapping[str, RunConfig],
    wanted: Collection[str],
    standard_key: str,
    task: Task,
    cache: Path,
    failed: Callable[[str, Exception], None],
) -> None:
    def is_worth(left: Collection[str]) -> bool:
        return standard_key in left and any(key in left for key in wanted)

    steppers = {}
    for key, config in methods.items():
        try:
            steppers[key] = calibration_start.stepper(config, task)
        except Exception as error:
            failed(key, error)
    times = calibration_rounds.run(
        steppers,
        {key: cycle(config.optimizer) for key, config in methods.items()},
        failed=failed,
        is_worth=is_worth,
    )
    # By now torch has what it compiles in its cache, where the runs will find it; they will find no
    # memory that is taken.
    steppers.clear()
    memory.give_back()
    for key in list(times):
        try:
            times[key].start = calibration_start.seconds(methods[key])
        except Exception as error:
            del times[key]
            failed(key, error)
    if not is_worth(times):
        return
    standard, standard_times = methods[standard_key], times[standard_key]
    own = calibration_rounds.cost(standard_times, standard_times)
    found = []
    for key, timed in times.items():
        cost = calibration_rounds.cost(timed, standard_times)
        found.append(
            Calibration(
                method=methods[key].optimizer.name,
                reference=standard.optimizer.name,
                seconds_per_step=cost.seconds,
                reference_seconds_per_step=own.seconds,
                ratio=cost.ratio,
                spread_percent=cost.spread_percent,
                between_runs_percent=cost.between_runs_percent,
                profile=tuple(cost.profile),
                reference_profile=tuple(own.profile),
                drift_percent=calibration_rounds.drift_percent(standard_times),
                rounds=len(timed.rounds),
                start=cost.start,
                reference_start=own.start,
                steps_per_epoch=standard.task.batching.steps_per_epoch(len(task.train)),
                published_ratio=published_ratio(methods[key]),
                setting=calibration_key.setting(methods[key]),
                machine=calibration_key.machine(standard),
            )
        )
        write_atomic(cache / f"{key}.json", found[-1].to_json())
    say(*lines(found), error=True)


def _judge(error: Exception) -> tuple[str, str]:
    """Status and reason, in one line."""
    line = refusal(error)
    return (REFUSED, line) if line is not None else failures.judge(error)


if __name__ == "__main__":
    sys.exit(main())
