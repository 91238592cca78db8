"""What a recorded config may be built of: what the files of ``conf/`` name, and what was typed.

A record is data and may come from anybody. Hydra calls whatever ``_target_`` names, as its other
keys between underscores say; so of a record each of them must be one that a file of the config
group has at the same place. Nothing is imported to find out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config import by_name, commandline, named
from experiments.errors import UserError

GROUPS = ("task", "tokenization", "model", "optimizer", "schedule", "budget")
"""Of what a run is built, and of what the steps of its budget were measured."""
NOTES = ("origin", "tuning", "tracking")
"""Sections of a record that nothing is built of."""

Special = tuple[str, Any]


def specials(value: Any, place: str = "") -> Iterator[Special]:
    """Yield every key of nested values that Hydra reads as an order, by dotted place.

    Example:
        >>> list(specials({"_target_": "a.B", "lr": 1.0, "inner": [{"_target_": "c"}]}))
        [('_target_', 'a.B'), ('inner.0._target_', 'c')]
    """
    pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, item in pairs:
        name = str(key)
        if len(name) > 2 and name[0] == name[-1] == "_":
            yield f"{place}{name}", item
        yield from specials(item, f"{place}{name}.")


def shipped(group: str, conf: Path = commandline.CONF) -> list[Special]:
    """List the special keys of all files of a config group; a file that is no YAML has none."""
    found: list[Special] = []
    for path in sorted((conf / group).glob("*.yaml")):
        try:
            found += specials(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError):
            continue
    return found


def typed(words: Sequence[str]) -> tuple[list[Special], list[str]]:
    """Split off what a user allows besides, as ``optimizer._target_=my.Optimizer``.

    What was typed for the run in place of a name in ``conf/`` (``named.py``) allows what it names.

    Returns:
        The keys with their values, and the other words.

    Raises:
        UserError: If what is typed for a group is none that can be had.

    Example:
        >>> typed(["run=a", "optimizer._target_=my.Optimizer"])
        ([('optimizer._target_', 'my.Optimizer')], ['run=a'])
    """
    found: list[Special] = []
    others = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in named.GROUPS:
            for name in named.labelled(key, value, commandline.choices(key)).split(","):
                section = by_name.section(key, name)
                found += [(f"{key}.{place}", given) for place, given in specials(section)]
        elif equals and key.partition(".")[0] in GROUPS and key.endswith("_"):
            found.append((key, yaml.safe_load(value)))
        else:
            others.append(word)
    return found, others


def check(
    config: Mapping[str, Any], *, allowed: Sequence[Special] = (), conf: Path = commandline.CONF
) -> None:
    """Refuse a recorded config that would build something else.

    Args:
        config: The config as it was recorded.
        allowed: What the user typed, as ``typed`` reads it.
        conf: The ``conf/`` of the code that is to run.

    Raises:
        UserError: Names the first such key.
    """
    if config.get("files") is not None:
        raise UserError("The record has `files`, which no record has: none is run.")
    for section, value in config.items():
        if section in NOTES:
            continue
        own = shipped(section, conf) if section in GROUPS else []
        known = [(f"{section}.{place}", given) for place, given in own]
        for place, given in specials({section: value}):
            if (place, given) not in [*known, *allowed]:
                how = _how(config, section, place, given)
                raise UserError(
                    f"The record has {place}={given}, which no file of conf/{section} has: it is "
                    f"not called. If it is yours, type {how} beside the command."
                )


def _how(config: Mapping[str, Any], section: str, place: str, given: Any) -> str:
    """Say what allows a key: what chose the section, where that was no name in ``conf/``."""
    words = (config.get("origin") or {}).get("command") or ()
    chosen = [word for word in words if str(word).startswith(f"{section}=")]
    if section in named.GROUPS and chosen and named.is_typed(chosen[0].partition("=")[2]):
        return str(chosen[0])
    return f"{place}={given}"
