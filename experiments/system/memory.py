"""Memory that a run may take, and what the system tells of processes that it killed for memory."""

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# The cgroup's counter where there is one, the whole machine's otherwise.
_COUNTERS = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
    Path("/proc/vmstat"),
)
_FIRST_TO_GO = "500"
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def limit(gigabytes: float | None) -> None:
    """Let this process take no more memory than this; an allocation beyond it fails.

    The limit is on private writable memory (RLIMIT_DATA). One on addresses (RLIMIT_AS) would count
    libraries and what an accelerator's driver reserves without using it.

    Args:
        gigabytes: In units of 1e9 bytes; None: no limit.
    """
    # The kernel, when memory ends, takes the process with the highest score: the run, never the
    # process that watches it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    if gigabytes is not None:
        wanted = int(gigabytes * 1e9)
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def left() -> int | None:
    """How many bytes of private memory the limit leaves this process; None: it has no limit."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    told = _told() if most != resource.RLIM_INFINITY else {}
    return most - _bytes(told["VmData"]) if "VmData" in told else None


class Peak:
    """The most memory that this process has added since this was made.

    On Linux by the resident set, whose peak is begun anew: ``ru_maxrss`` is handed on through fork
    and exec, and so is at least the peak of whoever started the process. Elsewhere by its growth,
    which is at most that.
    """

    def __init__(self) -> None:
        self._before = _resident_peak(anew=True)
        self._earlier = 0

    def added_bytes(self) -> int:
        """How many bytes that is now."""
        return max(self._earlier, _resident_peak() - self._before)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave out what is added and given back within; not where a peak cannot be begun anew."""
        self._earlier = self.added_bytes()
        yield
        _resident_peak(anew=True)


def _resident_peak(*, anew: bool = False) -> int:
    """Bytes of the largest resident set so far; ``anew``: let it begin with the present one."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if anew:
            _CLEAR_REFS.write_text("5", encoding="ascii")
        return _bytes(_told()["VmHWM"])
    # In bytes on macOS, in kibibytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _told() -> dict[str, str]:
    """Read what Linux tells of this process; elsewhere it is nothing."""
    with contextlib.suppress(OSError):
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
        return dict(line.split(":", 1) for line in lines)
    return {}


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024  # it is in kibibytes


def give_back() -> None:
    """Return memory that this process has freed, to the system and to its CUDA device.

    What runs next then pays for its own growth, as in a process of its own.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def kills(counters: Iterable[Path] = _COUNTERS) -> int:
    """Count the processes that the system has killed for memory; 0 where it does not tell."""
    for path in counters:
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0
