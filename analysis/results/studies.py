"""Arrays that studies have left beside runs: ``.studies/<study>/<id>/`` where the runs lie."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.records.reading import BrokenRecordError, content_or_fault, read_json
from experiments.records.schema import STUDIES_DIR, STUDY_ARRAYS, STUDY_FILE, roots
from experiments.records.tables import STUDY
from experiments.system.output import plain_values

Arrays = dict[str, npt.NDArray[Any]]

SCHEMA = 1


def load_study(runs_dir: Path | None, name: str) -> tuple[Arrays, dict[str, Any]] | None:
    """Read the result of a study, of several configurations the one that was finished last.

    Args:
        runs_dir: Folder of the run records.
        name: Of the study, as in ``conf/study/``.

    Returns:
        Its arrays, and its ``facts`` with ``study_id`` and ``command``; None where there is none.

    Raises:
        BrokenRecordError: If a file of it is damaged, or of none the description can be read.
    """
    found, broken = _described(runs_dir, name)
    if not found:
        if broken:
            raise BrokenRecordError(broken[0])
        return None
    described, folder = max(found, key=lambda pair: (pair[0]["finished"], pair[1].name))
    content = content_or_fault(folder / STUDY_ARRAYS)
    if hashlib.sha256(content).hexdigest() != described["arrays_sha256"]:
        raise BrokenRecordError(
            f"{name}/{folder.name}/{STUDY_ARRAYS}: damaged. Delete the folder, and measure it "
            f"again: {described['command']}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # numpy raises what its readers meet: no closed list of types
        raise BrokenRecordError(f"{name}/{folder.name}/{STUDY_ARRAYS}: {error}") from error
    own = {key: described[key] for key in ("study_id", "command")}
    return arrays, {**described["facts"], **own}


def study_problems(runs_dir: Path | None) -> tuple[str, ...]:
    """One line for each study that is there and whose description cannot be read."""
    return tuple(_described(runs_dir, "*")[1])


def studies_digest(runs_dir: Path | None) -> bytes:
    """Digest of all studies under ``runs_dir``; it changes with what any of them holds."""
    digest = hashlib.sha256()
    for path in study_files(runs_dir, "*"):
        digest.update(content_or_fault(path))  # it holds the checksum of the arrays
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


def _described(
    runs_dir: Path | None, name: str
) -> tuple[list[tuple[dict[str, Any], Path]], list[str]]:
    """Read the descriptions of a study, each with its folder, and a line on each fault."""
    found: list[tuple[dict[str, Any], Path]] = []
    broken: list[str] = []
    for path in study_files(runs_dir, name):
        try:
            described: dict[str, Any] = plain_values(read_json(path, STUDY, schemas=(SCHEMA,)))
            found.append((described, path.parent))
        except BrokenRecordError as error:
            broken.append(f"{path.parents[1].name}/{error}")
    return found, broken
