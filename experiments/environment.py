"""Where a run ran: versions, machine, code, data checksums."""

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments import checkout, determinism
from experiments.record import ENVIRONMENT_FILE, PATCH_FILE
from experiments.store import RunFolder

if TYPE_CHECKING:
    from experiments.built import Built

# Those whose version can change a number, and the mirror.
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "hydra-core",
    "wandb",
    "scikit-learn",
    "tokenizers",
    "timm",
    "pytorch-optimizer",
    "pillow",
)


def describe(built: "Built") -> dict[str, Any]:
    """Facts that a reader needs to repeat the run; all processes of the run have to call."""
    world = built.world
    return machine(built.device) | {
        "processes": {
            "count": world.size,
            "distributed": built.way,
            "devices": world.gather(_device_name(built.device)),
        },
        "precision": built.precision.facts(),
        "deterministic": determinism.facts(),
        "compile": built.compiled,
        "channels_last": built.channels_last,
        "data_sha256": built.task.checksums | getattr(built.model, "checksums", {}),
        "pretrained": built.pretrained and built.pretrained.facts(),
    }


def save(folder: RunFolder, facts: Mapping[str, Any], *, resumed: bool) -> None:
    """Write the environment, with the uncommitted part of the code as a patch beside it.

    Args:
        folder: The run's folder.
        facts: What ``describe`` tells.
        resumed: Whether the run goes on from a checkpoint: then the versions of the code that made
            its first part stay named, under ``earlier_code``.
    """
    earlier = _codes(folder.path / ENVIRONMENT_FILE) if resumed else []
    others = [code for code in earlier if code != facts["code"]]
    folder.write_json(ENVIRONMENT_FILE, {**facts, "earlier_code": others} if others else facts)
    patch = checkout.version().patch_to_keep()
    if patch is None:
        (folder.path / PATCH_FILE).unlink(missing_ok=True)
    else:
        folder.write(PATCH_FILE, patch)


def _codes(path: Path) -> list[Any]:
    """The versions of the code that an earlier attempt names, in order."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [*known.get("earlier_code", []), known.get("code")]


def machine(device: torch.device) -> dict[str, Any]:
    """The part that does not depend on a run: versions, code, and what this process runs on."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device_name(device),
        "code": checkout.version().facts(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
