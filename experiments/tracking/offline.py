"""The files that W&B writes: which rows they hold, and which of them were uploaded.

Every attempt at a run leaves a folder ``wandb/offline-run-<time>-<id>/`` with a transaction log
``run-<id>.wandb``. It is written in batches, some fifteen seconds apart: a killed process takes
the last batch with it, so what a log holds is known only by reading it. An online run has one in
``wandb/run-<time>-<id>/``, which counts as long as it is not known to have arrived: W&B appends all
of it, so that rows which had arrived stand there twice, at their step.

W&B no longer ships a reader in Python. The format is LevelDB's log: blocks of 32 KiB, in them
chunks with a header of seven bytes (checksum, length, type), a record of one or several chunks.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 32768
_HEADER = 7
_MAGIC = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MARK = "uploaded.sha256"
_PENDING = "pending"  # beside the log of an online run, from its start until all of it has arrived


@dataclass
class Log:
    """What a transaction log tells."""

    path: Path
    run_id: str | None = None  # None: nothing but the header reached the disk
    steps: list[int] = field(default_factory=list)  # one a row, in order
    ended: bool = False  # whether the attempt ended in order
    size: int = 0  # bytes that were there when it was read
    whole: int = 0  # bytes of them up to the end of the last whole record
    digest: str = ""  # of the bytes that were there when it was read


def logs(folder: Path) -> list[Log]:
    """Read the logs of one run folder that were not sent as they grew, the oldest first."""
    return [read(path) for path in _paths(folder)]


def await_end(folder: Path, *, seconds: float) -> None:
    """Wait until the newest log of a run folder holds its end, which W&B writes after `finish`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not (paths := _paths(folder)) or read(paths[-1]).ended:
            return
        time.sleep(0.02)


def read(path: Path) -> Log:
    """Read one transaction log up to its last whole record."""
    # Imported here: it takes seconds, and a run without W&B has no logs.
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    data = path.read_bytes()
    log = Log(path, size=len(data), digest=hashlib.sha256(data).hexdigest())
    for content, end in _records(data):
        record = Record()
        record.ParseFromString(content)
        log.whole = end
        kind = record.WhichOneof("record_type")
        if kind == "run":
            log.run_id = record.run.run_id
        elif kind == "history":
            log.steps.append(record.history.step.num)
        elif kind == "exit":
            log.ended = True
    return log


def is_uploaded(log: Log) -> bool:
    """Tell whether the log was uploaded with the content that was read."""
    mark = log.path.with_name(_MARK)
    if mark.exists():
        return mark.read_text(encoding="utf-8").strip() == log.digest
    return synced_mark(log.path).exists()  # the user called `wandb sync`


def mark_uploaded(log: Log) -> None:
    """Remember that the log was uploaded with the content that was read."""
    log.path.with_name(_MARK).write_text(f"{log.digest}\n", encoding="utf-8")


def is_repeated(log: Log, later: Sequence[Log]) -> bool:
    """Tell whether an online attempt that followed has mirrored all rows of a log anew."""
    online = [one for one in later if one.path.parent.name.startswith("run-")]
    return any(set(log.steps) <= set(one.steps) for one in online)


def mark_pending(folder: Path) -> None:
    """Have the log of an online run count until ``mark_arrived``: nobody knows when it is cut off.

    Args:
        folder: That the log lies in.
    """
    (folder / _PENDING).touch()


def mark_arrived(folder: Path) -> None:
    """Have the log of an online run count no more."""
    (folder / _PENDING).unlink(missing_ok=True)


def synced_mark(path: Path) -> Path:
    """Name the file that `wandb sync` leaves when a log arrived in full."""
    return path.with_name(f"{path.name}.synced")


def _paths(folder: Path) -> list[Path]:
    online = folder.glob("wandb/run-*/run-*.wandb")
    found = [path for path in online if path.with_name(_PENDING).exists()]
    found += folder.glob("wandb/offline-run-*/run-*.wandb")
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record and where it ends."""
    if not data.startswith(_MAGIC):
        return
    position, parts = _HEADER, b""  # the header of the file is as long as that of a chunk
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:  # the rest of a block that is too short for a header is padding
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        end = position + _HEADER + length
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or end > len(data):
            return
        chunk = data[position + _HEADER : end]
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            yield parts, end
        position = end
