import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.paired import holm, pairs_of, student


def of(ours: list[float], theirs: list[float]) -> float | None:
    return student(pairs_of(dict(enumerate(ours)), dict(enumerate(theirs))))


def test_only_seeds_that_both_have_are_paired() -> None:
    ours = {3: 5.0, 1: 2.0, 0: float("nan"), 7: 1.0, 8: float("inf")}
    theirs = {1: 1.0, 3: 0.5, 0: 1.0, 9: 1.0, 8: 1.0}
    pairs = pairs_of(ours, theirs)
    assert (pairs.seeds, pairs.differences.tolist()) == ([1, 3], [1.0, 4.5])


RESULTS = st.lists(st.floats(-99, 99), min_size=2, max_size=9)


@given(RESULTS, RESULTS)
def test_student_is_the_paired_t_test_of_scipy(x: list[float], y: list[float]) -> None:
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    if n < 2 or np.ptp(np.subtract(x, y)) < 1e-6:
        return
    assert of(x, y) == pytest.approx(scipy.stats.ttest_rel(x, y).pvalue, rel=1e-6, abs=1e-12)


@given(st.integers(2, 9), st.integers(-5, 5), st.data())
def test_differences_of_one_count_of_test_rows_tell_no_spread(
    n: int, rows: int, data: st.DataObject
) -> None:
    theirs = data.draw(st.lists(st.integers(300, 350), min_size=n, max_size=n))
    accuracies = ([100.0 * (count + ahead) / 359 for count in theirs] for ahead in (rows, 0))
    assert of(*accuracies) is None


def test_one_pair_is_no_test() -> None:
    assert of([1.0], [3.0]) is None
    assert of([], []) is None


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06 and 0.04, raised to 0.06.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    # Of a family of ten, of which the others were not tested, the factors are 10 and 9.
    assert holm([0.001, None, 0.002], tests=10) == pytest.approx([0.01, None, 0.018])


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
