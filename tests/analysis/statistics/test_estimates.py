import statistics

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.estimates import (
    STATISTICS,
    Estimate,
    check_level,
    finite,
    interquartile_mean,
    mean,
    median,
)

SAMPLES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(SAMPLES)
def test_mean_and_median_are_those_of_the_standard_library(values: list[float]) -> None:
    assert mean(values) == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert median(values) == statistics.median(values)


INTERQUARTILE = {
    "four: the middle two": ([0.0, 1.0, 3.0, 100.0], 2.0),
    "eight: the middle four": ([-50.0, -9.0, 1.0, 2.0, 3.0, 4.0, 9.0, 80.0], 2.5),
    "five: one off either end": ([1.0, 2.0, 3.0, 7.0, 90.0], 4.0),
    "seven: one off either end": ([-70.0, 1.0, 2.0, 3.0, 4.0, 5.0, 70.0], 3.0),
    "three: the mean": ([0.0, 0.0, 9.0], 3.0),
    "one": ([4.5], 4.5),
}


@pytest.mark.parametrize(
    ("values", "expected"), INTERQUARTILE.values(), ids=list(INTERQUARTILE.keys())
)
def test_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(values[::-1]) == pytest.approx(expected)


@given(SAMPLES, st.floats(-100, 100), st.floats(0.01, 100))
def test_every_statistic_moves_and_scales_with_the_values(
    values: list[float], shift: float, scale: float
) -> None:
    for function in STATISTICS.values():
        moved = function([scale * value + shift for value in values])
        expected = scale * function(values) + shift
        assert moved == pytest.approx(expected, rel=1e-7, abs=1e-3)
        assert min(values) - 1e-6 <= function(values) <= max(values) + 1e-6


def test_what_is_not_finite_is_left_out() -> None:
    assert list(finite([1.0, float("nan"), float("inf"), 2.0])) == [1.0, 2.0]


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_its_bounds_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"Invalid level: {level}"):
        check_level(level)


def test_an_estimate_says_its_statistic_n_and_level() -> None:
    low, high = scipy.stats.t.interval(0.9, 2, 2.0, 1.0)
    whole = Estimate("mean", 3, 2.0, low, high, 0.9, "Student t")
    assert str(whole) == f"mean 2, n=3, 90 % Student t {low:g} to {high:g}"
    assert str(Estimate("median", 1, 2.0)) == "median 2, n=1"
    assert str(Estimate("median", 0, None)) == "median none, n=0"
