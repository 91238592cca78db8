"""One config out of a command line's overrides, by Hydra, as plain values: the one way."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config import (
    budget,
    by_name,
    commandline,
    compositions,
    named,
    refusals,
    rulesets,
    suite_keys,
    values,
)
from experiments.config.compositions import Composition
from experiments.config.nearest import nearest
from experiments.config.run_config import FOLDERS, RunConfig
from experiments.config.sections import Section
from experiments.config.suite_keys import KEYS, SUITE
from experiments.errors import UserError

Choices = Mapping[str, Any]

_SEED = re.compile(r"seed=\d+")
_AT_FAULT = re.compile(r"^(?:Invalid|Unknown key:) '?([a-z_]+)\.([\w.]+\w)")
_OF_HYDRA = ("_target_", "_partial_", "_convert_")
# Of runs that are to be looked at; what begins with a dot is no result to any reader.
DEBUG_DIR = ".debug"


@contextlib.contextmanager
def placed(job: Sequence[str]) -> Iterator[None]:
    """Say of a fault where it is written down, if it is in the file of a section and not typed.

    Args:
        job: The overrides of a job that composes.
    """
    try:
        yield
    except UserError as error:
        found = _AT_FAULT.match(str(error))
        if found is None or found[1] not in KEYS:
            raise
        group, key = found[1], found[2]
        typed = [item.lstrip("+").partition("=")[0] for item in job]
        if f"{group}._target_" in typed or any(
            f"{group}.{key}.".startswith(f"{item}.") for item in typed if "." in item
        ):
            raise
        raise UserError(f"{_place(group, key, job)}: {error}") from error


def _place(group: str, key: str, job: Sequence[str]) -> str:
    """Find the file, and the line in it, that a section has a value from."""
    choices = compositions.of(job).choices
    own = commandline.CONF / group / f"{choices[group]}.yaml"
    if typed := named.get(group, choices[group]):
        own = typed.path or Path(typed.label)
    later = [f"experiment/{choices['experiment']}.yaml"]
    later += [rulesets.file_of(choices)]
    places = [(commandline.CONF / name, f"{group}.{key}") for name in later]
    parts = key.split(".")  # of what is left out, the line of the mapping that lacks it
    places += [(own, ".".join(parts[:count])) for count in range(len(parts), 0, -1)]
    for path, dotted in places:
        if line := refusals.line_of(path, dotted):
            return f"{refusals.shown(path)}, line {line}"
    return refusals.shown(own)


def composed(overrides: Sequence[str]) -> RunConfig:
    """Compose, resolve and check the config of one job.

    Raises:
        UserError: If it does not compose, or a value is none that it can have.
    """
    made = compositions.of(overrides)
    plain: dict[str, Any] = OmegaConf.to_container(made.config)  # type: ignore[assignment]
    with placed(overrides):
        # Before values are resolved, so that one that others refer to is named itself.
        values.check_kinds(plain, like=made.files)
        config = resolve(made)
        values.check(config.values, like=made.files)
    return config


def listed(grid: list[str]) -> Iterator[tuple[list[str], RunConfig]]:
    """Yield the overrides and the checked config of every job of a grid, in Hydra's order.

    Seeds differ in one plain value, so that the jobs of a method are composed once.

    Args:
        grid: Overrides of a sweep.

    Raises:
        UserError: At the first job that does not compose, or has a value that it cannot have.
    """
    made: dict[tuple[str, ...], RunConfig | None] = {}
    for job in commandline.jobs(grid):
        seeds = [int(item.removeprefix("seed=")) for item in job if _SEED.fullmatch(item)]
        others = tuple(item for item in job if not _SEED.fullmatch(item))
        if others not in made:
            refers = "${seed" in repr(compositions.of(others).config)
            made[others] = None if refers else composed(others)
        config = made[others] or composed(job)
        yield job, config.having(seed=seeds[-1]) if seeds else config


OF_ALL = ("grids", "tune")
"""Keys of an experiment's file that are of no single run."""


def resolve(made: Composition, *, complete: bool = True) -> RunConfig:
    """Give the config of a run, its folders absolute.

    Args:
        made: What was composed.
        complete: Whether every value must be there; where not, it is ``???``.

    Raises:
        UserError: If a value is missing or refers to something that is not there.
    """
    return _made(_plain(made.config, made.choices, complete=complete))


def _made(plain: dict[str, Any]) -> RunConfig:
    config = RunConfig.of(plain)
    for group in KEYS:
        section: Section | None = getattr(config, group)
        if section is not None:
            suite_keys.check_spelling(group, section.suite)
    method = config.optimizer
    _ = method.needs, method.ema, method.refresh_key  # they refuse what is none
    return config


def _plain(config: DictConfig, choices: Choices, *, complete: bool) -> dict[str, Any]:
    if any(config.get(key) is not None for key in OF_ALL):
        # They say which runs there are. In one of them what they refer to may be another's.
        config = OmegaConf.masked_copy(config, [str(key) for key in config if key not in OF_ALL])
    with refusals.told():
        missing = sorted(OmegaConf.missing_keys(config)) if complete else []
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=not missing)  # type: ignore[assignment]
    if missing:
        raise UserError(f"Missing value: {missing[0]}. Give it as {missing[0]}=<value>.")
    known = RunConfig.keys()
    for key in plain:
        if key not in known:
            raise UserError(f"Unknown key: {key!r}. {nearest(str(key), known)}")
    for group in KEYS:
        if plain.get(group) is not None:
            plain[group] = _named(group, plain[group], choices[group])
    if isinstance(plain["budget"], dict):
        names = str(choices["optimizer"]), str(choices["budget"])
        plain["budget"] = budget.of_method(plain["budget"], names[0], name=names[1])
    for group in named.GROUPS:
        if found := by_name.files(group, choices.get(group)):
            plain["files"] = {**plain.get("files", {}), **found}
    for key in FOLDERS:
        plain[key] = _folder(key, plain[key])
    if plain["debug"] is not None:
        plain["runs_dir"] = str(Path(plain["runs_dir"]) / DEBUG_DIR)
    if plain["deterministic"] is True and plain["threads"] is None:
        # The last bits of a sum depend on the threads that share it, and a sweep divides the cores.
        plain["threads"] = 1
    return plain


def _named(group: str, section: Any, choice: str) -> Any:
    """Give a section what its file may leave out and a run's id has: its name, and `_partial_`."""
    if not isinstance(section, dict):
        path = refusals.shown(commandline.CONF / group / f"{choice}.yaml")
        raise UserError(f"{path}: it is a {type(section).__name__}. {refusals.YAML_FORM}.")
    if not isinstance(section.get("_target_"), str):
        raise UserError(
            f"Invalid {group}._target_: {section.get('_target_')!r}. Must name a function or "
            "class, as `_target_: torch.optim.SGD` does."
        )
    if section.get("_partial_", True) is not True:
        raise UserError(
            f"Invalid {group}._partial_: {section['_partial_']!r}. Must be true, or left out: the "
            "suite gives the other arguments."
        )
    if others := [key for key in section if str(key).startswith("_") and key not in _OF_HYDRA]:
        raise UserError(f"Unknown key: '{group}.{others[0]}'. Known: {', '.join(_OF_HYDRA)}.")
    suite = section.get(SUITE) or {}
    if not isinstance(suite, dict):
        return section
    name = suite.get("name", choice)
    if name != choice:
        raise UserError(
            f"Invalid {group}.{SUITE}.name: {name!r}. Must be {choice!r}, the name of its file, or "
            "left out."
        )
    return {**section, "_partial_": True, SUITE: {"name": name, **suite}}


def _folder(key: str, value: Any) -> str:
    if value is None or not str(value).strip():
        raise UserError(f"Missing value: {key}. Give it as {key}=<folder>.")
    if isinstance(value, bool | list | dict):
        raise UserError(f"Invalid {key}: {value!r}. Must be a folder.")
    return str(commandline.folder(key, Path(str(value))).absolute())
