"""How the runs of a sweep share a machine: its cores and its CUDA devices."""

import os
import platform
import subprocess
from collections.abc import Mapping
from typing import Protocol

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""For glibc: memory that one step frees stays for the next.

By itself it goes by what a process happened to ask for first. ResNet-18 then had 180,000 to 800,000
page faults in 40 steps, and took up to 9 % longer, from one process to the next.
"""


def cores() -> int:
    """Cores that this process may use; a scheduler may have given it a part of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(jobs: int) -> int:
    """Count the jobs that ``jobs`` means; a negative one counts from the cores, as joblib does."""
    return jobs if jobs > 0 else max(1, cores() + 1 + jobs)


class Sized(Protocol):
    """What a config says of the size of a run."""

    @property
    def threads(self) -> int | None:
        """Of each process; None: its share of the cores."""

    @property
    def processes(self) -> int:
        """How many train it together."""


def threads_of(config: Sized, jobs: int, *, given: int | None = None) -> int:
    """Count the threads of each process of a run: as its config says, or its share of the cores.

    Args:
        config: The resolved config.
        jobs: How many runs share the cores.
        given: Cores that the run has to itself; None: its share of the machine's.
    """
    if config.threads is not None:
        return config.threads
    return max(1, (given or cores() // jobs) // config.processes)


def library_variables(threads: int, given: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process that trains; the libraries below torch read them at its start.

    Args:
        threads: Its share of the cores.
        given: The environment so far. What it says of waiting and of the allocator stays.
    """
    # On a busy machine a thread that spins for its siblings keeps them from running.
    defaults = {"OMP_WAIT_POLICY": "PASSIVE"} | _ALLOCATOR
    if platform.machine() in ("x86_64", "AMD64"):
        # NumPy's BLAS, which is not torch's there, would start its threads at import, and a process
        # that is to be forked must have one thread.
        defaults["OPENBLAS_NUM_THREADS"] = "1"
    own = {name: value for name, value in defaults.items() if name not in given}
    return {"OMP_NUM_THREADS": str(threads)} | own


def cuda_devices() -> tuple[str, ...]:
    """Names of the CUDA devices that this process sees, found without loading torch."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip())
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())


def devices_of(place: int, devices: tuple[str, ...], processes: int) -> tuple[str, ...]:
    """Name the devices of the run at a place: as many as it has processes, round and round.

    Example:
        >>> [devices_of(place, ("0", "1", "2"), 1) for place in range(4)]
        [('0',), ('1',), ('2',), ('0',)]
        >>> [devices_of(place, ("0", "1", "2", "3"), 2) for place in range(2)]
        [('0', '1'), ('2', '3')]
    """
    count = min(processes, len(devices))
    return tuple(devices[(place * count + index) % len(devices)] for index in range(count))
