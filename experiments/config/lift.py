"""Configs of older records, as a config is laid out today."""

from collections.abc import Mapping
from typing import Any

from experiments.config.suite_keys import SUITE

# What stood beside the arguments of an object before it had a key of its own.
_BESIDE = {
    "optimizer": (
        "name",
        "family",
        "needs",
        "shardable",
        "search",
        "published_as",
        "control",
        "neutral",
        "nullable",
    ),
    "task": ("name", "epochs", "threads", "published_as", "neutral"),
    "model": ("name", "parameters", "weights", "published_as", "neutral"),
    "tokenization": ("name", "published_as", "neutral"),
    "schedule": ("name", "neutral"),
}


def lifted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move what only the suite reads of a section to where it stands today; the id stays.

    Args:
        values: The config of a record of any version.
    """
    return {key: _lifted(_BESIDE.get(key, ()), section) for key, section in values.items()}


def _lifted(beside: tuple[str, ...], section: Any) -> Any:
    if not isinstance(section, Mapping) or SUITE in section or not set(beside) & set(section):
        return section
    own = {key: value for key, value in section.items() if key not in beside}
    return {**own, SUITE: {key: section[key] for key in beside if key in section}}
