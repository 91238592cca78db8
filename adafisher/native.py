"""The optional native library: ``native.c``, built on first use and kept in the user's cache.

It serves contiguous float32 on the CPU, and gives the numbers of the plain form up to rounding.
Nobody is refused for want of it: without a C compiler, or where the environment says
``ADAFISHER_NATIVE=0``, the plain form runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("native.c")
_FLAGS = ("-O3", "-fPIC", "-shared")
_BUILD_SECONDS = 60
_FEW_ELEMENTS = 1 << 15  # below, waking a thread takes longer than what it would do


class Step(ctypes.Structure):
    """The step of one parameter, ``struct step`` of ``native.c``.

    ``theta``, ``g`` and ``m`` are ``[rows, columns]`` without gaps, ``weight`` is ``1 - beta``, and
    the other numbers are those of ``step.pack_scalars``.
    """

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("param", "grad", "exp_avg", "left", "right")),
        *((name, ctypes.c_long) for name in ("rows", "columns")),
        *((name, ctypes.c_long) for name in ("left_row", "left_column")),
        *((name, ctypes.c_long) for name in ("right_row", "right_column")),
        *((name, ctypes.c_float) for name in ("weight", "coupled", "keep")),
        *((name, ctypes.c_float) for name in ("sign", "step_size", "damping")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """Load the library, building it if need be; None where that is not possible or not wanted."""
    if os.environ.get("ADAFISHER_NATIVE") == "0":
        return None
    try:
        loaded = _load_or_build()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if loaded is not None:
        pointer, long = ctypes.c_void_p, ctypes.c_long
        loaded.column_squares.argtypes = [pointer, long, long, pointer, long, ctypes.c_int]
        loaded.step_all.argtypes = [pointer, long, ctypes.c_int]
        loaded.column_squares.restype = loaded.step_all.restype = None
    return loaded


def serves(x: Tensor) -> bool:
    """Tell whether the library takes a tensor, of which only the layout remains to be looked at."""
    # Of subclasses the memory may not be there, or not hold what they stand for.
    return (
        x.dtype is torch.float32
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.is_cpu
        and not torch.compiler.is_compiling()
        and library() is not None
    )


def takes(x: Tensor) -> bool:
    """Tell whether ``column_squares`` takes a tensor."""
    return serves(x) and x.is_contiguous() and x.numel() > 0


def column_squares(x: Tensor, shape: Sequence[int], *, counted: bool = False) -> Tensor:
    """Sum the squares over the leading axes: all rows, whose entries are the trailing axes.

    Args:
        x: Of which ``takes`` is true.
        shape: Of the result; as many entries as a row has.
        counted: Whether the number of rows follows the sums, for which ``shape`` has one entry
            more.

    Returns:
        The sums.
    """
    loaded, sums, elements = library(), x.new_empty(shape), x.numel()
    assert loaded is not None
    columns = sums.numel() - counted
    loaded.column_squares(
        x.data_ptr(), elements // columns, columns, sums.data_ptr(), counted, threads(elements)
    )
    return sums


def threads(elements: int) -> int:
    """Choose the threads for a pass over some elements."""
    return torch.get_num_threads() if elements >= _FEW_ELEMENTS and _has_one_pool() else 1


@cache
def _has_one_pool() -> bool:
    """Tell whether the library's threads are torch's; two pools would fight for the cores."""
    loaded, torch_itself = library(), Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    assert loaded is not None
    try:
        asked = [x.omp_get_max_threads for x in (loaded, ctypes.CDLL(str(torch_itself)))]
    except (AttributeError, OSError):  # built without threads, or another system
        return False
    ours, theirs = (ctypes.cast(function, ctypes.c_void_p).value for function in asked)
    return ours == theirs


def _load_or_build() -> ctypes.CDLL | None:
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(source + repr((_FLAGS, sys.platform, platform.machine())).encode())
    folder = _cache_folder()
    if folder is None:
        with tempfile.TemporaryDirectory() as own:
            built = Path(own) / "native.so"
            return ctypes.CDLL(str(built)) if _build(built) else None
    kept = folder / f"{digest.hexdigest()[:16]}.so"
    if kept.exists():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:  # of another system that shares the home
            pass
    return ctypes.CDLL(str(kept)) if _build(kept) else None


def _cache_folder() -> Path | None:
    """Make the folder that only this user writes to, or give None."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "adafisher"
    if not folder.is_absolute():  # there is no home
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    is_own = status.st_uid == getattr(os, "getuid", lambda: None)()
    return folder if is_own and not status.st_mode & 0o022 and os.access(folder, os.W_OK) else None


def _build(target: Path) -> bool:
    """Compile, with what the compiler has: threads, widths; nobody ever sees half a file."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or ""]
    if not shutil.which(compiler[0]):
        return False
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for extra in (["-fopenmp"], ["-fopenmp", "-DEACH_WIDTH="], [], ["-DEACH_WIDTH="]):
            command = [*compiler, *_FLAGS, *extra, str(_SOURCE), "-o", str(made)]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BUILD_SECONDS
            )
            if done.returncode == 0:
                made.replace(target)
                return True
    return False
