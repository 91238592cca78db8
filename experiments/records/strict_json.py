"""JSON of numbers that need not be finite: JSON has none such, so they are written as words.

The words are those of the JSON mapping of Protocol Buffers: ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``. Unlike ``null`` they say what was measured; unlike the bare words that Python's
``json`` writes, every reader of JSON takes them. What is read may come from anywhere: what would
break a reader later (a number without bound, a key twice, ever deeper nesting) is no JSON here.
Standard library only.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
DEEPEST = 32
"""Levels of nesting; a record has eight."""
_NESTED = frozenset({dict, list})
_LONGEST = 20  # characters of a whole number: with its sign, each that 64 bits hold


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write ``value`` as JSON that any reader takes.

    Example:
        >>> dumps({"step": 1, "loss": float("nan"), "perplexity": float("inf")})
        '{"step": 1, "loss": "NaN", "perplexity": "Infinity"}'
    """
    try:  # nearly always, and at the speed of C
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_in_words(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Read what ``dumps`` has written, or what Python's ``json`` has.

    Raises:
        ValueError: If it is no JSON, or has a key twice, a whole number of more than 64 bits, text
            that is no Unicode, or more than ``DEEPEST`` levels.

    Example:
        >>> loads('[{"loss": "NaN"}, "-Infinity", -Infinity, "NaNs"]')
        [{'loss': nan}, -inf, -inf, 'NaNs']
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        value = _PLAIN.decode(text)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} levels") from None
    # A callback for each mapping doubles the time, so that a key twice is found by counting keys;
    # text that has the two characters makes a second reading, and no fault.
    if _keys(value, DEEPEST) != text.count('":'):
        _CAREFUL.decode(text)
    if "\\ud" in text or "\\uD" in text:  # half of a pair is no character
        json.dumps(value, ensure_ascii=False).encode()
    return _in_numbers(value) if 'NaN"' in text or 'Infinity"' in text else value


def _keys(value: Any, levels: int) -> int:
    """Count the keys of nested values; all rows of a file pass here."""
    if type(value) not in _NESTED:
        return 0
    if not levels:
        raise ValueError(f"more than {DEEPEST} levels")
    found, items = (len(value), value.values()) if type(value) is dict else (0, value)
    for item in items:
        if type(item) in _NESTED:
            found += _keys(item, levels - 1)
    return found


def _whole(text: str) -> int:
    if len(text) > _LONGEST or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"a whole number of more than 64 bits, {text[:12]}...")
    return int(text)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} twice")
    return value


_PLAIN = json.JSONDecoder(parse_int=_whole)
_CAREFUL = json.JSONDecoder(parse_int=_whole, object_pairs_hook=_each_once)


def _in_words(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _in_words(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_in_words(item) for item in value]
    return value


def _in_numbers(value: Any) -> Any:
    if isinstance(value, str):
        return WORDS.get(value, value)
    if isinstance(value, dict):
        return {key: _in_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_numbers(item) for item in value]
    return value
