"""The check of finished runs."""

import dataclasses
from pathlib import Path

import pytest

from experiments import (
    calibration_report,
)
from experiments.errors import UserError
from experiments.record import Run
from tests.experiments.calibrations import made_up


def finished(method: str, seconds: float, *, step: int = 100, **changes) -> Run:
    facts = {"task": "digits", "model": "small_cnn", "optimizer": method, "budget": "b", "seed": 0}
    summary = {"budget_train_seconds": 100.0, "calibration": made_up(**changes).summary()}
    progress = {"step": step, "train_seconds": seconds}
    return Run(method, Path(), "done", None, facts, progress, summary)


def test_the_reference_is_the_measure_within_three_percent_or_the_spread():
    runs = [
        finished("adafisher", 200.0),
        finished("adam", 205.9),
        finished("kfac", 193.9),
        finished("shampoo", 193.9, spread_percent=3.2),
        finished("soap", 193.9, seconds_per_step=7.0),  # 3.5 %: half a step of it
    ]
    found = {one.run.run_id: one for one in calibration_report.matched(runs)}
    assert found["adam"].off_percent == pytest.approx(2.95)
    assert [name for name, one in found.items() if one.within is None] == ["kfac"]
    assert calibration_report.lines(list(found.values()))[-1] == (
        "time of the reference: 4 others, 1 within 3 %, 1 within the spread of the calibration, "
        "1 within half a step, 1 beyond"
    )


def test_half_of_the_step_at_the_end_is_allowed_and_no_other():
    """Ten steps and not eleven, as the eleventh is a refresh; after it a step is cheap."""
    refreshes = {"profile": (10.0, *[1.0] * 9), "seconds_per_step": 1.9}
    before = finished("ekfac", 95.1, step=10, **refreshes)
    after = finished("ekfac", 95.1, step=11, **refreshes)
    dear, cheap = calibration_report.matched([before, after])
    assert (dear.step_percent, dear.within) == (pytest.approx(5), "half a step")
    assert (cheap.step_percent, cheap.within) == (pytest.approx(0.95), None)


def test_without_a_run_of_the_reference_its_budget_is_the_measure():
    (alone,) = calibration_report.matched([finished("adam", 102.0)])
    assert alone.off_percent == pytest.approx(2)


def test_runs_of_other_budgets_and_unfinished_ones_are_not_checked(tmp_path: Path):
    plain = dataclasses.replace(finished("adam", 1.0), summary={})
    unfinished = dataclasses.replace(finished("adam", 1.0), status="interrupted")
    assert calibration_report.matched([plain, unfinished]) == []
    with pytest.raises(UserError, match="No finished run"):
        calibration_report.main(tmp_path)
