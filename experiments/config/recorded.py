"""The config of a record as plain values: nothing in it is resolved, imported or built."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from experiments.config.lift import lifted
from experiments.config.values import leaves
from experiments.records.kinds import MAPPING, shown
from experiments.records.reading import BrokenRecordError, check, name_of, read_bytes
from experiments.records.schema import CONFIG_FILE
from experiments.records.strict_json import DEEPEST
from experiments.records.tables import CONFIG


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run from its folder.

    A run writes its config resolved, so that a record with an interpolation is none of a run: it
    might ask for a variable of the environment of whoever reads it.

    Raises:
        BrokenRecordError: If it is missing, or no config of a run.
    """
    path = folder / CONFIG_FILE
    content = read_bytes(path)
    try:
        text = content.decode()
        _refuse_what_grows(text)
        config: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except Exception as error:  # YAML and OmegaConf raise types of their own
        said = "no UTF-8" if isinstance(error, UnicodeError) else " ".join(str(error).split())
        raise BrokenRecordError(f"{name_of(path)}: not readable as YAML ({said})") from None
    check(path, config, MAPPING)
    config = {str(key): value for key, value in config.items()}
    for key, value in leaves(config):
        if "${" in f"{key}{value}":
            raise BrokenRecordError(
                f"{name_of(path)}: {key} is {shown(value)}, must be a plain value; nothing in a "
                "record is resolved"
            )
    check(path, lifted(config), CONFIG)
    return config


def _refuse_what_grows(text: str) -> None:
    """Refuse nesting without end, and references, by which a few lines become gigabytes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("a reference to another part")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels")
