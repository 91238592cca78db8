"""What a study hands to the command: what it depends on, and how to measure it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from experiments.config import commandline, compose
from experiments.config.run_config import RunConfig

Arrays = dict[str, npt.NDArray[Any]]


class Measured(NamedTuple):
    """The result of a study.

    Attributes:
        arrays: By name; what the figures draw.
        facts: Plain numbers and texts about them.
    """

    arrays: Arrays
    facts: dict[str, Any]


@dataclass(frozen=True)
class StudyPlan:
    """A study before it is measured.

    Attributes:
        essence: All that the result depends on, as plain values; the study's id is its hash.
        measure: Measures it.
        tell: What the command prints of the facts, a line each.
    """

    essence: Mapping[str, Any]
    measure: Callable[[], Measured]
    tell: Callable[[Mapping[str, Any]], list[str]] = lambda facts: []


def run_config(overrides: Sequence[str], folders: Mapping[str, str]) -> RunConfig:
    """Compose the config of a run that a study watches.

    Args:
        overrides: As for ``experiments.train``; of a repeated key the last counts.
        folders: ``data_dir``, ``runs_dir`` and ``cache_dir``.

    Raises:
        UserError: If it does not compose.
    """
    return compose.composed(commandline.normalise(list(overrides))).having(**folders)


def describe_run(config: RunConfig) -> dict[str, Any]:
    """Describe a run for the essence of a study: its id, and what a reader knows it by."""
    return {
        "run_id": config.run_id,
        "task": config.task.name,
        "model": config.model.name,
        "optimizer": config.optimizer.name,
        "hyperparameters": config.optimizer.hashed_hyperparameters,
        "batch_size": config.task.batching.batch_size,
        "schedule": config.schedule.name,
        "budget": config.budget,
        "seed": config.seed,
    }
