"""What the user typed, made ready for Hydra: `all`, repeated overrides, the jobs of a sweep."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

CONF = Path(__file__).parents[2] / "conf"
ALL = "all"
GROUPS_WITH_ALL = ("optimizer", "task")


def choices(group: str) -> list[str]:
    """Names that a config group offers, found by listing its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def normalise(overrides: list[str]) -> list[str]:
    """Expand ``optimizer=all`` and ``task=all``; of a repeated override keep the last.

    Example:
        >>> normalise(["seed=0", "ruleset=tuned", "seed=1"])
        ['seed=1', 'ruleset=tuned']
    """
    parsed: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS_WITH_ALL and value == ALL:
            override = f"{key}={','.join(choices(key))}"
        parsed[key] = override
    return list(parsed.values())


def jobs(overrides: list[str]) -> list[list[str]]:
    """List the overrides of every job of a sweep, in the order in which Hydra launches them.

    Raises:
        OverrideParseException: If an override cannot be parsed.
    """
    (batch,) = BasicSweeper.split_arguments(_parse(overrides), max_batch_size=None)
    return [list(job) for job in batch]


def samples(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the first job of a sweep, then one for each other value: every value is met once."""
    alternatives = [_alternatives(override) for override in _parse(overrides)]
    first = [values[0] for values in alternatives]
    yield first
    for position, values in enumerate(alternatives):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]


def quoted(value: Any) -> str:
    """Write a value as an override has it.

    Example:
        >>> [quoted(value) for value in (0.1, None, [1, 2], "cosine", "a b")]
        ['0.1', 'null', '[1,2]', 'cosine', '"a b"']
    """
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class _Options:
    """What Hydra asks of its loader to expand ``glob(ada*)``, before Hydra runs."""

    @staticmethod
    def get_group_options(group_name: str, results_filter: Any = None, **_: Any) -> list[str]:
        return choices(group_name)


def _parse(overrides: list[str]) -> list[Override]:
    options = cast("ConfigLoader", _Options())
    return OverridesParser.create(config_loader=options).parse_overrides(overrides)


def _alternatives(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
