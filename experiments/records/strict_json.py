"""JSON of numbers that need not be finite: JSON has none such, so they are written as words.

The words are those of the JSON mapping of Protocol Buffers: ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``. Unlike ``null`` they say what was measured; unlike the bare words that Python's
``json`` writes, every reader of JSON takes them. Standard library only.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


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
        ValueError: If it is no JSON.

    Example:
        >>> loads('[{"loss": "NaN"}, "-Infinity", -Infinity, "NaNs"]')
        [{'loss': nan}, -inf, -inf, 'NaNs']
    """
    value = json.loads(text)
    marks = ('NaN"', 'Infinity"') if isinstance(text, str) else (b'NaN"', b'Infinity"')
    return _in_numbers(value) if any(mark in text for mark in marks) else value  # type: ignore[operator]


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
