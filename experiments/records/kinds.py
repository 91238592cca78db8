"""What a value of a record may be: kinds, and the one check that goes by them.

A record may have been made by another version, on another machine, or by hand. It is checked as a
whole when it is read, so that whoever uses it later need not ask again. Standard library only.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN = 40  # characters of a value in a fault
_NAME = re.compile(r"[^\\/\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
        words: What it must be, as a fault says it.
        accepts: Whether a value is such.
        keys: Of a mapping, the kinds of known keys; it may have further ones.
        each: The kind of every value of a mapping, or item of a list.
        required: Whether the key must be there.
    """

    words: str
    accepts: Callable[[Any], bool]
    keys: "Mapping[str, Kind]" = dataclasses.field(default_factory=dict)
    each: "Kind | None" = None
    required: bool = False

    @property
    def needed(self) -> "Kind":
        """The same, of a key that must be there."""
        return dataclasses.replace(self, required=True)

    @property
    def or_null(self) -> "Kind":
        """The same, or null."""
        accepts = self.accepts
        words = f"{self.words} or null"
        return dataclasses.replace(self, words=words, accepts=lambda v: v is None or accepts(v))


def mapping(keys: Mapping[str, Kind] | None = None, *, each: Kind | None = None) -> Kind:
    """Make the kind of a mapping with some keys, or with values of one kind."""
    return Kind("a mapping", lambda value: isinstance(value, dict), keys or {}, each)


def list_of(each: Kind) -> Kind:
    """Make the kind of a list of one kind."""
    return Kind("a list", lambda value: isinstance(value, list), each=each)


def one_of(*values: str | int) -> Kind:
    """Make the kind of a closed choice."""
    words = f"one of: {', '.join(map(str, values))}"
    return Kind(words, lambda value: not isinstance(value, bool) and value in values)


def whole(low: int, high: int = 2**64 - 1) -> Kind:
    """Make the kind of whole numbers within bounds."""
    words = f"a whole number >= {low}" if high >= 2**63 else f"a whole number in [{low}, {high}]"
    return Kind(words, lambda value: type(value) is int and low <= value <= high)


def matching(pattern: str, words: str) -> Kind:
    """Make the kind of text that matches a pattern as a whole."""
    compiled = re.compile(pattern)
    return Kind(words, lambda value: isinstance(value, str) and bool(compiled.fullmatch(value)))


def _is_number(value: Any) -> bool:
    # A whole number without bound, as YAML may have one, is no number to any reader.
    return type(value) is float or (type(value) is int and -(2**63) <= value < 2**64)


TEXT = Kind("text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
AMOUNT = Kind("a number >= 0", lambda value: _is_number(value) and 0 <= value < math.inf)
COUNT = whole(0)
MAPPING = mapping()
LABEL = Kind("text, not empty", lambda value: isinstance(value, str) and bool(value))
# Ids become names of files.
NAME = Kind(
    "a name without slashes and control characters",
    lambda value: (
        isinstance(value, str)
        and bool(_NAME.fullmatch(value))
        and not value.startswith(".")
        and len(value) <= 200
    ),
)
SHA256 = matching(r"[0-9a-f]{64}", "a sha256")
COMMIT = matching(r"[0-9a-f]{40,64}", "a commit's id")
# Read below a folder of ours.
INNER_PATH = Kind(
    "a path below its folder",
    lambda value: (
        isinstance(value, str)
        and not value.startswith("/")
        and "\0" not in value
        and ".." not in value.split("/")
    ),
)


def fault(value: Any, kind: Kind, name: str = "") -> str | None:
    """Say in a few words what is wrong with a value, the first thing of it; None: nothing.

    Args:
        value: As it was read.
        kind: What it must be.
        name: What it is, by dotted keys; empty for a whole file.

    Example:
        >>> fault({"seed": "one"}, mapping({"seed": COUNT.needed}))
        'seed is "one", must be a whole number >= 0'
        >>> fault({"a": {}}, mapping({"a": mapping({"b": TEXT.needed})}))
        'lacks a.b'
    """
    if _fits(value, kind):  # nearly always, and faster than to name each part
        return None
    if not kind.accepts(value):
        return f"{f'{name} is ' if name else ''}{shown(value)}, must be {kind.words}"
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        missing = [
            prefix + key for key, of in kind.keys.items() if of.required and key not in value
        ]
        if missing:
            return f"lacks {', '.join(missing)}"
        parts = [(key, of) for key, of in kind.keys.items() if key in value]
        parts += [(key, kind.each) for key in value if kind.each]
        found = (fault(value[key], of, f"{prefix}{key}") for key, of in parts)
    elif isinstance(value, list) and (each := kind.each):
        found = (fault(item, each, f"{name}[{at}]") for at, item in enumerate(value))
    else:
        return None
    return next((line for line in found if line), None)


def _fits(value: Any, kind: Kind) -> bool:
    if not kind.accepts(value):
        return False
    if isinstance(value, dict):
        for key, of in kind.keys.items():
            if (key not in value and of.required) or (key in value and not _fits(value[key], of)):
                return False
        return kind.each is None or all(_fits(item, kind.each) for item in value.values())
    if isinstance(value, list) and kind.each is not None:
        return all(_fits(item, kind.each) for item in value)
    return True


def shown(value: Any) -> str:
    """Write a value as JSON has it, in one line and cut short."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
