"""One config out of a command line's overrides, by Hydra, as plain values."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import commandline, values
from experiments.config.run_config import FOLDERS, RunConfig
from experiments.errors import UserError, first_line

_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
_GROUPS = (
    "optimizer",
    "task",
    "tokenization",
    "model",
    "budget",
    "schedule",
    "tracking",
    "launcher",
    "ruleset",
    "family",
    "experiment",
    "debug",
)
# Of runs that are to be looked at; what begins with a dot is no result to any reader.
DEBUG_DIR = ".debug"


def resolve(config: DictConfig) -> RunConfig:
    """Give the config of a run, its folders absolute.

    Raises:
        UserError: If a value is missing or refers to something that is not there.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"Missing value: {missing[0]}. Give it as {missing[0]}=<value>.")
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"config: {first_line(error)}") from error
    for key in FOLDERS:
        plain[key] = str(Path(str(plain[key])).expanduser().absolute())
    if plain["debug"] is not None:
        plain["runs_dir"] = str(Path(plain["runs_dir"]) / DEBUG_DIR)
    if plain["deterministic"] is True and plain["threads"] is None:
        # The last bits of a sum depend on the threads that share it, and a sweep divides the cores.
        plain["threads"] = 1
    return RunConfig.of(plain)


def composed(overrides: list[str]) -> RunConfig:
    """Compose and resolve the config of one job, of which nothing else is checked.

    Raises:
        UserError: If it does not compose.
    """
    with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
        return resolve(compose_job(overrides))


def compose_job(job: list[str], *, hydra: bool = False) -> DictConfig:
    """Compose one job; Hydra must be initialised.

    Args:
        job: Its overrides, none of which sweeps.
        hydra: Whether to compose Hydra's own section as well.

    Raises:
        UserError: If a group, a choice or a key is unknown; the message has the nearest names.
    """
    try:
        return compose("train", overrides=job, return_hydra_config=hydra)
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if not group:
            raise UserError(first_line(error)) from error
        known = [option for option in commandline.choices(group) if option]
        raise UserError(f"Unknown {group}: {name!r}. {nearest(name, known)}") from error
    # Hydra refuses `model=null` by a plain ValueError.
    except (ConfigCompositionException, OmegaConfBaseException, ValueError) as error:
        found = _UNKNOWN_KEY.search(str(error))
        if found is None:
            raise UserError(first_line(error)) from error
        key = found[1].partition("@")[0]
        raise UserError(f"Unknown key: {key!r}. {nearest(key, _known_keys(job))}") from error


def _known_keys(job: list[str]) -> list[str]:
    """Every key that a config of the job's groups has, and the groups themselves."""
    config = compose("train", overrides=_only_groups(job))
    return [*_GROUPS, *(key for key, _ in values.leaves(OmegaConf.to_container(config)))]


def defaults(job: list[str]) -> dict[str, Any]:
    """Give the flat values that the job's groups have, before single keys are overridden."""
    return dict(
        values.leaves(OmegaConf.to_container(compose("train", overrides=_only_groups(job))))
    )


def _only_groups(job: list[str]) -> list[str]:
    return [override for override in job if override.partition("=")[0] in _GROUPS]


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known ones that are most like ``name``, or the first forty where none is."""
    names = list(known)
    tail = {key.rpartition(".")[2]: key for key in names}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    near += [
        tail[match]
        for match in difflib.get_close_matches(name, tail, n=2)
        if tail[match] not in near
    ]
    if near:
        return f"Did you mean: {', '.join(near)}?"
    return f"Known: {', '.join(names[:40])}."
