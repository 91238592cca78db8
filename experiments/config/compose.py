"""One config out of a command line's overrides, by Hydra, as plain values: the one way."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from experiments.config import commandline, refusals, suite_keys, values
from experiments.config.nearest import nearest
from experiments.config.run_config import FOLDERS, RunConfig
from experiments.config.sections import Section
from experiments.config.suite_keys import KEYS, SUITE
from experiments.errors import UserError

Choices = Mapping[str, Any]

_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
_AT_FAULT = re.compile(r"^(?:Invalid|Unknown key:) '?([a-z_]+)\.([\w.]+\w)")
_OF_HYDRA = ("_target_", "_partial_", "_convert_")
# Of runs that are to be looked at; what begins with a dot is no result to any reader.
DEBUG_DIR = ".debug"


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
    choices = compose_job(job).hydra.runtime.choices
    own = commandline.CONF / group / f"{choices[group]}.yaml"
    later = [f"experiment/{choices['experiment']}.yaml"]
    later += [
        f"{choices['ruleset']}/{choices[by]}/{choices['optimizer']}.yaml"
        for by in ("task", "family")
    ]
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
    whole = compose_job(overrides)
    with placed(overrides):
        # Before values are resolved, so that one that others refer to is named itself.
        plain: dict[str, Any] = OmegaConf.to_container(whole)  # type: ignore[assignment]
        values.check_kinds(plain, like=defaults(overrides))
        config = resolve(whole)
        check(config, overrides)
    return config


def compose_job(job: Sequence[str]) -> DictConfig:
    """Compose one job, Hydra's own section included.

    Args:
        job: Its overrides, none of which sweeps.

    Raises:
        UserError: If a group, a choice or a key is unknown; the message has the nearest names. If a
            file that it reads is none that can be read, or Hydra is asked for a sweep in its way.
    """
    commandline.check_single(job)
    with refusals.told(), fresh_hydra():
        try:
            config = compose("train", overrides=list(job), return_hydra_config=True)
        except ConfigCompositionException as error:
            found = _UNKNOWN_KEY.search(str(error))
            if found is None:
                raise
            raise UserError(_unknown_key(found[1].partition("@")[0], job)) from error
        mode = config.hydra.mode
    if mode is not None:
        raise UserError(
            f"Invalid hydra.mode: {mode.name}. Leave it out: -m (--multirun) starts a sweep."
        )
    return config


def resolve(
    config: DictConfig, choices: Choices | None = None, *, complete: bool = True
) -> RunConfig:
    """Give the config of a run, its folders absolute.

    Args:
        config: As Hydra composes it.
        choices: Hydra's choice of each group, where ``config`` is without Hydra's section.
        complete: Whether every value must be there; where not, it is ``???``.

    Raises:
        UserError: If a value is missing or refers to something that is not there.
    """
    if choices is not None:
        return _made(_plain(config, choices, complete=complete))
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return _made(_plain(own, config.hydra.runtime.choices, complete=complete))


def check(config: RunConfig, job: Sequence[str]) -> None:
    """Refuse values of another kind than those of the files, and out of bounds.

    Args:
        config: What ``job`` composes to.
        job: Its overrides.

    Raises:
        UserError: At the first.
    """
    values.check(config.values, like=defaults(job))


def defaults(job: Sequence[str]) -> Mapping[str, Any]:
    """Give the values that the job's groups have, before single keys are overridden."""
    return _defaults(str(commandline.CONF), tuple(only_groups(job)))


@cache
def _defaults(conf: str, groups: tuple[str, ...]) -> dict[str, Any]:
    with refusals.told(), fresh_hydra():
        return OmegaConf.to_container(compose("train", overrides=list(groups)))  # type: ignore[return-value]


def _made(plain: dict[str, Any]) -> RunConfig:
    config = RunConfig.of(plain)
    for group in KEYS:
        section: Section | None = getattr(config, group)
        if section is not None:
            suite_keys.check_spelling(group, section.suite)
    _ = config.optimizer.needs  # it refuses a flag that is none
    return config


def _plain(config: DictConfig, choices: Choices, *, complete: bool) -> dict[str, Any]:
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


def _unknown_key(key: str, job: Sequence[str]) -> str:
    """Say that a config of the job's groups has no such key, or nothing that it could hold so."""
    known = [*commandline.GROUPS, *(one for one, _ in values.leaves(defaults(job)))]
    if any(f"{one}.".startswith(f"{key}.") for one in known):
        return f"Invalid {key}: it has none of the keys that are typed for it; + adds one."
    return f"Unknown key: {key!r}. {nearest(key, known)}"


def only_groups(job: Sequence[str]) -> list[str]:
    """Keep of a job's overrides the choices of groups: their files say of what kind values are."""
    return [item for item in job if item.partition("=")[0] in commandline.GROUPS]
