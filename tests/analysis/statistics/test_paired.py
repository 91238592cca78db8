import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.paired import holm, paired_differences, sign_flip, student


def test_only_seeds_that_both_have_are_subtracted() -> None:
    ours = {3: 5.0, 1: 2.0, 0: float("nan"), 7: 1.0}
    theirs = {1: 0.5, 3: 1.0, 0: 1.0, 9: 1.0}
    seeds, differences = paired_differences(ours, theirs)
    assert (seeds, differences.tolist()) == ([1, 3], [1.5, 4.0])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8))
def test_sign_flip_counts_all_patterns(differences: list[int]) -> None:
    # Exact in whole numbers: how many of the 2^n signed sums are as far from zero.
    observed = abs(sum(differences))
    patterns = list(itertools.product([1, -1], repeat=len(differences)))
    as_far = sum(
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) >= observed
        for signs in patterns
    )
    made = sign_flip([float(value) for value in differences])
    assert made.p == pytest.approx(float(Fraction(as_far, len(patterns))))
    assert made.smallest_p == 2 / len(patterns)


def test_sign_flip_by_hand() -> None:
    # Of the eight patterns of 1, 2, 3 only all + and all - reach a sum of 6.
    assert sign_flip([1.0, 2.0, 3.0]).p == 0.25
    assert sign_flip([1.0] * 6).p == 2 / 64
    assert sign_flip([0.0, 0.0]).p == 1.0
    assert "exact" in sign_flip([1.0, 2.0]).test


def test_beyond_sixteen_seeds_patterns_are_drawn_and_the_draws_are_seeded() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, size=20)
    made = sign_flip(differences, generator=np.random.default_rng(1))
    again = sign_flip(differences, generator=np.random.default_rng(1))

    assert made == again
    assert "drawn" in made.test
    # For normal differences both tests measure the same.
    assert made.p == pytest.approx(scipy.stats.ttest_1samp(differences, 0.0).pvalue, abs=0.02)
    with pytest.raises(ValueError, match="generator is needed"):
        sign_flip(differences)


def test_one_pair_is_no_test() -> None:
    assert sign_flip([1.0]).p is None
    assert student([1.0]).p is None
    assert student([1.0, 1.0, 1.0]).p is None  # no spread to measure by


def test_student_is_the_paired_t_test_of_scipy() -> None:
    a, b = [3.0, 1.0, 4.0, 1.5], [2.0, 0.5, 3.5, 2.5]
    made = student(np.subtract(a, b))
    assert made.p == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06 and 0.04, raised to 0.06.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float]) -> None:
    alpha = 0.05
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - step) > alpha:
            break
        rejected.add(index)
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p is not None and p <= alpha} == rejected
    assert all(p is not None and p >= raw for p, raw in zip(adjusted, p_values, strict=True))
