"""The steps that follow from a calibration, and its file."""

import json
from pathlib import Path

import pytest

from experiments.config import budget
from experiments.records.calibration import read
from tests.support.calibrations import made_up


def test_half_the_cost_is_twice_the_steps():
    assert made_up().steps(30) == 60
    assert made_up(ratio=5.6, profile=(5.6,)).steps(200) == 36
    assert made_up().reference_seconds(30) == 30
    assert made_up().seconds(60) == pytest.approx(30)


def test_the_steps_are_the_nearest_ones_and_at_least_one():
    dear = made_up(ratio=4.0, profile=(4.0,))
    assert [dear.steps(n) for n in (1, 5, 7, 10, 11)] == [1, 1, 2, 2, 3]


def test_a_short_run_pays_for_the_dear_step_that_it_begins_with():
    """The costs 11, 1, ..., 1: after 12 there were two steps, of 2 in the mean there were six."""
    method = made_up(ratio=2.0, profile=(11.0, *[1.0] * 9))
    assert method.steps(12) == 2
    assert method.steps(20) == 10
    assert method.steps(32) == 12  # the second dear one was the eleventh
    assert [abs(method.seconds(n) - 47) for n in (method.steps(47) - 1, method.steps(47) + 1)] >= [
        abs(method.seconds(method.steps(47)) - 47)
    ] * 2


def test_what_is_set_up_first_is_taken_from_the_steps():
    assert made_up(ratio=1.0, profile=(1.0,), start=4.0).steps(30) == 26
    assert made_up(ratio=1.0, profile=(1.0,), start=4.0, reference_start=1.0).steps(30) == 27
    assert made_up(start=40.0).steps(30) == 1
    assert made_up(start=4.0).seconds(10) == pytest.approx(9)
    assert made_up(reference_start=1.0).reference_seconds(30) == pytest.approx(31)


def test_the_schedule_ends_with_the_matched_steps():
    given = {"match_seconds": "adafisher", "reference_epochs": 2, "reference_steps": None}
    limits = budget.limits(given, steps_per_epoch=7, calibration=made_up(profile=(1.25,)))
    assert limits == budget.Limits(steps=11, given_seconds=14.0)  # an epoch and four steps
    assert limits.horizon == 11


# The files


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "one.json"
    path.write_bytes(made_up().to_json())
    assert read(path) == made_up()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"ratio": 0.5', '"ratio": NaN'),
        lambda text: text.replace('"ratio": 0.5', '"ratio": "fast"'),
        lambda text: text.replace('"ratio": 0.5,', ""),
        lambda text: text.replace('"steps_per_epoch": 18', '"steps_per_epoch": 0'),
        lambda text: text.replace('"seconds_per_step": 0.5', '"seconds_per_step": -1'),
        lambda text: json.dumps(json.loads(text) | {"profile": []}),
    ],
)
def test_a_broken_file_is_none(tmp_path: Path, change):
    path = tmp_path / "one.json"
    path.write_text(change(made_up().to_json().decode()))
    assert read(path) is None
