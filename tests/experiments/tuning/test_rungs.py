import pytest

from experiments.errors import UserError
from experiments.tuning import rungs
from experiments.tuning.trial_scores import Trial

POINTS = [{"lr": float(number)} for number in range(8)]


def test_halving_keeps_the_better_half_at_each_rung():
    """Eight, four, two: the last two points are those with the largest metric."""
    asked = []

    def evaluate(points, rung):
        asked.append((rung, [point["lr"] for point in points]))
        return [
            Trial(point, "done", point["lr"], 0.0, scores=(point["lr"], 99.0)) for point in points
        ]

    trials = rungs.climb(POINTS, ["quarter", "half", ""], evaluate)
    assert asked == [
        ("quarter", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("half", [4, 5, 6, 7]),
        ("", [6, 7]),
    ]
    assert [trial.status for trial in trials] == ["pruned"] * 6 + ["done"] * 2
    assert [trial.metric for trial in trials] == [None] * 6 + [6.0, 7.0]
    assert [trial.scores for trial in trials] == [(None, None)] * 6 + [(6.0, 99.0), (7.0, 99.0)]
    assert [trial.point for trial in trials] == POINTS


def test_a_trial_that_diverged_is_not_called_pruned():
    def evaluate(points, rung):
        return [
            Trial(point, "diverged") if point["lr"] > 5 else Trial(point, "done", point["lr"], 0.0)
            for point in points
        ]

    trials = rungs.climb(POINTS, ["half", ""], evaluate)
    expected = ["pruned"] * 3 + ["done"] * 3 + ["diverged"] * 2
    assert [trial.status for trial in trials] == expected


def test_nothing_is_left_where_all_diverge():
    trials = rungs.climb(POINTS, ["half", ""], lambda p, _: [Trial(x, "diverged") for x in p])
    assert {trial.status for trial in trials} == {"diverged"}


@pytest.mark.parametrize(
    ("pruner", "budget", "expected"),
    [
        ("none", {"epochs": 1}, [""]),
        ("median", {"epochs": 5}, ["budget.epochs=2", ""]),
        ("halving", {"steps": 40}, ["budget.steps=10", "budget.steps=20", ""]),
        ("median", {"train_seconds": 9.0}, ["budget.train_seconds=4.5", ""]),
        ("none", {"match_seconds": "adafisher"}, [""]),
    ],
)
def test_a_rung_is_a_share_of_the_budget(pruner, budget, expected):
    assert rungs.budgets(pruner, budget) == expected


@pytest.mark.parametrize("budget", [{"epochs": 3}, {"match_seconds": "adafisher"}])
def test_a_budget_that_has_no_share_is_refused(budget):
    with pytest.raises(UserError, match="Invalid pruner: 'halving'"):
        rungs.budgets("halving", budget)
