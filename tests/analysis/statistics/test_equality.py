import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.equality import are_equal, subtract

ROWS = st.sampled_from([359, 10_000, 50_000, 1_281_167])


@given(ROWS, st.data())
def test_results_are_equal_exactly_if_they_are_one_count_of_test_rows(
    rows: int, data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.integers(1, rows), min_size=2, max_size=2))
    # One count, worked out in ways that need not agree in the last bit.
    x, y = 100.0 * counts[0] / rows, counts[1] / rows * 100.0
    assert are_equal([x, y]) is (counts[0] == counts[1])
    assert (subtract(x, y) == 0) == (counts[0] == counts[1])


@pytest.mark.parametrize(
    ("x", "y", "equal"),
    [
        (1.0, 1.0 + 0.9e-9, True),
        (1.0, 1.0 + 1.1e-9, False),
        (3e20, 3e20 * (1 + 1e-10), True),
        (0.0, 0.0, True),
        (0.0, 1e-300, False),
        (-1.0, 1.0, False),
    ],
)
def test_the_rule_is_relative(x: float, y: float, equal: bool) -> None:
    assert are_equal([x, y]) is equal
    assert (subtract(y, x) == 0) == equal
    if not equal:
        assert subtract(y, x) == y - x


def test_differences_are_measured_by_what_was_subtracted() -> None:
    ours = np.array([98.32869080779944, 98.60724233983287, 98.60724233983287])
    theirs = np.array([98.05013927576601, 98.32869080779944, 98.32869080779944])
    assert np.ptp(ours - theirs) != 0  # one image of 359 each
    assert are_equal(subtract(ours, theirs), of=(ours, theirs))
    assert not are_equal([1e-14, 2e-14])
    assert are_equal([1e-14, 2e-14], of=([1.0], [1.0]))


def test_of_what_is_infinite_nothing_is_equal() -> None:
    assert subtract(5.0, math.inf) == -math.inf
    assert math.isnan(subtract(math.inf, math.inf))


@pytest.mark.parametrize("values", [[], [7.0]])
def test_one_value_is_equal_to_itself(values: list[float]) -> None:
    assert are_equal(values)
