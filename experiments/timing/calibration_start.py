"""The first steps of a method in its own process: `-m experiments.timing.calibration_start`.

They cost what a run pays once: code that torch compiles, libraries and kernels that are loaded,
memory that grows. In a process that has trained before, another method may have paid for it.
"""

import signal

if __name__ == "__main__":
    # Ctrl-C ends the process without a traceback: whoever waits for it tells what there is to tell.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from experiments.config.run_config import RunConfig
from experiments.engine import determinism, failures
from experiments.engine.build import build, build_task
from experiments.engine.loop import Trainer
from experiments.records.outcome import PreparationError
from experiments.system import exits, memory
from experiments.tasks.task import Task
from experiments.timing.calibration_process import ask

STEPS = 3
DEAR_SECONDS = 1.0  # a first step that takes so much longer than the others is measured again

_LR_FACTOR = 1e-3
"""Of the learning rate: what no run survives must not end a measurement, and costs the same."""


def seconds(config: RunConfig) -> list[float]:
    """Seconds of each of the first ``STEPS`` steps of a run.

    Args:
        config: The resolved config, whose ``threads`` is a number.

    Raises:
        PreparationError: If a step failed, or the process died.
    """
    taken = _in_a_process(config)
    if taken[0] - min(taken[1:]) > DEAR_SECONDS:
        # It may have compiled what runs find in torch's cache; and imports take now more, now less.
        taken = min(taken, _in_a_process(config), key=sum)
    return taken


def stepper(config: RunConfig, task: Task) -> Callable[[], float]:
    """Make a stepper that steps as a run does; each call returns the seconds of one step.

    Args:
        config: The resolved config.
        task: That of the config, built.
    """
    schedule = {"_target_": "experiments.schedule.constant", "_partial_": True}
    plain = config.having(budget={"steps": 1}, schedule={**schedule, "suite": {"name": "constant"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself records them
        built = build(plain, task=task)
    built = dataclasses.replace(built, schedule=lambda progress: _LR_FACTOR)
    trainer = Trainer(built, seed=config.seed)
    steps = trainer.steps()

    def step() -> float:
        before = trainer.counters.train_seconds
        next(steps)
        return trainer.counters.train_seconds - before

    return step


def _in_a_process(config: RunConfig) -> list[float]:
    answer = ask("experiments.timing.calibration_start", {"config": config.values}, os.environ)
    if "status" in answer:
        raise PreparationError(answer["reason"], status=answer["status"])
    taken: list[float] = answer["seconds"]
    return taken


def main() -> int:
    """Take the steps of the config on standard input, and tell; returns the exit code."""
    request = json.load(sys.stdin)
    exits.end_with_parent(request["parent"])
    config = RunConfig.of(request["config"])
    memory.limit(None)  # where memory ends, this process is to go before the sweep's
    assert config.threads is not None  # whoever asks has counted them
    torch.set_num_threads(config.threads)
    answer: dict[str, Any]
    try:
        with determinism.strict(config.deterministic):
            step = stepper(config, build_task(config))
            answer = {"seconds": [step() for _ in range(STEPS)]}
    except Exception as error:
        status, reason = failures.judge(error)
        answer = {"status": status, "reason": reason}
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
