import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.equivalence import Reference, equivalence

OURS = [95.1, 95.3, 95.0, 95.2, 95.4]


def test_with_a_published_spread_the_interval_is_welchs() -> None:
    made = equivalence(OURS, Reference(95.0, std=0.16, n=5), margin=0.5)
    # scipy from sample moments; the published spread is the population's.
    welch = scipy.stats.ttest_ind_from_stats(
        np.mean(OURS), np.std(OURS, ddof=1), 5, 95.0, 0.16 * math.sqrt(5 / 4), 5, equal_var=False
    )
    half = made.high - made.difference
    standard_error = made.difference / welch.statistic
    variances = [np.var(OURS, ddof=1) / 5, 0.16**2 / 4]
    freedom = sum(variances) ** 2 / sum(v**2 / 4 for v in variances)
    assert standard_error == pytest.approx(math.sqrt(sum(variances)))
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * standard_error)
    assert made.difference - made.low == pytest.approx(half)
    assert (made.outcome, made.more_seeds) == ("equal", 0)


def test_without_one_it_is_the_interval_of_a_mean_of_runs_that_scatter_as_ours() -> None:
    spread = np.std(OURS, ddof=1)
    single = equivalence(OURS, Reference(95.0), margin=0.5)
    assert single.high - single.difference == pytest.approx(
        scipy.stats.t.ppf(0.975, 4) * spread * math.sqrt(1 + 1 / 5)
    )
    five = equivalence(OURS, Reference(95.0, n=5), margin=0.5)
    assert five.high - five.difference == pytest.approx(
        scipy.stats.t.ppf(0.975, 4) * spread * math.sqrt(2 / 5)
    )


def test_a_spread_of_an_unknown_number_of_runs_is_one_of_two() -> None:
    made = equivalence(OURS, Reference(95.0, std=0.1), margin=0.5)
    variances = [np.var(OURS, ddof=1) / 5, 0.1**2]  # 0.1^2 * 2 / (2 - 1) / 2
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 4 + variances[1] ** 2 / 1)
    expected = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances))
    assert made.high - made.difference == pytest.approx(expected)


TIGHT = [95.19, 95.20, 95.21, 95.20, 95.19]
OUTCOMES = {
    "within": (95.0, "equal"),
    "ours is higher": (94.0, "higher"),
    "ours is lower": (96.5, "lower"),
    "at the margin": (94.7, "inconclusive"),
}


@pytest.mark.parametrize(("mean", "outcome"), OUTCOMES.values(), ids=list(OUTCOMES.keys()))
def test_outcomes(mean: float, outcome: str) -> None:
    assert equivalence(TIGHT, Reference(mean, n=5), margin=0.5).outcome == outcome


def test_a_difference_that_is_not_zero_but_within_the_margin_is_equal() -> None:
    made = equivalence(TIGHT, Reference(95.0, n=5), margin=0.5)
    assert made.low > 0  # the difference is beyond doubt, and too small to matter
    assert made.outcome == "equal"


@pytest.mark.parametrize("values", [[], [95.0], [95.0, 95.01], [95.0] * 9])
@pytest.mark.parametrize("mean", [95.0, 50.0])
def test_too_few_seeds_or_equal_ones_decide_nothing(values: list[float], mean: float) -> None:
    made = equivalence(values, Reference(mean, std=0.01, n=5), margin=0.5)
    assert made.outcome == "inconclusive"
    assert made.more_seeds is not None
    assert made.more_seeds >= max(1, 3 - len(values))


@pytest.mark.parametrize("n", [3, 5, 6, 7, 30])
def test_seeds_of_one_accuracy_decide_nothing_whatever_the_last_bit_of_their_mean(n: int) -> None:
    for accuracy in range(9000, 10_000, 3):
        made = equivalence([accuracy / 100] * n, Reference(accuracy / 100), margin=0.5)
        assert (made.outcome, made.low, made.difference) == ("inconclusive", None, 0.0)


@given(st.integers(2, 12), st.floats(-3, 3), st.floats(0.05, 2), st.booleans())
def test_as_many_more_seeds_as_it_says_decide_and_one_fewer_does_not(
    n: int, mean: float, spread: float, published: bool
) -> None:
    def with_moments(count: int) -> np.ndarray:
        values = np.arange(count) - (count - 1) / 2
        return values / np.std(values, ddof=1) * spread + mean

    reference = Reference(0.0, std=0.3 if published else None, n=5)
    made = equivalence(with_moments(n), reference, margin=0.5)
    if made.more_seeds is None:
        assert equivalence(with_moments(n + 1000), reference, margin=0.5).more_seeds != 0
    elif made.more_seeds:
        enough = equivalence(with_moments(n + made.more_seeds), reference, margin=0.5)
        assert enough.more_seeds == 0 or enough.more_seeds == 1  # rounding at the very edge
        if made.more_seeds > 1:
            fewer = equivalence(with_moments(n + made.more_seeds - 1), reference, margin=0.5)
            assert fewer.outcome == "inconclusive"


def test_what_no_seeds_can_decide() -> None:
    # One published run that scatters by 1 as ours: its interval is +-2 however many we have.
    made = equivalence([94.0, 95.0, 96.0], Reference(95.0), margin=0.5)
    assert (made.outcome, made.more_seeds) == ("inconclusive", None)


def test_a_margin_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid margin: 0"):
        equivalence(OURS, Reference(95.0), margin=0.0)
