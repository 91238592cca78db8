"""What an error says of a run: status, reason, and the notes of a process that does not lead."""

import json
import traceback

import torch

from experiments.engine import determinism
from experiments.engine.divergence import DivergedError
from experiments.engine.ranks import Ranks, is_lost
from experiments.records.outcome import PreparationError
from experiments.records.store import RunFolder
from experiments.system import memory

TRACEBACK_FILE = "traceback.txt"
_SCANT = 16 * 2**20  # bytes; where oneDNN found no room, less than 1 MiB was seen to be left
_NOTES = "fault-of-process-*.json"


def end_by(error: Exception, folder: RunFolder, world: Ranks) -> tuple[str, str]:
    """Judge the error that ends a run, and keep its traceback.

    Args:
        error: The error, while it is handled.
        folder: The run's folder.
        world: The processes of the run; the first takes over what another has noted.

    Returns:
        Status and reason.
    """
    if world.size > 1 and is_lost(error):
        # A process notes its fault before its connections close.
        for path in sorted(folder.path.glob(_NOTES)) if world.leads else []:
            status, reason = json.loads(path.read_text(encoding="utf-8"))
            return status, reason
        return "interrupted", "another process of the run ended"
    diverged = isinstance(error, DivergedError)
    status, reason = ("diverged", _one_line(error)) if diverged else judge(error)
    if status == "failed" and _has_trace(error):
        name = TRACEBACK_FILE if world.leads else f"process-{world.rank}-{TRACEBACK_FILE}"
        folder.write(name, traceback.format_exc().encode())
    if not world.leads:
        reason = f"process {world.rank}: {reason}"
        folder.write(_NOTES.replace("*", str(world.rank)), json.dumps([status, reason]).encode())
    return status, reason


def forget(folder: RunFolder) -> None:
    """Delete the notes of an earlier attempt."""
    for path in folder.path.glob(_NOTES):
        path.unlink()


def judge(error: Exception) -> tuple[str, str]:
    """Status and reason of a run that ends by an error of its own."""
    if isinstance(error, PreparationError):
        return error.status, _one_line(error)
    if is_out_of_memory(error):
        return "out_of_memory", _one_line(error)
    return "failed", _failure(error)


def _has_trace(error: Exception) -> bool:
    """Tell whether the traceback tells more than the reason does."""
    return not isinstance(error, PreparationError) or error.__cause__ is not None


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory is used up, in whatever words."""
    # torch's CPU allocator raises a plain RuntimeError.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if known or any(text in str(error) for text in ("can't allocate memory", "bad_alloc")):
        return True
    # oneDNN says the same of a convolution that it does not know and of one without room.
    left = memory.left()
    return "could not create a primitive" in str(error) and left is not None and left < _SCANT


def _failure(error: Exception) -> str:
    operation = determinism.refused_operation(error)
    if operation is None:
        return f"{type(error).__name__}: {_one_line(error)}"
    return f"deterministic=true: {operation} has no deterministic form on this device"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
