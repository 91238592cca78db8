import math

import pandas as pd
import pytest
import scipy.stats

from analysis.statistics.speedup import Reach, SpeedUp, reaches, speed_up


def measurements(*rows: tuple[str, int, float, float, str, float]) -> pd.DataFrame:
    columns = ["run_id", "step", "epoch", "train_seconds", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


RUNS = pd.DataFrame({"run_id": ["a", "b", "c"], "seed": [0, 1, 2]})
ROWS = measurements(
    ("a", 10, 1.0, 0.5, "test_accuracy_percent", 80.0),
    ("a", 20, 2.0, 1.0, "test_accuracy_percent", 90.0),
    ("a", 30, 3.0, 1.5, "test_accuracy_percent", 85.0),
    ("a", 5, 0.5, 0.2, "train_loss", 99.0),
    ("b", 10, 1.0, 0.6, "test_accuracy_percent", 70.0),
    ("b", 15, 1.5, 0.9, "train_loss", 1.0),
    ("z", 10, 1.0, 0.1, "test_accuracy_percent", 99.0),
)


@pytest.mark.parametrize(
    ("axis", "first", "censored"), [("step", 20, 15), ("epoch", 2, 1.5), ("train_seconds", 1, 0.9)]
)
def test_the_first_evaluation_at_the_target_and_else_the_last(
    axis: str, first: float, censored: float
) -> None:
    found = reaches(
        RUNS, ROWS, metric="test_accuracy_percent", target=85.0, higher_is_better=True, axis=axis
    )
    assert found == {0: Reach(first, True), 1: Reach(censored, False)}
    shuffled = reaches(
        RUNS,
        ROWS[::-1],
        metric="test_accuracy_percent",
        target=85.0,
        higher_is_better=True,
        axis=axis,
    )
    assert shuffled == found


def test_a_target_from_above() -> None:
    found = reaches(RUNS, ROWS, metric="train_loss", target=1.0, higher_is_better=False)
    assert found == {0: Reach(30.0, False), 1: Reach(15.0, True)}
    with pytest.raises(ValueError, match="Invalid axis: hours"):
        reaches(RUNS, ROWS, metric="m", target=1.0, higher_is_better=True, axis="hours")


def made(ours: list[Reach], baseline: list[Reach]) -> SpeedUp:
    return speed_up(dict(enumerate(ours)), dict(enumerate(baseline)), target=90.0)


def test_speed_up_by_hand() -> None:
    result = made([Reach(10, True), Reach(10, True)], [Reach(20, True), Reach(80, True)])
    assert result.value == pytest.approx(4.0)  # the geometric mean of 2 and 8
    logs = [math.log(2), math.log(8)]
    low, high = scipy.stats.t.interval(0.95, 1, sum(logs) / 2, scipy.stats.sem(logs))
    assert (result.low, result.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert (result.bound, result.n, result.reached) == ("exact", 2, 2)


BOUNDS = {
    "baseline late": ([Reach(10, True)], [Reach(40, False)], "at least", 4.0),
    "method late": ([Reach(40, False)], [Reach(10, True)], "at most", 0.25),
    "both late": ([Reach(40, False)], [Reach(40, False)], "unknown", None),
    "late on different seeds": (
        [Reach(9, True), Reach(9, False)],
        [Reach(9, False), Reach(9, True)],
        "unknown",
        None,
    ),
    "nothing in common": ([], [Reach(1, True)], "unknown", None),
}


@pytest.mark.parametrize(
    ("ours", "baseline", "bound", "value"), BOUNDS.values(), ids=list(BOUNDS.keys())
)
def test_a_target_that_was_not_reached_makes_a_bound(
    ours: list[Reach], baseline: list[Reach], bound: str, value: float | None
) -> None:
    result = made(ours, baseline)
    assert (result.bound, result.low) == (bound, None)
    assert result.value == (value if value is None else pytest.approx(value))


def test_both_ways_round_are_reciprocal() -> None:
    ours, baseline = [Reach(3, True), Reach(5, True)], [Reach(4, True), Reach(50, True)]
    there, back = made(ours, baseline), made(baseline, ours)
    assert there.value is not None
    assert back.value is not None
    assert there.value * back.value == pytest.approx(1.0)
