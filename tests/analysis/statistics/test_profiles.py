import numpy as np
import pytest

from analysis.statistics.profiles import performance_profile

NAN, INF = float("nan"), float("inf")


def test_profile_of_a_worked_example() -> None:
    # Ratios: a 1, 1, 1.5; b 2, 4, 1; c 3, never, not run.
    costs = [[10, 5, 3], [20, 20, 2], [30, INF, NAN]]

    found = performance_profile(costs, [1, 1.5, 2, 3, 4])

    np.testing.assert_allclose(
        found,
        [[2 / 3, 1, 1, 1, 1], [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1], [0, 0, 0, 1 / 2, 1 / 2]],
    )


def test_profile_where_nobody_gets_there_or_nothing_was_run() -> None:
    found = performance_profile([[INF, NAN], [INF, NAN], [NAN, NAN]], [1, 100])
    np.testing.assert_allclose(found, [[0, 0], [0, 0], [NAN, NAN]])


def test_a_cost_is_positive() -> None:
    with pytest.raises(ValueError, match="Invalid cost: 0"):
        performance_profile([[0.0, NAN], [1.0, 2.0]], [1])
