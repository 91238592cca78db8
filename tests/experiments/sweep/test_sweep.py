"""A sweep as a user runs it: child processes, one failing run, Ctrl-C, kill -9, a second sweep."""

import json
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from experiments.records.outcome import Outcome
from experiments.records.schema import load_runs
from experiments.records.store import RunFolder
from experiments.records.tables import IDENTITY
from experiments.sweep import supervision
from experiments.sweep.sweep import Jobs, Sweep, execute_job, run
from tests.support.sweeps import (
    ROOT,
    children_of,
    command,
    kin,
    measurements,
    sweep,
    wait_for_checkpoint,
    wait_for_rows,
)


def test_a_bad_run_is_a_row_and_the_others_finish(tmp_path):
    rates = "optimizer.lr=0.1,1e30,0.2"
    first = sweep(tmp_path, "optimizer=sgd", rates, "budget=steps", "budget.steps=3")
    assert first.returncode == 1
    assert "sweep of 3: 1 diverged, 2 done (0 from before)" in first.stderr
    assert "loss is nan at step" in first.stderr or "loss is inf at step" in first.stderr
    assert "Traceback" not in first.stderr
    statuses = sorted(run.status for run in load_runs(tmp_path)[0])
    assert statuses == ["diverged", "done", "done"]

    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    permuted = ["budget.steps=3", rates, "budget=steps", "optimizer=sgd"]
    again = sweep(tmp_path, *permuted)
    assert again.returncode == 1
    assert "(3 from before)" in again.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_a_mistake_ends_a_sweep_before_it_starts(tmp_path):
    result = sweep(tmp_path / "runs", "optimizer=sgd,adamm")
    assert result.returncode == 2
    assert result.stderr.startswith("error: Unknown optimizer: 'adamm'")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists() or not load_runs(tmp_path / "runs")[0]


def test_jobs_side_by_side_measure_the_same(tmp_path):
    arguments = ["optimizer=adam", "seed=0,1", "budget=steps", "budget.steps=20", "threads=1"]
    parallel = [*arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert sweep(tmp_path / "a", *arguments).returncode == 0
    result = sweep(tmp_path / "b", *parallel)
    assert result.returncode == 0, result.stderr
    assert "sweep of 2: 2 done (0 from before)" in result.stderr
    assert measurements(tmp_path / "a") == measurements(tmp_path / "b")
    assert len(measurements(tmp_path / "a")) == 2


@pytest.mark.parametrize("status", ["failed", "out_of_memory"])
def test_to_fail_fast_a_failure_of_an_earlier_sweep_counts(make_config, monkeypatch, status):
    """Asked again, the sweep ends at the same run as before; without `fail_fast` it goes on."""
    started = []

    def run_child(config, *arguments, **options):
        started.append(config.seed)
        folder = RunFolder(config.runs_dir, config.run_id)
        folder.create()
        ended = status if config.seed == 0 else "done"
        folder.write_status(ended, "why", identity=facts | {"seed": config.seed})
        return Outcome(folder.run_id, "it", ended, "why"), 0, False

    monkeypatch.setattr(supervision, "run_child", run_child)
    facts: dict[str, Any] = dict.fromkeys(
        (key for key, kind in IDENTITY.keys.items() if kind.required), "x"
    )
    facts |= {"higher_is_better": True, "hyperparameters": {}, "protocol": {}}

    def ask(**options: bool) -> int:
        started.clear()
        configs = [make_config(f"seed={seed}").having(**options) for seed in (0, 1)]

        asked = Sweep.of(configs[0], size=2, parallel=1)

        def launch(jobs: Jobs) -> Jobs:
            for (number,) in jobs:
                execute_job(configs[number], asked, number=number)
            return []

        return run(asked, configs, launch)

    assert (ask(fail_fast=True), started) == (1, [0])
    assert (ask(fail_fast=True), started) == (1, [])
    assert (ask(fail_fast=True, retry=True), started) == (1, [0])
    assert (ask(), started) == (1, [1])


# Seconds after the rows that a test waits for: it stops the first run well before its end.
LONG = ["optimizer=adam", "seed=0,1", "budget.epochs=60", "threads=1"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    runs = tmp_path_factory.mktemp("unbroken")
    assert sweep(runs, *LONG).returncode == 0
    return measurements(runs)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_a_stopped_sweep_goes_on_where_it_was(tmp_path, unbroken, sent):
    process = subprocess.Popen(
        command(tmp_path, *LONG), cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0
    )
    wait_for_rows(tmp_path, 3, process)
    if sent == signal.SIGKILL:  # which leaves no time to save what there is
        wait_for_checkpoint(tmp_path, process)
    os.killpg(process.pid, sent)  # as a terminal does: to the sweep and its child alike
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    if sent == signal.SIGINT:
        assert process.returncode == 130
        (stopped,) = load_runs(tmp_path)[0]
        assert stopped.status == "interrupted"
        assert stopped.reason.startswith("SIGINT")
    # The state that was saved counts: only what is missing is trained again.
    result = sweep(tmp_path, *LONG)
    assert result.returncode == 0, result.stderr
    assert "resumed after step" in result.stderr
    assert measurements(tmp_path) == unbroken


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (".sweeps/*/0.json", "sweep of 2: 1 interrupted, 1 not started"),
        (None, ""),  # the configs are tried out: there is no run yet, and no record
    ],
    ids=["a run starts", "configs are checked"],
)
def test_ctrl_c_at_the_start_leaves_no_traceback_and_no_process(tmp_path, begun, told):
    process = subprocess.Popen(
        command(tmp_path, *LONG), cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0
    )
    while not (list(tmp_path.glob(begun)) if begun else children_of(tmp_path)):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert told in said
    deadline = time.monotonic() + 20
    while children_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("fresh", ["true", "false"])
def test_a_killed_child_is_a_row_and_goes_on_when_asked_again(tmp_path, unbroken, fresh):
    process = subprocess.Popen(
        command(tmp_path, *LONG, f"fresh={fresh}"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for_rows(tmp_path, 3, process)
    (child,) = kin(process.pid)
    os.kill(child if fresh == "true" else kin(child)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "sweep of 2: 1 done, 1 interrupted" in told
    reasons = {run.status: run.reason for run in load_runs(tmp_path)[0]}
    assert reasons["interrupted"] == "the run's process was killed by SIGKILL"
    assert sweep(tmp_path, *LONG).returncode == 0
    assert measurements(tmp_path) == unbroken


def test_a_run_whose_server_is_killed_saves_its_state_and_the_others_run(tmp_path, unbroken):
    process = subprocess.Popen(
        command(tmp_path, *LONG), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for_rows(tmp_path, 3, process)
    (server,) = kin(process.pid)
    os.kill(server, signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "sweep of 2: 1 done, 1 interrupted" in told
    assert children_of(tmp_path) == []
    result = sweep(tmp_path, *LONG)
    assert "resumed after step" in result.stderr
    assert measurements(tmp_path) == unbroken


def test_two_sweeps_at_once_train_each_run_once(tmp_path, unbroken):
    both = [
        subprocess.Popen(command(tmp_path, *LONG), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert measurements(tmp_path) == unbroken
    assert not list((tmp_path / ".set-aside").glob("*"))
    states = [json.loads(p.read_text())["status"] for p in tmp_path.glob("*/status.json")]
    assert states == ["done", "done"]
