"""Where a run ran: versions, machine, code, data checksums."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments import determinism

if TYPE_CHECKING:
    from experiments.build import Built

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "wandb", "scikit-learn", "tokenizers")


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
        "code": code_version(Path(__file__).parent),
    }


def code_version(folder: Path) -> dict[str, Any]:
    """Commit of the checkout and whether it has changes; nulls outside a git checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "uncommitted_changes": None if commit is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
