import numpy as np
import pytest

from analysis.profiles import cost_to_target, improvement_percent, performance_profile

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


def curve(*y: float) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1.0, 1 + len(y)), np.array(y)


@pytest.mark.parametrize(
    ("curves", "runs", "higher", "cost"),
    [
        ([curve(80, 90, 95)], 1, True, 2),
        ([curve(90, 80, 95)], 1, True, 1),  # the first time, whatever comes after
        ([curve(12, NAN, 90)], 1, False, 1),
        ([curve(80, 85)], 1, True, INF),
        ([curve(90), curve(80, 90), curve(1, 2, 90)], 3, True, 2),
        ([curve(90), curve(80, 90)], 3, True, 2),  # the third run has no curve
        ([curve(90), curve(80)], 2, True, INF),  # half of them is not enough
        ([], 2, True, INF),
        ([], 0, True, NAN),
    ],
)
def test_cost_to_a_target_of_90(
    curves: list[tuple[np.ndarray, np.ndarray]], runs: int, higher: bool, cost: float
) -> None:
    found = cost_to_target(curves, 90, runs=runs, higher_is_better=higher)
    assert found == pytest.approx(cost, nan_ok=True)


@pytest.mark.parametrize(
    ("result", "reference", "metric", "higher", "percent"),
    [
        (98, 96, "accuracy_percent", True, 50),  # half the errors
        (94, 96, "accuracy_percent", True, -50),
        (60, 80, "perplexity", False, 25),
        (100, 80, "perplexity", False, -25),
        (0.6, 0.5, "score", True, 20),
        (-4, -5, "score", True, 20),
        (99, 100, "accuracy_percent", True, NAN),
    ],
)
def test_improvement(
    result: float, reference: float, metric: str, higher: bool, percent: float
) -> None:
    found = improvement_percent(result, reference, metric=metric, higher_is_better=higher)
    assert found == pytest.approx(percent, nan_ok=True)
