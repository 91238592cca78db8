import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.profiles import optimality_gap, ratio_profile, score_profile


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_of_one_task_it_is_the_empirical_survival_function(scores: list[float]) -> None:
    grid = np.linspace(-0.1, 1.1, 7)
    made = score_profile([scores], grid, higher_is_better=True, generator=seeded(), resamples=20)
    expected = scipy.stats.ecdf(scores).sf.evaluate(grid)
    assert made["value"].tolist() == pytest.approx(expected.tolist())
    assert made["value"].is_monotonic_decreasing


def test_tasks_count_alike_and_a_diverged_run_passes_nothing() -> None:
    made = score_profile(
        [[0.2, 0.8], [0.9, math.nan, 0.1, 0.1]],
        [0.0, 0.5],
        higher_is_better=True,
        generator=seeded(),
    )
    assert made["value"].tolist() == pytest.approx([(1 + 3 / 4) / 2, (1 / 2 + 1 / 4) / 2])
    assert made["n"].tolist() == [6, 6]
    lower = score_profile([[1.0, math.inf]], [2.0], higher_is_better=False, generator=seeded())
    assert lower["value"].tolist() == [0.5]


def test_a_score_at_the_threshold_does_not_pass_it() -> None:
    for higher in (True, False):
        made = score_profile([[0.5, 0.5]], [0.5], higher_is_better=higher, generator=seeded())
        assert made["value"].tolist() == [0.0]


def test_the_band_of_one_task_is_binomial() -> None:
    # Of n runs k pass: a resample has a binomial number of passing ones.
    scores = [1.0] * 3 + [0.0] * 2
    made = score_profile(
        [scores], [0.5], higher_is_better=True, generator=seeded(), level=0.8, resamples=20_000
    )
    low, high = scipy.stats.binom.ppf([0.1, 0.9], 5, 0.6) / 5
    assert (made["low"][0], made["high"][0]) == (low, high)
    assert made.attrs["level"] == 0.8


def test_one_run_has_no_band_and_no_run_is_refused() -> None:
    made = score_profile([[1.0]], [0.5], higher_is_better=True, generator=seeded())
    assert made[["low", "high"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="no run"):
        score_profile([[]], [0.5], higher_is_better=True, generator=seeded())


def test_ratio_profile_by_hand() -> None:
    # Problems: a is best, b is best at half of a's cost, only a solves, none solves.
    costs = {"a": [10.0, 10.0, 3.0, math.inf], "b": [15.0, 5.0, math.nan, math.nan]}
    made = ratio_profile(costs, [1.0, 1.5, 2.0, 1e9])

    assert made["x"].tolist() == [1.0, 1.5, 2.0, 1e9]
    assert made["a"].tolist() == [0.5, 0.5, 0.75, 0.75]
    assert made["b"].tolist() == [0.25, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="Invalid cost: 0"):
        ratio_profile({"a": [0.0]}, [1.0])


def test_optimality_gap_by_hand() -> None:
    # 100 is passed by 110, which makes up for nothing: (0 + 10 + 40) / 3.
    gap = optimality_gap([[110.0, 90.0], [60.0]], target=100.0, higher_is_better=True)
    assert gap == pytest.approx(50 / 3)
    assert optimality_gap([[3.0, 1.0]], target=2.0, higher_is_better=False) == 0.5
    assert optimality_gap([], target=1.0, higher_is_better=True) is None
