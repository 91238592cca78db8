"""Is the report of these records already there? Told by digests, without reading the records.

A report leaves a hidden file beside its own: what it was made from, what it wrote, and what it had
to say. While all of that is the same, to make it again would write the same files.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.report.terminal import SHOWN
from experiments.records import strict_json
from experiments.records.archive import OPENED_DIR
from experiments.records.kinds import SHA256, TEXT, fault, list_of, mapping, whole

FILE = ".report.json"
VERSION = 1  # of that file; another one is not read
ROOT = Path(__file__).parents[2]
OURS = ("analysis", "conf", "experiments/records", "experiments/system")
"""What a report may read of the suite itself: its layer, what that imports, and rulesets."""
OF_RECORDS = (".analysis", ".locks", ".sweeps", OPENED_DIR)
"""Folders beside records that no report shows anything of, or that are made of archives there."""
PACKAGES = ("jinja2", "fonttools", "matplotlib", "numpy", "pandas", "pillow", "rich", "scipy")
KEPT = mapping(
    {
        "version": whole(VERSION, VERSION).needed,
        "inputs": SHA256.needed,
        "outputs": mapping(each=SHA256).needed,
        "absent": list_of(TEXT).needed,
        "shown": SHOWN.needed,
    }
)


def inputs_digest(runs_dir: Path, out: Path) -> str:
    """Digest of all that a report is made from.

    Records go by name, size, times and number of each of their files: whatever changes one
    changes one of these. What the suite itself brings goes by its content.

    Raises:
        OSError: If a folder cannot be read.
    """
    digest = hashlib.sha256(platform.python_version().encode())
    for name in PACKAGES:
        try:
            digest.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{name} none\n".encode())
    for path in sorted(path for folder in OURS for path in _files(ROOT / folder)):
        if path.is_file():
            digest.update(os.fsencode(path.relative_to(ROOT)) + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for path in sorted(_files(runs_dir, (*OF_RECORDS, out.resolve()))):
        try:
            found = path.stat()
        except OSError:  # a link that leads nowhere
            found = path.lstat()
        # A folder counts by its name: one that is empty is a record that lacks all.
        stamp: tuple[int, ...] = ()
        if not stat.S_ISDIR(found.st_mode):
            stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        digest.update(os.fsencode(path.relative_to(runs_dir)) + f"\0{stamp}\n".encode())
    return digest.hexdigest()


def unchanged(out: Path, inputs: str) -> Mapping[str, Any] | None:
    """Read what the report in ``out`` had to say, if it is whole and of these inputs.

    Args:
        out: Folder of the report.
        inputs: Of ``inputs_digest``.
    """
    try:
        kept = strict_json.loads(out.joinpath(FILE).read_bytes())
        if fault(kept, KEPT) or kept["inputs"] != inputs:
            return None
        if any(out.joinpath(name).exists() for name in kept["absent"]):
            return None
        if any(_digest(out / name) != digest for name, digest in kept["outputs"].items()):
            return None
    except (OSError, ValueError):
        return None
    shown: Mapping[str, Any] = kept["shown"]
    return shown


def content(
    out: Path, inputs: str, written: Iterable[str], absent: Iterable[str], shown: Mapping[str, Any]
) -> str:
    """Write down a report that was just made, for ``FILE``.

    Args:
        out: Folder of the report.
        inputs: Digest of what it was made from, taken before that was read.
        written: Its files, from ``out``.
        absent: Files that must not be there, as there is nothing for them.
        shown: What it had to say (``SHOWN``).
    """
    kept = {
        "version": VERSION,
        "inputs": inputs,
        "outputs": {name: _digest(out / name) for name in written},
        "absent": list(absent),
        "shown": shown,
    }
    return strict_json.dumps(kept)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(folder: Path, without: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Everything below a folder, of a link what it leads to; without some names, or a place."""
    seen: set[str] = set(map(str, without))
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name not in seen and name != "__pycache__"]
        yield from (Path(place, name) for name in (*names, *folders))
