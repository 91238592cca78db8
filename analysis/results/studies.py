"""Arrays that studies have left beside runs: ``.studies/<study>/<id>/`` where the runs lie."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.records.schema import STUDIES_DIR, STUDY_ARRAYS, STUDY_FILE, roots

Arrays = dict[str, npt.NDArray[Any]]

SCHEMA = 1


class BrokenStudyError(ValueError):
    """A study that cannot be read; the message is one line that names file and fault."""


def load_study(runs_dir: Path | None, name: str) -> tuple[Arrays, dict[str, Any]] | None:
    """Read the result of a study, of several configurations the one that was finished last.

    Args:
        runs_dir: Folder of the run records.
        name: Of the study, as in ``conf/study/``.

    Returns:
        Its arrays, and its ``facts`` with ``study_id`` and ``command``; None where there is none.

    Raises:
        BrokenStudyError: If a file of it is damaged.
    """
    found = [(_described(path), path.parent) for path in study_files(runs_dir, name)]
    if not found:
        return None
    described, folder = max(found, key=lambda pair: (pair[0]["finished"], pair[1].name))
    content = (folder / STUDY_ARRAYS).read_bytes() if (folder / STUDY_ARRAYS).is_file() else b""
    if hashlib.sha256(content).hexdigest() != described["arrays_sha256"]:
        raise BrokenStudyError(
            f"{name}/{folder.name}/{STUDY_ARRAYS}: damaged. Delete the folder, and measure it "
            f"again: {described['command']}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise BrokenStudyError(f"{name}/{folder.name}/{STUDY_ARRAYS}: {error}") from error
    own = {key: described[key] for key in ("study_id", "command")}
    return arrays, {**described["facts"], **own}


def studies_digest(runs_dir: Path | None) -> bytes:
    """Digest of all studies under ``runs_dir``; it changes with what any of them holds."""
    digest = hashlib.sha256()
    for path in study_files(runs_dir, "*"):
        digest.update(path.read_bytes())  # it holds the checksum of the arrays
        arrays = path.with_name(STUDY_ARRAYS)
        digest.update(str(arrays.stat().st_size if arrays.is_file() else None).encode())
    return digest.digest()


def study_files(runs_dir: Path | None, name: str) -> list[Path]:
    """Find the descriptions of finished studies; a hidden folder is one that was cut off."""
    if runs_dir is None:
        return []
    return [
        path
        for root in roots(runs_dir)
        for path in sorted((root / STUDIES_DIR).glob(f"{name}/[!.]*/{STUDY_FILE}"))
    ]


def _described(path: Path) -> dict[str, Any]:
    where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenStudyError(f"{where}: not readable as JSON ({error})") from None
    if not isinstance(described, dict) or described.get("schema") != SCHEMA:
        raise BrokenStudyError(f"{where}: not of schema {SCHEMA}, which this version reads")
    wanted = {"study_id": str, "command": str, "finished": str, "arrays_sha256": str, "facts": dict}
    for key, kind in wanted.items():
        if not isinstance(described.get(key), kind):
            raise BrokenStudyError(f"{where}: lacks {key}")
    return described
