"""`kill -9` of a whole sweep at random moments: no run lost, none run twice, the same metrics.

It prints the counts of as many kills as asked for, in the folder ``tests/experiments/sweep``:
`ADAFISHER_KILLS=50 .venv/bin/python -m pytest -s -m slow test_kill_harness.py`.
"""

import math
import os
import random
import signal
import time
from pathlib import Path

import pytest

from experiments.records.schema import load_runs
from tests.support.sweeps import (
    LAUNCHERS,
    children_of,
    finished,
    measurements,
    row_count,
    start,
    sweep,
)

KILLS = int(os.environ.get("ADAFISHER_KILLS", "3"))
RUNS = 12
# Twenty evaluations a run: what is killed between two of them is trained again from the last.
GRID = [
    *("optimizer=adam,adafisher", "optimizer.lr=0.001,0.003", "seed=0,1,2", "threads=1"),
    *("budget=steps", "budget.steps=440"),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    runs = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    result = sweep(runs, *GRID, *LAUNCHERS["joblib"])
    assert result.returncode == 0, result.stderr
    found = measurements(runs)
    assert len(found) == RUNS
    assert all(len(rows) >= 5 for rows in found.values())
    return found, time.monotonic() - began


@pytest.mark.parametrize("launcher", ["joblib", "local", "ray"])
def test_killed_at_random_moments_and_asked_again(tmp_path, unbroken, launcher):
    expected, seconds = unbroken
    moments = random.Random(launcher)
    landed, cut, sweeps = 0, 0, 0
    while landed < KILLS:  # in as many sweeps as that takes, each in a folder of its own
        runs = tmp_path / f"sweep{sweeps}"
        runs.mkdir()
        sweeps += 1
        done: dict[str, tuple[int, bytes]] = {}
        while landed < KILLS and len(done) < RUNS:
            process = start(runs, *GRID, *LAUNCHERS[launcher])
            wait_a_while(process, runs, moments, seconds)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                landed += 1
            errors = process.communicate()[1]
            assert process.returncode in (0, -signal.SIGKILL), errors
            while children_of(runs):
                time.sleep(0.05)
            now = finished(runs)
            assert {name: now.get(name) for name in done} == done, "a finished run was touched"
            assert not list((runs / ".set-aside").glob("*")), "a record was broken"
            done = now
            cut += len(list(runs.glob("*/checkpoint.pt")))
            print(f"{launcher}: kill {landed} of {KILLS}, sweep {sweeps}: {len(done)} runs done")
        result = sweep(runs, *GRID, *LAUNCHERS[launcher])
        assert result.returncode == 0, result.stderr
        assert f"sweep of {RUNS}: {RUNS} done ({len(done)} from before)" in result.stderr
        assert {name: finished(runs)[name] for name in done} == done
        check(runs, expected)
    print(
        f"{launcher}: {landed} kills of {sweeps} sweeps, which cut {cut} runs between two "
        f"evaluations; each ended with {RUNS} of {RUNS} runs done, 0 lost, 0 run twice, every "
        "metric equal"
    )


def wait_a_while(process, runs: Path, moments: random.Random, seconds: float) -> None:
    """Until a random moment, or a random evaluation: most of a sweep's time goes by in starts."""
    rows = row_count(runs) + moments.randint(1, 40) if moments.random() < 0.7 else math.inf
    deadline = time.monotonic() + (moments.uniform(0.0, seconds) if rows == math.inf else seconds)
    while process.poll() is None and row_count(runs) < rows and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 0.1))


def check(runs: Path, expected) -> None:
    found, broken = load_runs(runs)
    assert broken == []
    assert [run.status for run in found] == ["done"] * RUNS
    assert measurements(runs) == expected
