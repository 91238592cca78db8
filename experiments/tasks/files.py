"""Data files: found, unpacked, verified; and a cache of what is slow to decode."""

import gzip
import hashlib
import logging
import lzma
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.errors import UserError

logger = logging.getLogger(__name__)

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class DataFile:
    """A file of a data set.

    Attributes:
        names: Where it may lie in the folder; the first that exists is read.
        sha256: Checksum of the content: after unpacking where ``unpack`` is set.
        unpack: Whether the ending ``.gz`` or ``.xz`` is undone.
    """

    names: tuple[str, ...]
    sha256: str
    unpack: bool = True


def locate(folder: Path, file: DataFile, *, hint: str) -> Path:
    """Return the path of the file.

    Args:
        folder: The data folder.
        file: What to look for.
        hint: What would provide the file; the end of the error message.

    Raises:
        UserError: If the folder or the file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"Data folder {folder} does not exist. {hint}")
    for name in file.names:
        if (folder / name).exists():
            return folder / name
    others = f" (or {', '.join(file.names[1:])})" if len(file.names) > 1 else ""
    raise UserError(f"Data file {folder / file.names[0]}{others} is missing. {hint}")


def read_verified(folder: Path, file: DataFile, *, hint: str) -> bytes:
    """Read a file, unpack it, and compare its sha256.

    Args:
        folder: The data folder.
        file: What to read.
        hint: What would provide a good copy; the end of the error message.

    Returns:
        The (unpacked) content.

    Raises:
        UserError: If the file is missing, unreadable, empty, truncated, or not the one expected.
    """
    path = locate(folder, file, hint=hint)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Data file {path} cannot be read: {error.strerror}. {hint}") from None
    if not content:
        raise UserError(f"Data file {path} is empty. {hint}")
    if file.unpack and path.suffix in _UNPACK:
        try:
            content = _UNPACK[path.suffix](content)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UserError(f"Data file {path} is truncated or corrupt: {error}. {hint}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise UserError(
            f"Data file {path} has sha256 {found}, expected {file.sha256} (truncated, corrupt, or "
            f"another version). {hint}"
        )
    return content


def cached_arrays(
    cache_dir: Path, key: str, build: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return arrays from the cache, or build them and try to keep them.

    A cache that is corrupt is built again; one that cannot be written is skipped, because the
    arrays are at hand all the same.

    Args:
        cache_dir: Folder of the cache; made where it is missing.
        key: File name without ending. It holds the checksum of the source, so that another source
            is another file.
        build: Makes the arrays.

    Returns:
        The arrays by name.
    """
    path = cache_dir / f"{key}.npz"
    # Everything that numpy raises for a file cut short, overwritten or with flipped bits.
    with (
        suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error),
        path.open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        return {name: stored[name] for name in stored.files}
    logger.info("decoding %s: once, then it is read from %s", key.partition("-")[0], cache_dir)
    arrays = build()
    with suppress(OSError):
        _write_atomically(path, arrays)
    return arrays


def _write_atomically(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
