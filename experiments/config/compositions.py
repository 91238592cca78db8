"""Many jobs composed, without asking Hydra for each.

Hydra takes a fifth of a second for a job, and a table of eight models by six methods has 48. Most
jobs follow from three others, as most choices fill sections of their own: what changes from one
place (an experiment, a task) to another with one method or model changes with the next one too.
Where a choice reaches further (a family of models with hyperparameters of its own, say), the job is
composed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

from experiments.config import commandline, compose, values
from experiments.config.run_config import RunConfig

Config = dict[str, Any]
Overrides = tuple[str, ...]

AXES = ("optimizer", "model")
"""Groups along which jobs are taken from others."""
_SEED = re.compile(r"seed=\d+")
FREE = ("experiment", "task", "model", "budget", "schedule", "tokenization")
"""Groups that say nothing of a method, but by the sections that they fill."""


@dataclass(frozen=True)
class Composition:
    """A job as Hydra composes it.

    Attributes:
        config: Its sections, nothing resolved.
        choices: The choice of each config group; an optional file that is not there is none.
    """

    config: Config
    choices: dict[str, str | None]

    def resolved(self, **changes: Any) -> RunConfig:
        """Resolve the config as a run has it, with other values of its top-level keys.

        Raises:
            UserError: If a value is missing or refers to something that is not there.
        """
        return compose.resolve(OmegaConf.create({**self.config, **changes}), self.choices)


def run_configs(grid: list[str]) -> Iterator[tuple[list[str], RunConfig]]:
    """Yield the overrides and the checked config of every job of a grid, in Hydra's order.

    Seeds differ in one plain value, so that the jobs of a method are composed once.

    Args:
        grid: Overrides of a sweep.

    Raises:
        UserError: At the first job that does not compose, or has a value that it cannot have.
    """
    whole, of_groups = Compositions(), Compositions()
    made: dict[Overrides, tuple[Composition, RunConfig]] = {}
    for job in commandline.jobs(grid):
        seeds = [int(item.removeprefix("seed=")) for item in job if _SEED.fullmatch(item)]
        others = tuple(item for item in job if not _SEED.fullmatch(item))
        if others not in made:
            composition = whole.of(others)
            config = composition.resolved()
            values.check(config.values, like=of_groups.of(compose.only_groups(others)).config)
            made[others] = composition, config
        composition, config = made[others]
        if seeds:
            # No file refers to the seed, but one may.
            refers = "${seed" in repr(composition.config)
            seed = seeds[-1]
            config = composition.resolved(seed=seed) if refers else config.having(seed=seed)
        yield job, config


@dataclass
class _Place:
    """All overrides of some jobs but those of one axis.

    Attributes:
        made: The compositions there, by the overrides of the axis.
        like: Another place of that axis, and overrides of the axis that are made in both.
    """

    made: dict[Overrides, Composition] = field(default_factory=dict)
    like: "tuple[_Place, Overrides] | None" = None


class Compositions:
    """Composes jobs, each once."""

    def __init__(self) -> None:
        self._places: dict[str, dict[Overrides, _Place]] = {axis: {} for axis in AXES}

    def of(self, job: Sequence[str]) -> Composition:
        """Compose a job.

        Args:
            job: Its overrides, none of which sweeps.

        Raises:
            UserError: If it does not compose.
        """
        spots = [self._spot(axis, job) for axis in AXES]
        place, choice = spots[0]
        if choice not in place.made:
            moved = (_moved(*spot) for spot in spots)
            made = next(filter(None, moved), None) or _compose(list(job))
            for axis, (place, choice) in zip(AXES, spots, strict=True):
                place.made[choice] = made
                self._link(axis, place, choice)
        return place.made[choice]

    def _spot(self, axis: str, job: Sequence[str]) -> tuple[_Place, Overrides]:
        own = tuple(item for item in job if _section(item) == axis)
        others = tuple(item for item in job if _section(item) != axis)
        return self._places[axis].setdefault(others, _Place()), own

    def _link(self, axis: str, place: _Place, choice: Overrides) -> None:
        made = place.made[choice]
        for other in self._places[axis].values():
            there = other.made.get(choice)
            if place.like is None and other is not place and there and _is_free(axis, there, made):
                place.like = (other, choice)


def _moved(place: _Place, choice: Overrides) -> Composition | None:
    """Make the job from the same choice elsewhere, where it has no say in what else is changed."""
    if place.like is None:
        return None
    other, common = place.like
    base, there, here = other.made.get(choice), other.made[common], place.made[common]
    changed = _changed(there, here)
    if base is None or any(base.config.get(key) != there.config.get(key) for key in changed):
        return None
    return Composition(
        {**base.config, **{key: here.config.get(key) for key in changed}},
        {
            **base.choices,
            **{key: name for key, name in here.choices.items() if name != there.choices.get(key)},
        },
    )


def _changed(one: Composition, other: Composition) -> list[str]:
    keys = {**one.config, **other.config}
    return [key for key in keys if one.config.get(key) != other.config.get(key)]


def _is_free(axis: str, one: Composition, other: Composition) -> bool:
    """Tell whether jobs of one choice on an axis differ only in free choices and other sections."""
    return axis not in _changed(one, other) and _bound(one.choices) == _bound(other.choices)


def _bound(choices: Mapping[str, str | None]) -> dict[str, str | None]:
    return {group: name for group, name in choices.items() if group not in FREE}


def _compose(job: list[str]) -> Composition:
    whole = compose.compose_job(job)
    own = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    with compose.placed(job):
        compose.resolve(whole, complete=False)
    config: Config = OmegaConf.to_container(own, resolve=False)  # type: ignore[assignment]
    choices = whole.hydra.runtime.choices.items()
    return Composition(config, {group: _ours(group, name) for group, name in choices})


def _ours(group: str, name: str | None) -> str | None:
    """Name a choice that is a file of ours; None if it is Hydra's own, or optional and absent."""
    path = commandline.CONF / group.partition("@")[0] / f"{name}.yaml"
    return name if path.resolve().is_file() else None


def _section(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition(".")[0]
