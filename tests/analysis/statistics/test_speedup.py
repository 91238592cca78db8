import itertools
import math
from typing import Any

import numpy as np
import pytest

from analysis.statistics.speedup import Reach, SpeedUp, first_reach, median_reach, reaches, speed_up


def curve(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = zip(*points, strict=True)
    return np.array(x), np.array(y)


CURVES = {
    "a": curve((10, 80.0), (20, 90.0), (30, 85.0)),
    "b": curve((10, 70.0), (15, math.nan)),
    "z": curve((10, 99.0)),
}


@pytest.mark.parametrize(
    ("target", "higher", "a", "b"),
    [
        (85.0, True, Reach(20, True), Reach(15, False)),
        (90.0, True, Reach(20, True), Reach(15, False)),  # to be at it is enough
        (91.0, True, Reach(30, False), Reach(15, False)),
        (80.0, False, Reach(10, True), Reach(10, True)),
        (70.0, False, Reach(30, False), Reach(10, True)),
    ],
)
def test_the_first_evaluation_at_the_target_and_else_the_last(
    target: float, higher: bool, a: Reach, b: Reach
) -> None:
    found = reaches("abc", CURVES, target=target, higher_is_better=higher)
    assert found == [a, b, Reach(0, False)]  # c has no curve


def test_a_target_that_is_a_mean_of_equal_results_is_reached_by_them() -> None:
    # The mean of three seeds with one count of 359 test images is off by a bit for many counts.
    for count in range(300, 359):
        result = 100.0 * count / 359
        target = sum([result] * 3) / 3
        for higher in (True, False):
            found = first_reach([5.0], [result], target, higher_is_better=higher)
            assert found == Reach(5.0, True)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("higher", [True, False])
def test_what_a_run_measured_after_a_value_that_is_not_finite_does_not_count(
    lost: float, higher: bool
) -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [20.0, lost, lost, 11.0]
    assert first_reach(x, y, 11.0, higher_is_better=False) == Reach(2.0, False)
    assert first_reach(x, y, 20.0, higher_is_better=higher) == Reach(1.0, True)


NEVER = Reach(50, False)
MEDIANS = {
    "one": ([Reach(10, True)], Reach(10, True)),
    "upper of two": ([Reach(30, True), Reach(10, True)], Reach(30, True)),
    "a late one is last": ([Reach(30, True), Reach(5, False), Reach(10, True)], Reach(30, True)),
    "half late": ([Reach(10, True), NEVER], Reach(50, False)),
    # The true amounts are 10, above 5 and above 50: their median is above 10.
    "bound": ([Reach(10, True), Reach(5, False), NEVER], Reach(10, False)),
}


@pytest.mark.parametrize(("runs", "median"), MEDIANS.values(), ids=list(MEDIANS))
def test_median_run(runs: list[Reach], median: Reach) -> None:
    assert median_reach(runs) == median
    assert median_reach([]) is None


def made(ours: list[Reach], baseline: list[Reach], **options: Any) -> SpeedUp:
    return speed_up(ours, baseline, generator=np.random.default_rng(0), **options)


def times(*amounts: float) -> list[Reach]:
    return [Reach(amount, True) for amount in amounts]


def test_speed_up_by_hand() -> None:
    result = made(times(10, 5, 20), times(40, 20, 80))
    assert (result.value, result.bound) == (4.0, "exact")  # medians 40 and 10
    assert (result.n, result.baseline_n, result.reached, result.baseline_reached) == (3, 3, 3, 3)


@pytest.mark.parametrize("level", [0.4, 0.83])
def test_the_interval_is_that_of_all_resamples(level: float) -> None:
    ours, baseline = [10.0, 5.0, 21.0], [40.0, 22.0, 85.0]

    def medians(values: list[float]) -> list[float]:
        return [sorted(pick)[1] for pick in itertools.product(values, repeat=3)]

    ratios = [b / o for b in medians(baseline) for o in medians(ours)]
    exact = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    result = made(times(*ours), times(*baseline), level=level, resamples=40_000)
    assert (result.low, result.high) == pytest.approx(tuple(exact))


def test_late_runs_open_the_interval_on_their_side() -> None:
    late = [*times(10, 10), NEVER]  # the median of a resample is late with 7/27
    result = made(late, times(20, 20, 20))
    assert (result.value, result.low, result.high) == (2.0, 0.0, 2.0)
    result = made(times(10, 10, 10), late)
    assert (result.value, result.low, result.high) == (1.0, 1.0, math.inf)
    result = made(late, late)
    assert (result.value, result.low, result.high) == (1.0, 0.0, math.inf)


BOUNDS = {
    "baseline late": (times(10), [Reach(40, False)], "at least", 4.0),
    "method late": ([Reach(40, False)], times(10), "at most", 0.25),
    "both late": ([NEVER], [NEVER], "unknown", None),
    "no runs": ([], times(1), "unknown", None),
    "there from the start": (times(0), times(1), "at once", None),
    "there from the start alone": (times(0), [NEVER], "at once", None),
    "never evaluated": ([Reach(0.0, False)], times(1), "at most", None),
}


@pytest.mark.parametrize(
    ("ours", "baseline", "bound", "value"), BOUNDS.values(), ids=list(BOUNDS.keys())
)
def test_a_target_that_was_not_reached_makes_a_bound(
    ours: list[Reach], baseline: list[Reach], bound: str, value: float | None
) -> None:
    result = made(ours, baseline)
    assert (result.bound, result.value, result.low) == (bound, value, None)


def test_runs_that_are_all_there_at_one_evaluation_have_no_interval() -> None:
    result = made(times(10, 10, 10), times(20, 20, 20))
    assert (result.value, result.bound, result.low, result.high) == (2.0, "exact", None, None)
    assert made(times(10, 10, 11), times(20, 20, 20)).low is not None


def test_one_run_has_no_interval() -> None:
    assert made(times(1), times(2)).low is None
    assert made(times(1, 1), times(2)).low is None
