"""The steps that follow from a calibration, and its file."""

import json
from pathlib import Path

import pytest

from experiments.config import budget
from experiments.records.calibration import read
from tests.support.calibrations import made_up


def test_the_steps_are_those_of_the_reference_over_the_ratio():
    assert made_up().steps(30) == 60
    assert made_up(ratio=5.6).steps(200) == 36
    assert made_up().reference_seconds(30) == 30
    assert made_up().seconds(60) == pytest.approx(30)


def test_the_steps_are_the_nearest_ones_and_at_least_one():
    dear = made_up(ratio=4.0)
    assert [dear.steps(n) for n in (1, 5, 7, 11)] == [1, 1, 2, 3]


def test_the_schedule_ends_with_the_matched_steps():
    given = {"match_seconds": "adafisher", "reference_epochs": 2, "reference_steps": None}
    limits = budget.limits(given, steps_per_epoch=7, calibration=made_up(ratio=1.25))
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
        lambda text: json.dumps(json.loads(text) | {"noise_percent": -1}),
    ],
)
def test_a_broken_file_is_none(tmp_path: Path, change):
    path = tmp_path / "one.json"
    path.write_text(change(made_up().to_json().decode()))
    assert read(path) is None


def test_one_that_charged_runs_for_their_set_up_is_read(tmp_path: Path):
    """What it has of that is left out: its ratio is that of steps under way."""
    later = ("cpu_ratio", "noise_percent")
    facts = {key: value for key, value in made_up().summary().items() if key not in later}
    facts |= {"drift_percent": 2.0, "between_runs_percent": 3.0, "start": 4.0}
    facts |= {"reference_start": 1.0, "profile": [0.8, 0.2], "reference_profile": [1.0]}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(facts))
    assert read(path) == made_up(cpu_ratio=None, noise_percent=None)
