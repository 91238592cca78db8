"""What is done about memory: here, returning what was freed."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from experiments.system import memory

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

held = [bytearray(b"x" * 60_000) for _ in range(4_000)]
last = held[-1]  # at the end of the heap, which cannot shrink beyond it
del held[:]
before = resident()
memory.give_back()
print(before - resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs the malloc_trim of glibc",
)
def test_what_was_freed_goes_back_to_the_system():
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) > 150e6  # of 240 MB
