"""Single values of a config: of the kind that its YAML has, and within bounds."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from experiments.errors import UserError


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


def check(flat: Mapping[str, Any], *, like: Mapping[str, Any]) -> None:
    """Refuse text where the YAML has a number, and the like; Hydra takes any value for any key.

    Args:
        flat: The config's values by dotted key.
        like: Those of the YAML files.

    Raises:
        UserError: At the first value that is of another kind or out of bounds.
    """
    for key, value in flat.items():
        if any(isinstance(item, float) and math.isnan(item) for item in _items(value)):
            raise UserError(f"Invalid {key}: {value}. Must be a number, and nan is none.")
        default = like.get(key)
        # `auto` stands for a choice whose other values may be of any type.
        if default in (None, "???", "auto") or (isinstance(default, str) and "${" in default):
            continue
        section, _, name = key.rpartition(".")
        if value is None and name in (like.get(f"{section}.suite.nullable") or ()):
            continue
        wanted = _kind(default)
        if wanted != _kind(value) and not (
            wanted == "a number" and _kind(value) == "a whole number"
        ):
            raise UserError(
                f"Invalid {key}: {value!r}. Must be {wanted}, as the default {default!r}."
            )
    for key in ("jobs", "processes"):
        if flat[key] < 1:
            raise UserError(f"Invalid {key}: {flat[key]}. Must be a whole number >= 1.")
    memory = flat["memory_limit_gb"]
    if memory is not None and not (
        _kind(memory) in ("a number", "a whole number") and 0 < memory < math.inf
    ):
        raise UserError(f"Invalid memory_limit_gb: {memory!r}. Must be a number > 0, or null.")
    seed = flat["seed"]
    if seed < 0:
        raise UserError(f"Invalid seed: {seed}. Must be >= 0.")
    threads = flat["threads"]
    if threads is not None and (_kind(threads) != "a whole number" or threads < 1):
        raise UserError(f"Invalid threads: {threads!r}. Must be a whole number >= 1, or null.")


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
    return "text" if isinstance(value, str) else type(value).__name__
