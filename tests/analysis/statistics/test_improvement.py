import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.improvement import permutation_p, probability_of_improvement

RESULTS = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=6)


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


@settings(deadline=None, max_examples=40)
@given(RESULTS, RESULTS)
def test_of_one_task_it_is_the_mann_whitney_statistic_a_pair(
    x: list[float], y: list[float]
) -> None:
    made = probability_of_improvement(
        [x], [y], higher_is_better=[True], generator=seeded(), resamples=10
    )
    expected = scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))
    assert made.value == pytest.approx(expected)
    lower = probability_of_improvement(
        [x], [y], higher_is_better=[False], generator=seeded(), resamples=10
    )
    assert lower.value == pytest.approx(1 - expected)


def test_tasks_count_alike_whatever_their_runs_and_directions() -> None:
    # Accuracy: 1 of 4 pairs ahead and one tie, 3/8. Perplexity: all pairs ahead, 1.
    made = probability_of_improvement(
        [[1.0, 3.0], [5.0]],
        [[3.0, 2.0], [9.0, 8.0, 7.0]],
        higher_is_better=[True, False],
        generator=seeded(),
    )
    assert made.value == pytest.approx((3 / 8 + 1) / 2)
    assert (made.n, made.low) == (8, None)  # one run does not vary


def test_who_is_always_ahead_has_no_interval() -> None:
    made = probability_of_improvement(
        [[5.0, 6.0], [7.0, 8.0, 9.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        higher_is_better=[True, True],
        generator=seeded(),
    )
    # Every resample gives 1: an interval without width would be certainty.
    assert (made.value, made.low, made.high) == (1.0, None, None)


def test_a_method_against_itself() -> None:
    x = [[1.0, 2.0, 3.0], [4.0, 4.0]]
    made = probability_of_improvement(x, x, higher_is_better=[True, False], generator=seeded())
    assert made.value == 0.5
    assert made.low is not None
    assert made.high is not None
    assert made.low < 0.5 < made.high


def test_a_task_without_a_method_takes_the_value_away() -> None:
    made = probability_of_improvement(
        [[1.0], []], [[2.0], [3.0]], higher_is_better=[True, True], generator=seeded()
    )
    assert made.value is None
    with pytest.raises(ValueError, match="Invalid tasks: 1, 2, 1"):
        probability_of_improvement(
            [[1.0]], [[1.0], [2.0]], higher_is_better=[True], generator=seeded()
        )


def test_of_one_task_the_test_is_that_of_mann_and_whitney() -> None:
    x, y = np.random.default_rng(1).normal([[0.8], [0.0]], size=(2, 5))
    found = permutation_p([x], [y[:4]], higher_is_better=[True], generator=seeded())
    exact = scipy.stats.mannwhitneyu(x, y[:4], method="exact").pvalue
    assert found == pytest.approx(exact)


def test_of_two_tasks_it_is_that_of_all_deals() -> None:
    ours, theirs = [[1.0, 4.0], [7.0, 9.0, 8.0]], [[3.0, 4.0, 0.0], [2.0, 8.0]]

    def share(x: Iterable[float], y: Iterable[float]) -> float:
        return float(np.mean([(a > b) + (a == b) / 2 for a in x for b in y]))

    deals = []
    for x, y in zip(ours, theirs, strict=True):
        pool = x + y
        picks = itertools.combinations(range(len(pool)), len(x))
        deals.append(
            [
                share([pool[i] for i in pick], [v for i, v in enumerate(pool) if i not in pick])
                for pick in picks
            ]
        )
    observed = abs(sum(map(share, ours, theirs)) / 2 - 0.5)
    extreme = [abs((a + b) / 2 - 0.5) >= observed - 1e-9 for a in deals[0] for b in deals[1]]
    found = permutation_p(ours, theirs, higher_is_better=[True, True], generator=seeded())
    assert found == pytest.approx(np.mean(extreme))


def test_over_tasks_of_both_directions_a_method_that_is_always_worse_is_told() -> None:
    """Of accuracy and of loss: in two of the 70 times 70 deals all is on one side."""
    low, high = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]
    found = permutation_p(
        [low, high], [high, low], higher_is_better=[True, False], generator=seeded()
    )
    assert found == pytest.approx(2 / 70**2)
    either = permutation_p(
        [low, low], [high, high], higher_is_better=[True, False], generator=seeded()
    )
    assert either == pytest.approx(1.0)  # better on one, worse on the other


def test_drawn_deals_come_close_and_are_never_certain() -> None:
    x, y = np.random.default_rng(1).normal([[1.0], [0.0]], size=(2, 10))
    exact = scipy.stats.mannwhitneyu(x, y, method="exact").pvalue
    found = permutation_p([x], [y], higher_is_better=[True], generator=seeded())
    assert found == pytest.approx(exact, abs=0.01)
    apart = permutation_p([x + 99], [y], higher_is_better=[False], generator=seeded())
    assert 1e-4 <= apart < 1e-3
    assert permutation_p([x], [[]], higher_is_better=[True], generator=seeded()) is None


def test_runs_of_which_no_two_differ_are_no_test_whatever_their_number() -> None:
    ours, theirs = [100.0 * 353 / 359, 353 / 359 * 100.0] * 4, [98.0] * 8
    assert permutation_p([ours], [theirs], higher_is_better=[True], generator=seeded()) is None
    both = [ours, [1.0, 2.0]], [theirs, [1.0, 2.0]]
    assert permutation_p(*both, higher_is_better=[True, True], generator=seeded()) is not None


def test_runs_with_one_count_of_test_rows_are_ties_whatever_the_last_bit() -> None:
    counts = range(300, 359)
    ours, theirs = [100.0 * k / 359 for k in counts], [k / 359 * 100.0 for k in counts]
    assert ours != theirs
    for x, y in zip(ours, theirs, strict=True):
        made = probability_of_improvement([[x]], [[y]], higher_is_better=[True], generator=seeded())
        assert made.value == 0.5
