"""Resolved configs with single values changed."""

import copy
from collections.abc import Mapping
from typing import Any

from experiments.config.run_config import RunConfig

GONE = object()
"""Stands for a key that is not there."""


def changed(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Set values of a config by dotted key, new ones too, or take them out."""
    whole = copy.deepcopy(dict(config.values))
    for key, value in values.items():
        *path, name = key.split(".")
        section = whole
        for part in path:
            section = section.setdefault(part, {})
        if value is GONE:
            del section[name]
        else:
            section[name] = value
    return RunConfig.of(whole)
