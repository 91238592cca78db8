"""Where a run ran: versions, machine, code, data checksums."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "wandb", "scikit-learn", "tokenizers")


def describe(*, device: torch.device, checksums: Mapping[str, str]) -> dict[str, Any]:
    """Facts that a reader needs to repeat the run.

    Args:
        device: Where the model trains.
        checksums: File name to sha256 of the data that were read.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device_name(device),
        "code": code_version(Path(__file__).parent),
        "data_sha256": dict(checksums),
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
