"""What goes wrong in one run of a sweep is a row, under every launcher; the others finish."""

import json

import pytest

from experiments.records.schema import load_runs
from tests.support.sweeps import LAUNCHERS, children_of, measurements, status, statuses, sweep

FAULTY = ["optimizer=sgd", "optimizer._target_=tests.support.faulty.FaultySGD", "threads=1"]
FAULTY_ADAM = [
    *("optimizer=adam", "optimizer._target_=tests.support.faulty.FaultyAdam", "threads=1")
]
SHORT = ["budget=steps", "budget.steps=6", "memory_limit_gb=3"]
SIX = "+optimizer.fault=none,diverges,none:b,raises,takes_memory,none:c"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_three_that_go_wrong_end_none_of_the_other_three(tmp_path, launcher):
    result = sweep(tmp_path, *FAULTY, *SHORT, SIX, *LAUNCHERS[launcher])
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    told = "sweep of 6: 1 diverged, 3 done, 1 failed, 1 out_of_memory (0 from before)"
    assert told in result.stderr
    assert statuses(tmp_path) == ["diverged", *["done"] * 3, "failed", "out_of_memory"]
    failed = next(run for run in load_runs(tmp_path)[0] if run.status == "failed")
    assert failed.reason == "ArithmeticError: the fault of this test"
    before_summary, _, _ = result.stderr.partition("sweep of 6")
    assert f"see {failed.path}" in before_summary

    before = measurements(tmp_path)
    again = sweep(tmp_path, *FAULTY, *SHORT, SIX, *LAUNCHERS[launcher], "retry=true")
    assert "(4 from before)" in again.stderr  # the diverged one is a result, and not tried again
    assert measurements(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib", "ray"])
def test_the_first_failure_ends_a_sweep_that_is_to_fail_fast(tmp_path, launcher):
    faults = "+optimizer.fault=raises,none,none:b,none:c"
    long = ["budget.epochs=500", "fail_fast=true"]
    result = sweep(tmp_path, *FAULTY, *long, faults, *LAUNCHERS[launcher])
    assert result.returncode == 1
    side_by_side = 0 if launcher == "local" else 1
    assert f"{3 - side_by_side} not started (0 from before)" in result.stderr
    assert statuses(tmp_path) in (["failed"], ["failed", *["interrupted"] * side_by_side])
    assert children_of(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_a_run_of_two_processes_is_one_run_of_the_sweep(tmp_path):
    alone, runs = tmp_path / "alone", tmp_path / "runs"
    short = ["budget=steps", "budget.steps=6"]
    assert sweep(alone, *FAULTY, *short, "+optimizer.fault=none").returncode == 0
    faults = "+optimizer.fault=raises,none"
    result = sweep(runs, *FAULTY, *short, faults, "processes=2")
    assert result.returncode == 1
    assert "sweep of 2: 1 done, 1 failed (0 from before)" in result.stderr
    assert "ArithmeticError: the fault of this test" in result.stderr
    assert len([path for path in runs.iterdir() if path.name[0] != "."]) == 2
    (one,) = load_runs(alone)[0]
    two = next(run for run in load_runs(runs)[0] if run.status == "done")
    assert two.run_id == one.run_id
    assert json.loads((two.path / "environment.json").read_text())["processes"]["count"] == 2
    for row, other in zip(two.rows, one.rows, strict=True):
        assert row["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)


@pytest.mark.slow
def test_a_control_whose_method_diverges_is_a_row_and_the_others_go_on(tmp_path):
    short = ["budget=steps", "budget.steps=3"]
    typed = [*FAULTY_ADAM, *short, "+optimizer.fault=diverges,none", "control=scalar"]
    result = sweep(tmp_path, *typed)
    assert result.returncode == 1
    assert "sweep of 4: 2 diverged, 2 done (0 from before)" in result.stderr
    (control,) = (
        run
        for run in load_runs(tmp_path)[0]
        if run.status == "diverged" and run.identity["control"] == "scalar"
    )
    assert f"diverged: digits adam control=scalar seed 0 (run {control.run_id}): " in result.stderr
    assert control.reason in result.stderr
    assert control.reason in status(tmp_path)
    again = sweep(tmp_path, *typed, "retry=true")
    assert again.returncode == 1
    assert "(4 from before)" in again.stderr


@pytest.mark.slow
def test_a_method_that_cannot_be_calibrated_is_a_row_and_takes_no_other_with_it(tmp_path):
    matched = ["budget=match_seconds", "budget.reference_steps=3", "task.batch_size=16"]
    typed = [*FAULTY_ADAM, *matched, "+optimizer.fault=raises,none,dies"]
    result = sweep(tmp_path, *typed)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "sweep of 3: 1 done, 2 failed (0 from before)" in result.stderr
    reasons = {run.reason for run in load_runs(tmp_path)[0] if run.status == "failed"}
    assert reasons == {
        "calibration: adam: ArithmeticError: the fault of this test",
        "calibration: its process was killed by SIGSEGV",
    }
    told = status(tmp_path)
    assert all(reason in told for reason in reasons)
    before, summary = result.stderr.split("sweep of 3")
    assert all(reason in before and reason in summary for reason in reasons)

    again = sweep(tmp_path, *typed, "retry=true")
    assert (again.returncode, "take turns" in again.stderr) == (1, True)
    assert "(1 from before)" in again.stderr
