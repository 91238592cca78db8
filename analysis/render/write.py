"""Writing files so that a reader sees the old or the new content, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from experiments.system.output import plain


def write_text(path: Path, text: str) -> None:
    """Write a text that may hold parts of records; see ``plain`` for what is shown of them."""
    write_atomic(path, plain(text).encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's files are for their owner only
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
