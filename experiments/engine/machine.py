"""What a process runs on, as a record tells it: versions, code, processor and device."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from experiments.system import checkout, process

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
    "schedulefree",
    "pillow",
)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Gather what does not depend on a run: versions, code, and what this process runs on.

    It names no host, user or path, so that a record can be handed on.
    """
    packages, where = software()
    return {
        "python": platform.python_version(),
        "packages": dict(packages),
        "started": process.started,
        **where,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "gpu": _gpu(device),
        "code": checkout.version().facts(),
    }


@functools.cache
def software() -> tuple[dict[str, str | None], dict[str, str]]:
    """Find what takes a while and is the same for all runs that a process is forked for.

    Returns:
        The versions of ``PACKAGES``, and what the system and its processor are.
    """
    return {name: _version(name) for name in PACKAGES}, {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_model": cpu_model(),
    }


@functools.cache
def cpu_model() -> str:
    """Name of the processor; ``platform`` has only its architecture on Linux and macOS."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = names[0] if names else _output_of("sysctl", "-n", "machdep.cpu.brand_string")
    return found or platform.processor() or platform.machine()


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
    found = _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return found.splitlines()[0] if found else None


def _output_of(*command: str) -> str | None:
    """Read what a command of the system prints; None where there is no such command."""
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


def device_name(device: torch.device) -> str:
    """Name a CUDA device as its driver does, any other by its type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
