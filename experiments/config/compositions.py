"""What Hydra composes of a job's overrides, each choice of groups once.

Hydra takes a fifth of a second for a job, and a table of eight models by six methods has 48. Single
values (``seed=1``, ``optimizer.lr=0.1``) are set on what the choices of groups give, by Hydra's own
function. And most choices follow from three others, as most groups fill sections of their own: what
changes from one place (an experiment, a task) to another with one method or model changes with the
next one too. Where a choice reaches further (a family of models with hyperparameters of its own,
say), it is composed.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from experiments.config import by_name, commandline, named, refusals, values
from experiments.config.nearest import nearest
from experiments.errors import UserError

Config = dict[str, Any]
Overrides = tuple[str, ...]

AXES = ("optimizer", "model")
"""Groups along which jobs are taken from others."""
FREE = ("experiment", "task", "model", "budget", "schedule", "tokenization")
"""Groups that say nothing of a method, but by the sections that they fill."""
_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")


@dataclass(frozen=True)
class Composition:
    """A job as Hydra composes it.

    Attributes:
        files: The sections that its choices of groups give, nothing resolved.
        choices: The choice of each config group; an optional file that is not there is none.
        typed: What is set on the sections.
    """

    files: Config
    choices: dict[str, str | None]
    typed: tuple[Override, ...] = ()

    @cached_property
    def config(self) -> DictConfig:
        """The sections with what is set on them, nothing resolved; not to be changed.

        Raises:
            UserError: If a key is unknown; the message has the nearest names.
        """
        config = OmegaConf.create(self.files)
        if self.typed:
            OmegaConf.set_struct(config, True)  # no new key without a +, as Hydra has it
            with refusals.told():
                try:
                    ConfigLoaderImpl._apply_overrides_to_config(list(self.typed), config)
                except ConfigCompositionException as error:
                    raise _unknown_key(error, self.files) from error
        return config


def of(job: Sequence[str]) -> Composition:
    """Compose a job, with what is kept of others in this process.

    Args:
        job: Its overrides, none of which sweeps.

    Raises:
        UserError: If a group or a choice is unknown, a file is none that can be read, or several
            values are given for a key.
    """
    if by_name.provide():
        _kept.cache_clear()
    return _kept(str(commandline.CONF)).of(job)


@cache
def _kept(conf: str) -> "Compositions":
    return Compositions()


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
    """Composes jobs, each choice of groups once."""

    def __init__(self) -> None:
        self._places: dict[str, dict[Overrides, _Place]] = {axis: {} for axis in AXES}

    def of(self, job: Sequence[str]) -> Composition:
        """Compose a job, see the function of this name."""
        parsed = commandline.single([item for item in job if item != commandline.NO_GRIDS])
        lines = [override.input_line or "" for override in parsed]
        searches = any("hydra.searchpath" in line for line in lines)  # the groups may be others
        groups = tuple(line for line in lines if searches or _chooses(line))
        made = self._of_groups(groups)
        typed = tuple(
            override for override, line in zip(parsed, lines, strict=True) if line not in groups
        )
        return Composition(made.files, made.choices, typed) if typed else made

    def _of_groups(self, job: Overrides) -> Composition:
        spots = [self._spot(axis, job) for axis in AXES]
        place, choice = spots[0]
        if choice not in place.made:
            moved = (_moved(*spot) for spot in spots)
            made = next(filter(None, moved), None) or _compose(job)
            for axis, (place, choice) in zip(AXES, spots, strict=True):
                place.made[choice] = made
                self._link(axis, place, choice)
        return place.made[choice]

    def _spot(self, axis: str, job: Overrides) -> tuple[_Place, Overrides]:
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
    if place.like is None or not choice:  # what is not chosen is chosen by the place
        return None
    other, common = place.like
    base, there, here = other.made.get(choice), other.made[common], place.made[common]
    changed = _changed(there, here)
    if base is None or any(base.files.get(key) != there.files.get(key) for key in changed):
        return None
    return Composition(
        {**base.files, **{key: here.files.get(key) for key in changed}},
        {
            **base.choices,
            **{key: name for key, name in here.choices.items() if name != there.choices.get(key)},
        },
    )


def _changed(one: Composition, other: Composition) -> list[str]:
    keys = {**one.files, **other.files}
    return [key for key in keys if one.files.get(key) != other.files.get(key)]


def _is_free(axis: str, one: Composition, other: Composition) -> bool:
    """Tell whether jobs of one choice on an axis differ only in free choices and other sections."""
    return axis not in _changed(one, other) and _bound(one.choices) == _bound(other.choices)


def _bound(choices: Mapping[str, str | None]) -> dict[str, str | None]:
    return {group: name for group, name in choices.items() if group not in FREE}


def _compose(groups: Overrides) -> Composition:
    whole = compose_job(groups)
    own = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    files: Config = OmegaConf.to_container(own, resolve=False)  # type: ignore[assignment]
    choices = whole.hydra.runtime.choices.items()
    return Composition(files, {group: _ours(group, name) for group, name in choices})


def compose_job(job: Sequence[str]) -> DictConfig:
    """Have Hydra compose one job anew, its own section included.

    Args:
        job: Its overrides, none of which sweeps.

    Raises:
        UserError: If a group, a choice or a key is unknown; the message has the nearest names. If a
            file that it reads is none that can be read, or Hydra is asked for a sweep in its way.
    """
    commandline.single(job)
    by_name.provide()
    with refusals.told(), fresh_hydra():
        try:
            config = compose("train", overrides=list(job), return_hydra_config=True)
        except ConfigCompositionException as error:
            if _UNKNOWN_KEY.search(str(error)) is None:
                raise
            launcher = compose_job(only_groups(job)).hydra.launcher
            files = of(only_groups(job)).files
            raise _unknown_key(error, {**files, "launcher": dict(launcher)}) from error
        mode = config.hydra.mode
    if mode is not None:
        raise UserError(
            f"Invalid hydra.mode: {mode.name}. Leave it out: -m (--multirun) starts a sweep."
        )
    return config


@contextlib.contextmanager
def fresh_hydra() -> Iterator[None]:
    """Set up a Hydra of our own; within a job there is one already, and it goes on afterwards."""
    instance = GlobalHydra.instance()
    outer = instance.hydra
    instance.clear()
    try:
        with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def only_groups(job: Sequence[str]) -> list[str]:
    """Keep of a job's overrides the choices of groups: their files say of what kind values are."""
    return [item for item in job if item.partition("=")[0] in commandline.GROUPS]


def _unknown_key(error: ConfigCompositionException, files: Config) -> Exception:
    """Say that the files have no such key, or nothing that it could hold so."""
    found = _UNKNOWN_KEY.search(str(error))
    if found is None:
        return error
    key = found[1].partition("@")[0]
    key = key.removeprefix("hydra.") if key.startswith("hydra.launcher.") else key  # as typed
    known = [*commandline.GROUPS, *(one for one, _ in values.leaves(files))]
    if any(f"{one}.".startswith(f"{key}.") for one in known):
        text = f"Invalid {key}: it has none of the keys that are typed for it; + adds one."
        return UserError(text)
    return UserError(f"Unknown key: {key!r}. {nearest(key, known)}")


def _chooses(override: str) -> bool:
    """Tell whether an override chooses a group's file, or is one for Hydra itself."""
    key = override.partition("=")[0].lstrip("+~")
    return key in commandline.GROUPS or key.startswith(("hydra.", "hydra/"))


def _ours(group: str, name: str | None) -> str | None:
    """Name a choice that is a file of ours; None if it is Hydra's own, or optional and absent."""
    if group == commandline.TUNED:  # a folder, of which another group chooses the file
        return name
    group = group.partition("@")[0]
    path = commandline.CONF / group / f"{name}.yaml"
    return name if path.resolve().is_file() or named.get(group, name) else None


def _section(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition(".")[0]
