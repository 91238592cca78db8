"""The first steps of a method, for real, in a process of their own."""

import pytest

from experiments.records.outcome import PreparationError
from experiments.timing import calibration_start
from tests.support.faulty import COMPILING_SECONDS


def with_fault(make_config, fault: str):
    return make_config(
        *("optimizer=sgd", "optimizer._target_=tests.support.faulty.FaultySGD"),
        f"+optimizer.fault={fault}",
    )


def test_each_process_pays_again_for_what_is_set_up_once(make_config):
    config = with_fault(make_config, "compiles")
    for _ in range(2):
        first, *others = calibration_start.seconds(config)
        assert first > COMPILING_SECONDS
        assert len(others) == calibration_start.STEPS - 1
        assert max(others) < COMPILING_SECONDS


@pytest.mark.parametrize(
    ("processes", "counted"),
    [
        ([[9.0, 0.5, 0.5], [4.0, 0.5, 0.5]], [4.0, 0.5, 0.5]),
        ([[4.0, 0.5, 0.5], [5.0, 0.5, 0.5]], [4.0, 0.5, 0.5]),
        ([[1.4, 0.5, 0.5]], [1.4, 0.5, 0.5]),
    ],
)
def test_a_dear_start_is_measured_again(make_config, monkeypatch, processes, counted):
    """The first process may have compiled for the others."""
    left = iter(processes)
    monkeypatch.setattr(calibration_start, "_in_a_process", lambda config: next(left))
    assert calibration_start.seconds(make_config()) == counted
    assert list(left) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("raises", "ArithmeticError: the fault of this test"), ("dies", "SIGSEGV")],
)
def test_a_step_that_fails_is_told_in_one_line(make_config, fault, reason, capfd):
    with pytest.raises(PreparationError, match=reason) as caught:
        calibration_start.seconds(with_fault(make_config, fault))
    assert caught.value.status == "failed"
    assert "Traceback" not in capfd.readouterr().err
