"""Where a run ran: versions, machine, code, data checksums."""

import functools
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.engine import determinism
from experiments.records.record import ENVIRONMENT_FILE, PATCH_FILE
from experiments.records.store import RunFolder
from experiments.system import checkout

if TYPE_CHECKING:
    from experiments.engine.built import Built

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
    """The part that does not depend on a run: versions, code, and what this process runs on.

    It names no host, user or path, so that a record can be handed on.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_model": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device_name(device),
        "gpu": _gpu(device),
        "code": checkout.version().facts(),
    }


@functools.cache
def cpu_model() -> str:
    """Name of the processor; ``platform`` has only its architecture on Linux and macOS."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    told = names[0] if names else _told("sysctl", "-n", "machdep.cpu.brand_string")
    return told or platform.processor() or platform.machine()


def _gpu(device: torch.device) -> dict[str, Any] | None:
    """Memory and software of a CUDA device; None for any other."""
    if device.type != "cuda":
        return None
    return {
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


@functools.cache
def _driver() -> str | None:
    """Version of NVIDIA's driver, which torch does not tell."""
    told = _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return told.splitlines()[0] if told else None


def _told(*command: str) -> str | None:
    """What a command of the system prints; None where there is no such command."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
