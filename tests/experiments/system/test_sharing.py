"""What the processes of a sweep share, without a sweep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.outcome import Outcome
from experiments.records.store import RunFolder
from experiments.sweep.shared_folder import SweepFolder
from experiments.system import cores, exits, memory

ROOT = Path(__file__).resolve().parents[3]
HOLD = (
    "import sys, time; from pathlib import Path; from experiments.{module} import {name};"
    "context = {make}; context.__enter__(); print('held', flush=True); time.sleep(600)"
)


def holder(**names: str) -> subprocess.Popen[str]:
    """Another process that holds a lock, and says so."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(**names)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


@pytest.fixture
def shared(tmp_path):
    return SweepFolder(tmp_path / "sweep")


def test_the_last_end_of_a_job_counts(shared):
    with shared.led():
        for number, status in ((1, "interrupted"), (0, "done"), (1, "done")):
            shared.note(number, Outcome("id", "label", status))
        shared.request(1, "{}")
        shared.request(12, "{}")
    assert {n: outcome.status for n, outcome in shared.outcomes().items()} == {0: "done", 1: "done"}
    assert shared.started() == 2
    shared.remove()
    assert shared.outcomes() == {}


def test_the_first_cause_to_stop_stays(shared):
    with shared.led():
        assert shared.stop_cause() is None
        shared.stop("SIGINT")
        shared.stop("SIGTERM")
        assert shared.stop_cause() == "SIGINT"


def test_places_are_taken_one_by_one_and_none_when_the_sweep_stops(shared):
    with shared.led():
        with shared.slot(2) as first, shared.slot(2) as second:
            assert (first, second) == (0, 1)
            shared.stop("fail_fast")
            with shared.slot(2) as third:
                assert third is None
        with shared.slot(2) as late:
            assert late is None


def test_a_leader_that_was_killed_is_known_to_be_gone(shared):
    make = f"SweepFolder(Path({str(shared.path)!r})).led()"
    leader = holder(module="sweep.shared_folder", name="SweepFolder", make=make)
    assert shared.leader_lives()
    kill(leader)
    assert not shared.leader_lives()


def test_the_lock_of_a_run_whose_process_was_killed_is_free(tmp_path):
    make = f"RunFolder(Path({str(tmp_path)!r}), 'abc').lock()"
    process = holder(module="records.store", name="RunFolder", make=make)
    folder = RunFolder(tmp_path, "abc")
    assert folder.is_locked()
    kill(process)
    assert (tmp_path / ".locks" / "abc").exists()
    assert not folder.is_locked()
    waited = []
    with folder.lock(on_wait=lambda: waited.append(1)):
        assert folder.is_locked()
    assert waited == []


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path):
    child = (
        "import os, time; from experiments.system import exits;"
        "exits.end_with_parent(os.getppid());"
        "print('ready', flush=True); time.sleep(600)"
    )
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    # The child holds the pipe as well: it closes when both have ended.
    assert process.communicate(timeout=30)[0] == ""


def test_a_parent_that_died_before_is_noticed(monkeypatch):
    raised = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    monkeypatch.setattr(exits.ctypes, "CDLL", lambda name: _NoLibrary())
    exits.end_with_parent(os.getppid())
    assert raised == []
    exits.end_with_parent(os.getpid())  # which is nobody's parent here
    assert raised == [signal.SIGTERM]


class _NoLibrary:
    def prctl(self, *arguments: int) -> int:
        return 0


def test_a_limit_on_memory_holds():
    take = (
        "from experiments.system import memory; memory.limit(0.5); x = bytearray(10**8);\n"
        "try: y = bytearray(10**9)\n"
        "except MemoryError: print('refused')"
    )
    told = subprocess.run(
        [sys.executable, "-c", take], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "refused\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (["low 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n"], 2),
        (["oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"], 5),
        ([None, "pgfault 9\noom_kill 4\n"], 4),
        ([None], 0),
    ],
    ids=["cgroup v2", "cgroup v1", "whole machine", "unknown"],
)
def test_kills_for_memory_are_read_where_the_system_tells(tmp_path, files, count):
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        if text is not None:
            path.write_text(text)
    assert memory.kills(paths) == count


def test_the_devices_that_are_given_are_divided(monkeypatch):
    monkeypatch.setenv(cores.VISIBLE, "4, 6,7")
    assert cores.cuda_devices() == ("4", "6", "7")
    monkeypatch.setenv(cores.VISIBLE, "")
    assert cores.cuda_devices() == ()
    assert cores.devices_of(3, (), 1) == ()
    assert cores.devices_of(0, ("0",), 2) == ("0",)


def test_without_a_driver_there_are_no_devices(monkeypatch, tmp_path):
    monkeypatch.delenv(cores.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cores.cuda_devices() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    assert cores.cuda_devices() == ("0", "1")


def test_jobs_below_one_count_from_the_cores(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 8)
    assert [cores.side_by_side(jobs) for jobs in (3, -1, -2, -99)] == [3, 8, 7, 1]
