"""Single values of a config: of the kind that its YAML has, and within bounds."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.config.suite_keys import SUITE
from experiments.errors import UserError

Values = Mapping[str, Any]

CHOICES = {"evaluate_test": (True, False, "best")}
"""Values of which not all are of one kind."""
OPEN = (None, "???", "auto")
"""Defaults that say nothing of other values: `auto` is a choice whose others may be of any kind."""
HYPERPARAMETERS = "optimizer."


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted key.

    Example:
        >>> dict(leaves({"task": {"name": "digits"}, "seed": 0}))
        {'task.name': 'digits', 'seed': 0}
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def check_finite(pairs: Iterable[tuple[str, Any]]) -> None:
    """Refuse numbers that are not finite.

    Args:
        pairs: Dotted keys with their values, as ``leaves`` gives them.

    Raises:
        UserError: At the first.
    """
    for key, value in pairs:
        if any(isinstance(item, float) and not math.isfinite(item) for item in _items(value)):
            raise UserError(f"Invalid {key}: {value}. Must be finite.")


def check(config: Values, *, like: Values) -> None:
    """Refuse text where the YAML has a number, and the like; Hydra takes any value for any key.

    A hyperparameter must also be >= 0, unless ``optimizer.suite.signed`` names it.

    Args:
        config: The config.
        like: As the YAML files have it, nothing resolved.

    Raises:
        UserError: At the first value that is of another kind or out of bounds.
    """
    check_kinds(config, like=like)
    _check_resources(config)
    signed = _named_by(config, "optimizer", "signed")
    in_sections = ((key, value) for key, value in leaves(config) if "." in key)
    for key, value in in_sections:  # those beside them have bounds of their own
        is_bounded = key.startswith(HYPERPARAMETERS) and not _is_suites(key)
        is_bounded = is_bounded and key.removeprefix(HYPERPARAMETERS) not in signed
        for item in filter(_is_number, _items(value)):
            if not math.isfinite(item) or (is_bounded and item < 0):
                raise UserError(
                    f"Invalid {key}: {value}. Must be finite{' and >= 0' * is_bounded}."
                )


def check_kinds(config: Values, *, like: Values) -> None:
    """Refuse values of another kind than those of the YAML files.

    Args:
        config: The config; what refers to something else is passed over.
        like: As the YAML files have it, nothing resolved.

    Raises:
        UserError: At the first.
    """
    for key, value, default in _beside(config, like):
        section, _, name = key.rpartition(".")
        if _refers(value) or (value is None and name in _named_by(like, section, "nullable")):
            continue
        if repr(value) in map(repr, CHOICES.get(key, ())):
            continue
        if _is_number(value) and _is_number(default) and name in _named_by(like, section, "real"):
            continue
        if key in CHOICES:
            known = ", ".join(str(one).lower() for one in CHOICES[key])
            raise UserError(f"Invalid {key}: {value!r}. Must be one of: {known}.")
        if not _is_like(value, default):
            raise UserError(
                f"Invalid {key}: {value!r}. Must be {_wanted(default)}, as the default {default!r}."
            )


def _check_resources(config: Values) -> None:
    for key in ("jobs", "runs_per_job", "processes"):
        if config[key] < 1:
            raise UserError(f"Invalid {key}: {config[key]}. Must be a whole number >= 1.")
    memory = config["memory_limit_gb"]
    if memory is not None and not (_is_number(memory) and 0 < memory < math.inf):
        raise UserError(f"Invalid memory_limit_gb: {memory!r}. Must be a number > 0, or null.")
    setting = config["setting"]
    if isinstance(setting, bool | list | Mapping):
        raise UserError(f"Invalid setting: {setting!r}. Must be text, or null.")
    seed = config["seed"]
    if seed < 0:
        raise UserError(f"Invalid seed: {seed}. Must be >= 0.")
    threads = config["threads"]
    if threads is not None and (_kind(threads) != "a whole number" or threads < 1):
        raise UserError(f"Invalid threads: {threads!r}. Must be a whole number >= 1, or null.")


def _beside(config: Values, like: Values, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each value that has a default which says of what kind it is, with the default."""
    for key, default in like.items():
        if key == SUITE or key not in config:
            continue
        value, name = config[key], f"{prefix}{key}"
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            yield from _beside(value, default, f"{name}.")
        elif default not in OPEN and not _refers(default):
            yield name, value, default


def _named_by(config: Values, section: str, key: str) -> Sequence[str]:
    """Give the list that a section has under ``suite``; what is no list is refused elsewhere."""
    suite = (config.get(section) or {}).get(SUITE) if section else None
    found = suite.get(key) if isinstance(suite, Mapping) else None
    return found if isinstance(found, list) else ()


def _refers(value: Any) -> bool:
    return any(isinstance(item, str) and ("${" in item or item == "???") for item in _items(value))


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, list) and isinstance(value, list):
        return len(value) == len(default) and all(map(_is_like, value, default))
    wanted, kind = _kind(default), _kind(value)
    return default in OPEN or wanted == kind or (wanted == "a number" and kind == "a whole number")


def _wanted(default: Any) -> str:
    if isinstance(default, list) and default:
        return f"a list of {len(default)}, each {_kind(default[0])}"
    return _kind(default)


def _is_suites(key: str) -> bool:
    return f".{SUITE}." in key


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "text" if isinstance(value, str) else type(value).__name__
