"""What is asked of a study, as it is typed: how many trials, with which seeds, proposed by what."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from experiments.config.rulesets import OWN
from experiments.errors import UserError
from experiments.tuning import full_grid
from experiments.tuning.optuna_trials import SAMPLERS as OTHERS
from experiments.tuning.rungs import PRUNERS
from experiments.tuning.trial_scores import CHOICES, SCORES

SEEDS = (1000, 1001, 1002)
"""Seeds of every trial, the same for all methods, and none that results are reported for."""

FIRST_SEED = 1000
"""Smaller seeds are those of results."""

TRIALS = 16
STARTUP = 8
SAMPLERS = ("grid", full_grid.NAME, *OTHERS)
LATER = ("grid", "score", "choose")
"""Options that came later: at their defaults they are no part of what a comparison is named by."""


@dataclass(frozen=True)
class TuneOptions:
    """What is asked of each study, apart from the method and the task.

    Raises:
        UserError: If a value is none that is allowed.
    """

    trials: int = TRIALS
    seeds: tuple[int, ...] = SEEDS
    sampler: str = "grid"
    startup: int = STARTUP
    pruner: str = "none"
    again: bool = False
    passes: int = 1
    grid: dict[str, int] | None = None
    score: str = "worst"
    choose: str = "metric"

    def __post_init__(self) -> None:
        _check_least("trials", self.trials, 1)
        _check_least("startup", self.startup, 0)
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_choice("pruner", self.pruner, tuple(PRUNERS))
        _check_choice("score", self.score, tuple(SCORES))
        _check_choice("choose", self.choose, CHOICES)
        _check_least("passes", self.passes, 1)
        self._check_grid()
        if self.passes > 1 and (self.sampler != "grid" or self.trials % 2):
            raise UserError(
                f"Invalid passes: {self.passes}. More than 1 are for sampler=grid and an even "
                f"number of trials, not for {self.trials} of sampler={self.sampler}."
            )
        if self.again and (self.sampler != "grid" or self.trials % 2):
            raise UserError(
                "Invalid again: true. It is for sampler=grid and an even number of trials, not for "
                f"{self.trials} of sampler={self.sampler}."
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"Invalid seeds: {self.seeds}. Each may stand there once.")
        if min(self.seeds) < FIRST_SEED:
            raise UserError(
                f"Invalid seeds: {min(self.seeds)}. Must be >= {FIRST_SEED}: smaller ones are for "
                "results, and what was chosen by a seed says too much of itself with it."
            )
        if self.sampler == "tpe" and self.pruner != "none":
            raise UserError(
                f"Invalid pruner: {self.pruner!r}. Must be none with sampler=tpe, which proposes "
                "trials a few at a time: there is no cohort to be the better half of."
            )

    @property
    def counts(self) -> list[int]:
        """Values of each hyperparameter of a full grid."""
        return [self.trials] if self.grid is None else list(self.grid.values())

    @property
    def proposed(self) -> str:
        """What proposes the points, as records say it."""
        if self.grid is not None:
            return f"{self.sampler} {' x '.join(f'{n} {key}' for key, n in self.grid.items())}"
        return self.sampler + (f" after {self.startup} sobol" if self.sampler == "tpe" else "")

    @property
    def facts(self) -> dict[str, Any]:
        """What a comparison is named by, whatever options came later."""
        values = asdict(self)
        default = {key: getattr(TuneOptions, key) for key in LATER}
        return {key: one for key, one in values.items() if key not in LATER or one != default[key]}

    @property
    def options(self) -> "TuneOptions":
        """The options alone, of a request for several methods and tasks."""
        return TuneOptions(**{one.name: getattr(self, one.name) for one in fields(TuneOptions)})

    def _check_grid(self) -> None:
        if self.sampler == full_grid.NAME and self.trials < 2:
            raise UserError(f"Invalid trials: {self.trials}. Must be >= 2 with sampler=full_grid.")
        if self.grid is None:
            return
        text = ",".join(f"{key}:{count}" for key, count in self.grid.items())
        if self.sampler != full_grid.NAME:
            raise UserError(
                f"Invalid grid: {text}. It is for sampler={full_grid.NAME}, not for "
                f"sampler={self.sampler}."
            )
        if min(self.grid.values()) < 2:
            raise UserError(f"Invalid grid: {text}. Must be two values or more of each.")
        if (product := math.prod(self.grid.values())) != self.trials:
            raise UserError(f"Invalid grid: {text}. It is {product} trials, not {self.trials}.")


@dataclass(frozen=True)
class TuneRequest(TuneOptions):
    """Which methods are tuned on which tasks, how, and which setting their files are for."""

    optimizer: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    tuned: str = OWN

    def __post_init__(self) -> None:
        for key in ("optimizer", "task"):
            if not any(getattr(self, key)):
                raise UserError(f"Missing value: {key}. Give it as {key}=<names>.")
        if "," in self.tuned:
            raise UserError(f"Invalid tuned: {self.tuned!r}. Must be one name.")
        super().__post_init__()


def _check_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"Invalid {key}: {value}. Must be a whole number >= {least}.")


def _check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(f"Invalid {key}: {value!r}. Must be one of: {', '.join(allowed)}.")


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what would make a trial other than the run that its file is for."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "seed":
            raise UserError(f"Invalid override: {override}. The seeds of the trials are seeds=.")
        if key == "experiment":
            raise UserError(f"Invalid override: {override}. Name what it sets: task=, budget=, ...")
        if key.partition(".")[0] == "debug":
            raise UserError(f"Invalid override: {override}. A trial is a whole run.")
        if key.startswith("optimizer.") and not key.startswith("optimizer.suite.search."):
            name = key.removeprefix("optimizer.")
            raise UserError(
                f"Invalid override: {override}. The tuned file would not hold it. Search it: "
                f"'+optimizer.suite.search.{name}={{low: ..., high: ..., scale: log}}'."
            )
