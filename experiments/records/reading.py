"""Files of a record as data: read, checked as a whole, and refused in one line that names them.

Nothing in them is executed. Standard library only.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.records import strict_json
from experiments.records.kinds import Kind, fault, mapping, whole

_VERSIONED = mapping({"schema": whole(1).needed})


class BrokenRecordError(UserError, ValueError):
    """A record that cannot be read; the message is one line that names file and fault."""


class NewerRecordError(BrokenRecordError):
    """A record of a newer version: nothing is wrong with it, and nothing may be done to it."""


def name_of(path: Path) -> str:
    """Name a file by its folder and itself; bytes that are no text are replaced."""
    name = f"{path.parent.name}/{path.name}"
    return os.fsencode(name).decode(errors="replace")


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        BrokenRecordError: If it is none, or cannot be read; a pipe or device would not end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = errno.EISDIR if path.is_dir() else errno.EINVAL
            raise OSError(what, "not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise BrokenRecordError(f"{name_of(path)}: missing") from None
    except OSError as error:
        raise BrokenRecordError(f"{name_of(path)}: not readable ({error.strerror})") from None


def content_or_fault(path: Path) -> bytes:
    """Give what a digest takes from a file: its content, else why there is none."""
    try:
        return read_bytes(path)
    except BrokenRecordError as error:
        return str(error).encode()


def read_json(path: Path, kind: Kind, *, schemas: Sequence[int] | None = None) -> dict[str, Any]:
    """Read a file of JSON that is of a kind, a mapping.

    Args:
        path: The file.
        kind: What it must hold.
        schemas: Versions that can be read, where the file says which one it has.

    Raises:
        BrokenRecordError: If it cannot be read, or is not.
        NewerRecordError: If a newer version wrote it.
    """
    content = read_bytes(path)
    try:
        value: dict[str, Any] = strict_json.loads(content)
    except ValueError as error:
        said = "no UTF-8" if isinstance(error, UnicodeError) else " ".join(str(error).split())
        raise BrokenRecordError(f"{name_of(path)}: not readable as JSON ({said})") from None
    if schemas is not None:
        check(path, value, _VERSIONED)
        if value["schema"] > max(schemas):
            raise NewerRecordError(
                f"{name_of(path)}: written by a newer version: schema {value['schema']}, this one "
                f"reads {' and '.join(map(str, schemas))}; update"
            )
    check(path, value, kind)
    return value


def check(path: Path, value: Any, kind: Kind, *, at: str = "") -> None:
    """Check what a file holds, or a part of it that stands ``at`` a place.

    Raises:
        BrokenRecordError: Names the file and the first fault.
    """
    if found := fault(value, kind):
        raise BrokenRecordError(f"{name_of(path)}: {at}{found}")
