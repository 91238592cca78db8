"""Equal time is equal for two methods only where it was measured alike for both, seed by seed."""

import json
from typing import Any

import pandas as pd
import pytest

from analysis.figures import performance_profile
from analysis.results.load import load_results
from analysis.statistics.compare import compare_runs
from analysis.statistics.timing import timed_apart
from analysis.tables import aggregate_score, improvement_probability, paired_difference, speed_up
from tests.support.calibrations import made_up

APART = "equal time was measured with threads 4 against 1"


def runs(*threads: int | None, first: int = 0, **columns: Any) -> pd.DataFrame:
    timed = [{"processor": "A", "threads": count} if count else {} for count in threads]
    seeds = range(first, first + len(threads))
    return pd.DataFrame({"seed": seeds, "timed_on": timed, **columns})


def test_one_seed_that_was_timed_apart_is_enough() -> None:
    assert timed_apart(runs(1, 4, 4), runs(1, 4, 1)) == APART


def test_seeds_may_be_timed_on_different_machines_if_both_methods_are() -> None:
    assert timed_apart(runs(1, 4), runs(1, 4)) == ""
    assert timed_apart(runs(1), runs(4, first=1)) == ""  # no seed in common


def test_runs_without_a_timing_are_not_apart() -> None:
    """Budgets in epochs, and listed steps, whose setting names the machine."""
    assert timed_apart(runs(None, None), runs(None, 4)) == ""
    bare = runs(None).drop(columns="timed_on")
    assert timed_apart(bare, bare) == ""


def test_no_difference_is_a_verdict_and_no_seeds_would_decide_it() -> None:
    shared = {"status": "done", "ruleset": "paper", "tuning": None, "higher_is_better": True}
    for finals in ([90.0, 91.0, 90.5], [97.0, 80.0, 91.0]):
        ours = runs(4, 4, 4, final=finals, **shared)
        theirs = runs(1, 1, 1, final=[80.0, 80.4, 80.2], **shared)
        for made in (compare_runs(ours, theirs), compare_runs(ours, theirs, allow_unequal=True)):
            assert (made.outcome, made.reason, made.more_seeds) == ("inconclusive", APART, None)


@pytest.mark.parametrize(
    "table", [aggregate_score, improvement_probability, paired_difference, speed_up]
)
def test_tables_against_a_reference_say_it(table: Any, write_run: Any, runs_dir: Any) -> None:
    for name, threads, start in (("adamw", 1, 80.0), ("soap", 4, 95.0), ("sgd", 1, 85.0)):
        summary = {"calibration": made_up(machine={"threads": threads}).summary()}
        for seed in range(5):
            write_run(name, seed, (70.0, start + seed / 10), summary=summary)

    rows = table.build(load_results(runs_dir)).reset_index().set_index("method")

    assert rows.loc["soap", "incomplete"] == f"digits: {APART}"
    assert rows.loc["sgd", "incomplete"] == ""
    if "outcome" in rows:
        assert rows.loc["soap", "outcome"] == "inconclusive"
        assert rows.loc["sgd", "outcome"] == "more often better"


def test_runs_of_as_many_seconds_are_apart_where_their_machines_are(
    write_run: Any, runs_dir: Any
) -> None:
    """The faster machine trains for longer."""
    machine = {"device": "cpu", "cpu_model": "A", "cpu_count": 4}
    for name, threads, start in (("adamw", 1, 80.0), ("soap", 4, 95.0)):
        for seed in range(3):
            summary = {"budget_train_seconds": 60.0}
            folder = write_run(name, seed, (70.0, start + seed / 10), summary=summary)
            (folder / "environment.json").write_text(json.dumps(machine | {"threads": threads}))

    found = load_results(runs_dir).runs
    ours, theirs = (found[found["optimizer"] == name] for name in ("soap", "adamw"))

    assert compare_runs(ours, theirs).reason == APART
    assert dict(ours["timed_on"].iloc[0]) == {
        "device": "cpu",
        "processor": "A",
        "cpu_count": 4,
        "threads": 4,
    }


def test_runs_of_as_many_epochs_are_compared_wherever_they_ran(
    write_run: Any, runs_dir: Any
) -> None:
    for name, threads in (("adamw", 1), ("soap", 4)):
        folder = write_run(name)
        (folder / "environment.json").write_text(json.dumps({"threads": threads}))
    assert list(load_results(runs_dir).runs["timed_on"]) == [{}, {}]


@pytest.mark.parametrize("text", [speed_up.__doc__, performance_profile.NOTE])
def test_who_prints_training_times_says_that_machines_may_differ(text: str) -> None:
    assert "the machines that the runs ran on, which may differ" in " ".join(text.split())
