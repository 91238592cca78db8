"""What is asked of a study, as it is typed: how many trials, with which seeds, proposed by what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.tuning.optuna_trials import SAMPLERS as OTHERS
from experiments.tuning.rungs import PRUNERS

SEEDS = (1000, 1001, 1002)
"""Seeds of every trial, the same for all methods, and none that results are reported for."""

FIRST_SEED = 1000
"""Smaller seeds are those of results."""

TRIALS = 16
STARTUP = 8
SAMPLERS = ("grid", *OTHERS)
KEYS = ("trials", "seeds", "sampler", "startup", "pruner")


@dataclass(frozen=True)
class TuneOptions:
    """What is asked of each study, apart from the method and the task."""

    trials: int = TRIALS
    seeds: tuple[int, ...] = SEEDS
    sampler: str = "grid"
    startup: int = STARTUP
    pruner: str = "none"


def options_of(given: Mapping[str, str]) -> TuneOptions:
    """Read what was typed.

    Raises:
        UserError: If a value is none that is allowed.
    """
    typed = given.get("seeds", ",".join(map(str, SEEDS)))
    seeds = tuple(_whole("seeds", item, least=0) for item in _listed(typed))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"Invalid seeds: {typed!r}. Each may stand there once.")
    if min(seeds) < FIRST_SEED:
        raise UserError(
            f"Invalid seeds: {min(seeds)}. Must be >= {FIRST_SEED}: smaller ones are for results, "
            "and what was chosen by a seed says too much of itself with it."
        )
    options = TuneOptions(
        trials=_whole("trials", given.get("trials", str(TRIALS)), least=1),
        seeds=seeds,
        sampler=_choice("sampler", given.get("sampler", "grid"), SAMPLERS),
        startup=_whole("startup", given.get("startup", str(STARTUP)), least=0),
        pruner=_choice("pruner", given.get("pruner", "none"), tuple(PRUNERS)),
    )
    if options.sampler == "tpe" and options.pruner != "none":
        raise UserError(
            f"Invalid pruner: {options.pruner!r}. Must be none with sampler=tpe, which proposes "
            "trials a few at a time: there is no cohort to be the better half of."
        )
    return options


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.strip("[]").split(",")]


def _whole(key: str, text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"Invalid {key}: {text!r}. Must be a whole number >= {least}.")
    return int(text)


def _choice(key: str, text: str, allowed: Sequence[str]) -> str:
    if text not in allowed:
        raise UserError(f"Invalid {key}: {text!r}. Must be one of: {', '.join(allowed)}.")
    return text


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what would make a trial other than the run that its file is for."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "seed":
            raise UserError(f"Invalid override: {override}. The seeds of the trials are seeds=.")
        if key == "experiment":
            raise UserError(f"Invalid override: {override}. Name what it sets: task=, budget=, ...")
        if key.startswith("optimizer.") and not key.startswith("optimizer.suite.search."):
            name = key.removeprefix("optimizer.")
            raise UserError(
                f"Invalid override: {override}. The tuned file would not hold it. Search it: "
                f"'+optimizer.suite.search.{name}={{low: ..., high: ..., scale: log}}'."
            )
