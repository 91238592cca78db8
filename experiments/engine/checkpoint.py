"""Checkpoints as bytes: serialised in memory, so that writing them is one atomic file operation."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.records.schema import BrokenRecordError


def dump(run_id: str, state: Mapping[str, Any]) -> bytes:
    """Serialise the state of a run, marked with the run's id."""
    buffer = io.BytesIO()
    torch.save({"run_id": run_id, "state": dict(state)}, buffer)
    return buffer.getvalue()


def load(path: Path, run_id: str) -> dict[str, Any] | None:
    """Read a checkpoint back; ``None`` where there is none yet.

    Raises:
        BrokenRecordError: If the file is damaged.
        UserError: If it is the checkpoint of another run.
    """
    if not path.exists():
        return None
    name = f"{path.parent.name}/{path.name}"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        owner, state = content["run_id"], content["state"]
        int(state["counters"]["step"])
    except OSError:
        raise
    except Exception as error:  # torch raises what its unpickler meets: no closed list of types
        raise BrokenRecordError(f"{name}: damaged ({type(error).__name__})") from error
    if owner != run_id:
        raise UserError(
            f"{path} is the checkpoint of run {owner}, not of {run_id}: "
            "move it away or restore its own."
        )
    loaded: dict[str, Any] = state
    return loaded
