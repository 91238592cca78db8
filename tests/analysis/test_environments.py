"""Where runs ran, in a line: what they share, and of what they do not how many there are."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.results.environments import environments, facts

ONE: dict[str, Any] = {
    "date": "2026-11-28",
    "python": "3.12.1",
    "packages": {"torch": "2.14.1", "numpy": "2.4.6", "timm": "1.0"},
    "cpu_model": "EPYC",
    "cpu_count": 2,
    "device": "cpu",
    "code": {"commit": f"0123456{33 * '0'}", "uncommitted_changes": False},
}
GPU = {**ONE, "device": "NVIDIA H200", "processes": {"count": 4}}


def test_what_all_runs_share_is_said_once() -> None:
    versions = "Python 3.12.1, torch 2.14.1, numpy 2.4.6"
    assert facts([ONE, ONE]) == ["EPYC, 2 cores", "2026-11-28", "commit 0123456", versions]


def test_a_device_and_changed_code_are_named() -> None:
    changed = {**GPU, "code": {"commit": "0123456789", "uncommitted_changes": True}}
    machine, _, code, _ = facts([changed])
    assert machine == "4 x NVIDIA H200, EPYC, 2 cores"
    assert code == "commit 0123456, with uncommitted changes"


def test_of_what_differs_there_is_a_count_and_of_days_a_span() -> None:
    other = {**GPU, "date": "2026-12-01", "code": {"commit": "fedcba9876"}, "python": "3.13.0"}
    assert facts([ONE, other]) == [
        "2 machines",
        "2026-11-28 to 2026-12-01",
        "2 versions of the code",
        "2 sets of versions",
    ]


def test_records_without_a_day_are_older_than_those_with_one() -> None:
    assert "until 2026-11-28" in facts([ONE, {key: ONE[key] for key in ONE if key != "date"}])


@pytest.mark.parametrize("odd", [{}, {"packages": None, "code": None, "cpu_count": "many"}])
def test_what_is_not_recorded_is_not_said(odd: dict[str, Any]) -> None:
    assert facts([odd]) == []


def test_an_environment_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    for name, text in {"good": json.dumps(ONE), "torn": "{"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "environment.json").write_text(text)
    assert environments(tmp_path, ["good", "torn", "none"]) == {"good": ONE}
