"""Measures methods beside references: `-m experiments.timing.calibration_child`, jobs on stdin.

The process ends after it, so that neither its memory nor its random streams touch a run. It tells
what it finds on standard error. For each job its standard output gets a line of JSON as soon as it
is over: null, or a status and the reason why its method could not be measured.
"""

import signal

if __name__ == "__main__":
    # Ctrl-C ends the process without a traceback: whoever waits for it tells what there is to tell.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import fcntl
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine import determinism, failures
from experiments.engine.build import build_task
from experiments.engine.compute import pick_device
from experiments.errors import refusal
from experiments.records.calibration import HEADINGS, Calibration, read
from experiments.records.store import write_atomic
from experiments.system import exits, log, memory
from experiments.system.output import say
from experiments.tasks.task import Task
from experiments.timing import calibration_key, steady
from experiments.timing.calibration_process import REFUSED
from experiments.timing.steppers import published_ratio, steps_of


def main() -> int:
    """Measure what the cache lacks; returns the exit code."""
    request = json.load(sys.stdin)
    exits.end_with_parent(request["parent"])
    memory.limit(None)  # where memory ends, this process is to go before the sweep's
    cache = Path(request["runs_dir"]) / calibration_key.CACHE_DIR
    cache.mkdir(parents=True, exist_ok=True)
    jobs = [RunConfig.of(values) for values in request["jobs"]]
    references = [MethodSection.of(values) for values in request["references"]]
    assert jobs[0].threads is not None  # whoever asks has counted them
    torch.set_num_threads(jobs[0].threads)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    task: Task | None = None
    with determinism.strict(jobs[0].deterministic), _turn(cache):
        _tell("calibration: methods take turns with a reference", HEADINGS)
        for config, reference in zip(jobs, references, strict=True):
            answer = None
            try:
                task = build_task(config) if task is None else task
                _measure(config, reference, cache, task)
            except Exception as error:
                line = refusal(error)
                status, reason = failures.judge(error) if line is None else (REFUSED, line)
                if isinstance(error, steady.UnsteadyError):
                    reason = str(error)
                answer = status, f"{config.optimizer.name}: {reason}"
            memory.give_back()
            print(json.dumps(answer), file=answers, flush=True)
    return 0


@contextlib.contextmanager
def _turn(cache: Path) -> Iterator[None]:
    """Wait until no other process measures: two at once would measure each other."""
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
        yield


def _measure(config: RunConfig, reference: MethodSection, cache: Path, task: Task) -> None:
    """Measure one method beside its reference, and write down what its step costs."""
    facts = calibration_key.machine(config)
    path = cache / f"{calibration_key.key(config, reference, facts)}.json"
    if read(path) is not None:  # by another process, for whose turn this one has waited
        return
    standard = config.having(optimizer=reference.values)
    name, other = config.optimizer.name, reference.name
    methods = {other: steps_of(standard, task)}
    if calibration_key.key(standard, reference, facts) != path.stem:
        other = f"{other}, the reference" if other == name else other
        methods = {other: methods[reference.name], name: steps_of(config, task)}
    now = steady.clock(pick_device(config.device))
    costs = steady.measure(methods, reference=other, now=now)
    cost, itself = costs[name], costs[steady.ITSELF]
    found = Calibration(
        method=name,
        reference=reference.name,
        seconds_per_step=cost.ratio * costs[other].seconds.wall,
        reference_seconds_per_step=costs[other].seconds.wall,
        ratio=cost.ratio,
        cpu_ratio=cost.cpu_ratio,
        spread_percent=cost.spread_percent,
        noise_percent=itself.off_percent,
        rounds=len(cost.wall),
        steps_per_epoch=config.task.batching.steps_per_epoch(len(task.train)),
        published_ratio=published_ratio(config),
        setting=calibration_key.setting(config),
        machine=facts,
    )
    write_atomic(path, found.to_json())
    _tell(found.line())


def _tell(*lines: str) -> None:
    """Print lines, or hand them to the sweep that shows its runs, one of which measures here."""
    for line in lines:
        if not log.noted(line, log.progress_file()):
            say(line, error=True)


if __name__ == "__main__":
    sys.exit(main())
