"""A sweep that is told to stop, or killed: its runs save their state, and none is left behind."""

import os
import signal
import time

import pytest

from tests.support.sweeps import (
    LAUNCHERS,
    children_of,
    measurements,
    start,
    statuses,
    sweep,
    wait_for_rows,
)

LONG = ["optimizer=adam", "seed=0,1", "budget.epochs=40", "threads=1"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    runs = tmp_path_factory.mktemp("unbroken")
    assert sweep(runs, *LONG).returncode == 0
    return measurements(runs)


CASES = [
    ("local", signal.SIGHUP),
    ("local", signal.SIGUSR1),
    ("joblib", signal.SIGINT),
    ("joblib", signal.SIGTERM),
    ("submitit_local", signal.SIGTERM),
    ("ray", signal.SIGINT),
    ("ray", signal.SIGTERM),
]


@pytest.mark.parametrize(
    ("launcher", "sent"), CASES, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_a_signal_to_the_sweep_alone_reaches_its_runs(tmp_path, unbroken, launcher, sent):
    process = start(tmp_path, *LONG, *LAUNCHERS[launcher])
    wait_for_rows(tmp_path, 5, process)
    os.kill(process.pid, sent)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert "stopping: the runs save their state" in told
    assert children_of(tmp_path) == []
    assert set(statuses(tmp_path)) == {"interrupted"}
    result = sweep(tmp_path, *LONG, *LAUNCHERS[launcher])
    assert result.returncode == 0, result.stderr
    assert measurements(tmp_path) == unbroken


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_runs_do_not_outlive_a_sweep_that_was_killed(tmp_path, launcher):
    process = start(tmp_path, *LONG, *LAUNCHERS[launcher])
    wait_for_rows(tmp_path, 5, process)
    assert children_of(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    with process:
        process.wait()
    deadline = time.monotonic() + 60
    while children_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_of(tmp_path) == []
    assert "running" not in statuses(tmp_path)
    result = sweep(tmp_path, *LONG, *LAUNCHERS[launcher])
    assert result.returncode == 0, result.stderr
    assert "another process has this run" not in result.stderr
