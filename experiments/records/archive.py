"""Records of many runs as one compact text: a file a task, of lines of JSON under xz.

The first line of ``<task>.jsonl.xz`` says which version it is. Each further one is a run, or the
ledger of a tuned file. A folder of archives is read like one of runs: ``opened`` lays the records
out below it, where whoever reads a record checks it as any other. Standard library only.
"""

import atexit
import contextlib
import hashlib
import lzma
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records import strict_json
from experiments.records.calibration import RUN_FILE
from experiments.records.kinds import (
    MAPPING,
    NAME,
    TEXT,
    fault,
    list_of,
    mapping,
    matching,
    one_of,
)
from experiments.records.reading import BrokenRecordError, read_bytes
from experiments.records.schema import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    STATUS_FILE,
    roots,
)
from experiments.records.store import write_atomic

SUFFIX = ".jsonl.xz"
VERSION = 1
TRIALS_DIR = ".tuning"
LEDGERS_DIR = ".ledgers"  # of what is laid out: the ledgers of tuned files, by their paths
OPENED_DIR = ".unpacked"
_FAULTS = "faults.json"
_MOST = 2**31  # bytes of an archive as text; one of a thousand runs has 2**25

Files = dict[str, bytes]

_RUN = mapping(
    {
        "run": NAME.needed,
        "place": one_of("", TRIALS_DIR).needed,
        "status": mapping({"run_id": NAME.needed}).needed,
        "environment": MAPPING.needed,
        "config": TEXT.needed,
        "rows": list_of(MAPPING).needed,
        "calibration": MAPPING,
    }
)
_TUNED_FILE = matching(r"[\w-][\w.-]{,90}(/[\w-][\w.-]{,90}){1,2}", "the path of a tuned file")
_LEDGER = mapping({"ledger": _TUNED_FILE.needed, "text": TEXT.needed})


def run_line(files: Mapping[str, bytes], *, place: str = "") -> dict[str, Any]:
    """Put the files of a run into one line.

    Args:
        files: By name: status, rows, config and environment, and the calibration if there is one.
        place: Where the run lies from the folder of the runs; empty, or that of trials.
    """
    status = strict_json.loads(files[STATUS_FILE])
    line = {
        "run": status["run_id"],
        "place": place,
        "status": status,
        "environment": strict_json.loads(files[ENVIRONMENT_FILE]),
        "config": files[CONFIG_FILE].decode(),
        "rows": [strict_json.loads(row) for row in files.get(METRICS_FILE, b"").splitlines()],
    }
    if RUN_FILE in files:
        line["calibration"] = strict_json.loads(files[RUN_FILE])
    return line


def ledger_line(file: str, text: str) -> dict[str, Any]:
    """Put the ledger of a tuned file into a line.

    Args:
        file: Path of the tuned file below ``conf/tuned``.
        text: The ledger.
    """
    return {"ledger": file, "text": text}


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write an archive; the same lines in any order are the same bytes. Returns how many it has."""
    texts = sorted(strict_json.dumps(line) for line in lines)
    content = "\n".join([strict_json.dumps({"archive": VERSION}), *texts, ""]).encode()
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    write_atomic(path, packed)
    return len(packed)


def runs_in(path: Path) -> set[str]:
    """Name the runs and trials of an archive.

    Raises:
        ValueError: If it is cut off, or none that this version reads.
        BrokenRecordError, LZMAError: If it cannot be read.
    """
    values = [strict_json.loads(line) for _, line in _lines(path)]
    return {str(value["run"]) for value in values if isinstance(value, dict) and "run" in value}


def archives_in(runs_dir: Path) -> list[Path]:
    """List the archives of a folder, which may not be there."""
    return sorted(runs_dir.glob(f"*{SUFFIX}")) if runs_dir.is_dir() else []


def opened(runs_dir: Path) -> tuple[Path, list[str]]:
    """Give the folder in which the records of a folder lie: itself, unless it has archives.

    Of archives the records are laid out below it, once for each content; where nothing can be
    written there, in a folder that ends with the process.

    Returns:
        The folder, and one line for each archive, or record in one, that was left out.
    """
    archives = archives_in(runs_dir)
    if not archives:
        return runs_dir, []
    digest = hashlib.sha256(str(VERSION).encode())
    for path in archives:
        with contextlib.suppress(OSError, ValueError):  # told when it is laid out
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(read_bytes(path)).digest())
    target = runs_dir / OPENED_DIR / digest.hexdigest()[:16]
    if not (target / _FAULTS).exists():
        target = _laid_out(archives, target)
    faults = list(strict_json.loads((target / _FAULTS).read_bytes()))
    if any(_has_records(root) for root in roots(runs_dir)):
        faults.append(
            f"{runs_dir.name}: has archives, so the runs that lie beside them are left out"
        )
    return target, faults


def _has_records(root: Path) -> bool:
    return any(path.is_file() for path in root.glob(f"[!.]*/{STATUS_FILE}"))


def _laid_out(archives: Sequence[Path], target: Path) -> Path:
    """Lay archives out in a folder, in one step; returns it, or one that ends with the process."""
    try:
        target.parent.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
    except OSError:
        place = Path(tempfile.mkdtemp(prefix="adafisher-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        _lay_all_out(archives, place)
        return place
    try:
        _lay_all_out(archives, place)
        with contextlib.suppress(OSError):  # another process was first
            place.rename(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for other in target.parent.glob("[!.]*"):  # of archives as they were before
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return target


def _lay_all_out(archives: Sequence[Path], made: Path) -> None:
    faults: list[str] = []
    seen: dict[str, str] = {}
    for path in archives:
        try:
            _lay_out(path, made, seen, faults)
        except (BrokenRecordError, ValueError, lzma.LZMAError) as error:
            said = " ".join(str(error).split())
            faults.append(f"{path.name}: not readable ({said}); its runs are left out")
    (made / _FAULTS).write_text(strict_json.dumps(faults), encoding="utf-8")


def _lay_out(path: Path, made: Path, seen: dict[str, str], faults: list[str]) -> None:
    for number, line in _lines(path):
        at = f"{path.name}: line {number}"
        try:
            value = strict_json.loads(line)
        except ValueError as error:
            faults.append(f"{at}: not readable as JSON ({' '.join(str(error).split())})")
            continue
        if found := fault(
            value, _LEDGER if isinstance(value, dict) and "ledger" in value else _RUN
        ):
            faults.append(f"{at}: {found}")
        elif "ledger" in value:
            try:
                _write(made / LEDGERS_DIR / value["ledger"], value["text"].encode())
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                faults.append(f"{at}: {value['ledger']} is a file and a folder")
        elif value["run"] != value["status"]["run_id"]:
            faults.append(f"{at}: run {value['run']} has the status of another")
        elif (before := seen.setdefault(value["run"], path.name)) != path.name:
            faults.append(f"{at}: run {value['run']} is in {before} too")
        else:
            for name, content in _files(value).items():
                _write(made / value["place"] / value["run"] / name, content)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines behind the first one, which says the version; none of an archive in part.

    Raises:
        ValueError: If it is cut off, or none that this version reads.
        BrokenRecordError, LZMAError: If it cannot be read.
    """
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    head, *lines = unpacking.decompress(read_bytes(path), _MOST).splitlines() or [b""]
    if not unpacking.eof:
        raise ValueError("it is cut off, or has more than 2 GiB")
    try:
        version = strict_json.loads(head)["archive"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("no archive of runs") from None
    if version != VERSION:
        raise ValueError(f"archive is {version!r}, this version reads {VERSION}")
    yield from enumerate(lines, start=2)


def _files(line: Mapping[str, Any]) -> Files:
    """Give the files of a run as they were."""
    files = {
        STATUS_FILE: _json(line["status"]),
        ENVIRONMENT_FILE: _json(line["environment"]),
        CONFIG_FILE: line["config"].encode(),
    }
    if line["rows"]:
        rows = [strict_json.dumps(row) + "\n" for row in line["rows"]]
        files[METRICS_FILE] = "".join(rows).encode()
    if "calibration" in line:
        files[RUN_FILE] = _json(line["calibration"])
    return files


def _json(value: Any) -> bytes:
    return (strict_json.dumps(value, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
