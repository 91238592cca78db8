"""What is done about memory: what was freed is returned, and what a run adds is told."""

import ctypes
import subprocess
import sys

import pytest

from experiments.system.memory import Peak

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


HOLDS_MUCH = """
import subprocess, sys
held = bytearray(b"x" * 300_000_000)
print(subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True).stdout)
"""
ADDS = """
from experiments.system.memory import Peak
peak = Peak()
for _ in range(3):
    taken = b"x" * 100_000_000
    del taken
print(peak.added_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the growth of a peak is known")
@pytest.mark.parametrize("starter", [ADDS, HOLDS_MUCH], ids=["small", "that holds 300 MB"])
def test_the_memory_of_a_run_is_not_that_of_who_started_it(starter):
    told = subprocess.run(
        [sys.executable, "-c", starter, ADDS], capture_output=True, text=True, check=True
    )
    assert 99e6 < int(told.stdout) < 110e6  # some of it lay ready


LEFT_OUT = """
from experiments.system.memory import Peak

def take(size):
    _ = b"x" * size  # each of its pages is written

peak = Peak()
with peak.left_out():
    take(200_000_000)
print(peak.added_bytes())
take(100_000_000)
with peak.left_out():
    pass
print(peak.added_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak cannot be begun anew")
def test_what_is_left_out_is_not_counted_and_what_came_before_is():
    # In a small process: of a large one that is idle the system may take pages meanwhile.
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OUT], capture_output=True, text=True, check=True
    )
    within, before = map(float, done.stdout.split())
    assert within < 50e6
    assert 90e6 < before < 150e6


def test_what_is_freed_before_is_not_counted():
    freed = bytearray(b"x" * 100_000_000)
    del freed
    peak = Peak()
    assert peak.added_bytes() < 50e6


LIMITED = """
from experiments.system import memory
assert memory.left() is None
memory.limit(1.0)
before = memory.left()
taken = bytearray(b"x" * 200_000_000)
print(before, before - memory.left())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
def test_what_a_limit_leaves_shrinks_by_what_is_taken():
    told = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    before, taken = map(int, told.stdout.split())
    assert 0.8e9 < before < 1e9
    assert 199e6 < taken < 402e6  # the text that it is made from may still be there
