"""Steps of a config as a run takes them, to be timed."""

import dataclasses
import warnings
from typing import Any

import yaml

from experiments.config import commandline
from experiments.config.run_config import RunConfig
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.tasks.task import Task
from experiments.timing.steady import Step, Steps

NEVER = 1_000_000
"""Steps between two refreshes of whoever takes steps without one: the first alone refreshes."""
_LR_FACTOR = 1e-3
"""Of the learning rate: what no run survives must not end a measurement, and costs the same."""


def steps_of(config: RunConfig, task: Task) -> Steps:
    """Make the kinds of steps of a config's method, each with a model of its own.

    Args:
        config: The resolved config.
        task: That of the config, built.
    """
    method = config.optimizer
    if method.refresh_period == 1 or method.refresh_key is None:
        return Steps(_step_of(config, task))

    def every(period: int) -> Step:
        section = method.having(**{str(method.refresh_key): period})
        return _step_of(config.having(optimizer=section.values), task)

    return Steps(every(NEVER), every(1), method.refresh_period)


def published_ratio(config: RunConfig) -> float | None:
    """Give the cost of a step in steps of AdaFisher that the paper's epochs imply."""
    model = yaml.safe_load((commandline.CONF / "model" / f"{config.model.name}.yaml").read_text())
    key = "override /family@_global_.family"  # one of the user's may have none
    family = next((choice[key] for choice in model.get("defaults") or () if key in choice), None)
    table = yaml.safe_load((commandline.CONF / "paper" / "seconds_per_step.yaml").read_text())
    ratio: float | None = table.get(family, {}).get(config.optimizer.published_as)
    return ratio


def _step_of(config: RunConfig, task: Task) -> Step:
    schedule: dict[str, Any] = {"_target_": "experiments.schedule.constant", "_partial_": True}
    schedule["suite"] = {"name": "constant"}
    plain = config.having(budget={"steps": 1}, schedule=schedule, control=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself records them
        built = build(plain, task=task)
    built = dataclasses.replace(built, schedule=lambda progress: _LR_FACTOR)
    steps = Trainer(built, seed=config.seed).steps()
    return lambda: next(steps)
