"""The grids of an experiment file, spelled out as overrides: what a sweep runs.

Keys of ``hydra.sweeper.params`` vary in every grid. A comparison that is no product of choices, as
CNNs and transformers with methods of their own, lists further grids under ``grids``; the sweep is
their union. A value is a sweep in Hydra's words (``a,b``, ``range(0,5)``, ``glob(ada*)``), or a
YAML list of choices.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.config import commandline
from experiments.config.compositions import compose_job
from experiments.errors import UserError

Grid = dict[str, str]
NONE = commandline.NO_GRIDS


def spelled_out(overrides: list[str]) -> list[list[str]]:
    """Spell out the overrides of each grid of a sweep, typed ones in place of the file's values.

    Hydra's own sweeper would run both values of a key that the file and the user give.

    Args:
        overrides: Those of a sweep, as typed.

    Returns:
        One list a grid; a sweep without an experiment has one.

    Raises:
        UserError: If the experiment does not compose, or its grids are no list of mappings.
    """
    chosen = [item for item in overrides if item.startswith("experiment=")]
    if not chosen:
        return [_with_sources(overrides)]
    if NONE in overrides:
        own = [item for item in overrides if item != NONE]
        return [[*_with_sources(own), "hydra.sweeper.params=null"]]
    config = compose_job(chosen)
    common = _texts(_params(chosen[0], config), config)
    grids = narrowed(_listed(chosen[0], config, common), overrides)
    return [
        [
            *_with_sources([f"{key}={value}" for key, value in grid.items()]),
            *_with_sources([item for item in overrides if _key(item) not in grid]),
            "hydra.sweeper.params=null",
        ]
        for grid in grids
    ]


def check_single(overrides: list[str]) -> None:
    """Refuse to run one of the many runs that an experiment lists.

    Raises:
        UserError: If the experiment is a sweep.
    """
    for item in overrides:
        if _key(item) == "experiment" and NONE not in overrides:
            config = compose_job([item])
            if config.grids is not None or _params(item, config):
                raise UserError(
                    f"Invalid argument: {item!r}. It is a sweep, which -m (--multirun) starts."
                )


def narrowed(grids: list[Grid], overrides: list[str]) -> list[Grid]:
    """Replace the values of the grids by typed ones.

    A typed value that some grids list stays in these grids alone; one that none lists goes into
    each. A grid that is left without a value for a key falls out.

    Example:
        >>> cnn, vit = {"optimizer": "sgd,adam"}, {"optimizer": "sgd,adamw"}
        >>> narrowed([cnn, vit], ["optimizer=adamw"])
        [{'optimizer': 'adamw'}]
        >>> narrowed([cnn, vit], ["optimizer=sgd,soap"])
        [{'optimizer': 'sgd,soap'}, {'optimizer': 'sgd,soap'}]
        >>> narrowed([cnn, vit], ["optimizer=adam,soap"])
        [{'optimizer': 'adam,soap'}, {'optimizer': 'soap'}]
    """
    for key, _, value in (override.partition("=") for override in overrides):
        if not any(key in grid for grid in grids):
            continue
        typed = _items(value)
        listed = {item for grid in grids for item in _items(grid.get(key, ""))}
        narrower = []
        for grid in grids:
            own = _items(grid.get(key, ""))
            wanted = [item for item in typed if item in own or item not in listed]
            if wanted:
                narrower.append({**grid, key: ",".join(wanted)})
        grids = narrower
    return grids


def _with_sources(overrides: list[str]) -> list[str]:
    """Add to a sweep of controls the runs that they control.

    Example:
        >>> _with_sources(["optimizer=adam", "control=scalar"])
        ['optimizer=adam', 'control=null,scalar']
    """
    return ["control=null,scalar" if item == "control=scalar" else item for item in overrides]


def _key(override: str) -> str:
    return override.partition("=")[0]


def _items(text: str) -> list[str]:
    """Split ``a,b,c`` into its choices; anything else, as ``range(0,3)``, is one item."""
    if any(mark in text for mark in "([{\"'"):
        return [text]
    return [item.strip() for item in text.split(",") if item.strip()]


def _params(name: str, config: DictConfig) -> Mapping[Any, Any]:
    params: Any = config.hydra.sweeper.params
    if params is not None and not isinstance(params, Mapping):
        raise UserError(
            f"Invalid hydra.sweeper.params of {name}: {params!r}. Must be a mapping, as seed: 0,1."
        )
    return params or {}


def _listed(name: str, config: DictConfig, common: Grid) -> list[Grid]:
    if config.grids is None:
        return [common]
    # Resolved here: in its run an interpolation would meet what the grid has put in its place.
    listed = config.grids
    plain = OmegaConf.to_container(listed, resolve=True) if OmegaConf.is_config(listed) else listed
    if not isinstance(plain, list) or not all(isinstance(grid, Mapping) for grid in plain):
        raise UserError(f"Invalid grids of {name}: {plain}. Must be a list of key: values.")
    return [_texts(grid, config) | common for grid in plain]


def texts(grid: Mapping[str, Any]) -> Grid:
    """Write values of a YAML as they are typed: a list as its items with commas between.

    Example:
        >>> texts({"optimizer": ["adam", "sgd"], "trials": 12, "grid": {"lr": 8, "damping": 3}})
        {'optimizer': 'adam,sgd', 'trials': '12', 'grid': 'lr:8,damping:3'}
    """
    made = {}
    for key, value in grid.items():
        if isinstance(value, Mapping):
            made[key] = ",".join(f"{name}:{commandline.quoted(one)}" for name, one in value.items())
        elif isinstance(value, list):
            made[key] = ",".join(map(commandline.quoted, value))
        else:
            made[key] = value if isinstance(value, str) else commandline.quoted(value)
    return made


def _texts(grid: Mapping[Any, Any], config: DictConfig) -> Grid:
    """Write the values of a grid as overrides; a list is one value only where one is meant."""
    texts = {}
    for key, value in grid.items():
        choices = isinstance(value, list | ListConfig)
        if choices and not OmegaConf.is_list(OmegaConf.select(config, str(key))):
            texts[str(key)] = ",".join(map(commandline.quoted, value))
        else:
            texts[str(key)] = str(value)
    return texts
