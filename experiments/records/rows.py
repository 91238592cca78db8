"""The rows of a run, one an evaluation: read back from ``metrics.jsonl``, and checked."""

import os
from pathlib import Path
from typing import Any

from experiments.records import strict_json
from experiments.records.kinds import Kind, mapping, whole
from experiments.records.reading import BrokenRecordError, check, name_of, read_bytes

_VALUES = frozenset({int, float, type(None)})
_VALUE = Kind("a number or null", lambda value: type(value) in _VALUES)


def read_rows(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Read ``metrics.jsonl``; a missing file has no rows.

    Returns:
        The rows, and whether a half-written last line was dropped.

    Raises:
        BrokenRecordError: If any other line is not a JSON object, or one of them is no row.
    """
    if not os.path.lexists(path):
        return [], False
    lines = read_bytes(path).splitlines()
    try:  # all at once is a third faster, and nearly every file is whole
        together = strict_json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        together = []
    if len(together) == len(lines) and set(map(type, together)) <= {dict}:
        return _checked(together, path), False
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        fault = "not a JSON object"
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            row, fault = None, f"not a JSON object ({_one_line(error)})"
        if isinstance(row, dict):
            rows.append(row)
        elif number == len(lines):
            return _checked(rows, path), True
        else:
            raise BrokenRecordError(f"{name_of(path)}: line {number} is {fault}")
    return _checked(rows, path), False


def _checked(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Give rows of numbers, each with its step."""
    for number, row in enumerate(rows, start=1):
        if (
            type(row.get("step")) is int
            and row["step"] >= 0
            and _VALUES.issuperset(map(type, row.values()))
        ):
            continue
        check(path, row, mapping({"step": whole(0).needed}, each=_VALUE), at=f"line {number}: ")
    return rows


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
