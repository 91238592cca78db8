import math

import pytest

from experiments.errors import UserError
from experiments.record import Run
from experiments.tuning import trials
from experiments.tuning.trials import Trial

POINT = {"lr": 0.1}


def run(folder, status="done", rows=(), **identity):
    facts = {"metric": "accuracy_percent", "higher_is_better": True, "task": "digits"} | identity
    records = [
        {f"validation_{facts['metric']}": metric, "validation_loss": loss} for metric, loss in rows
    ]
    return Run("r", folder, status, None, facts, rows=records)


def test_the_best_metric_wins_then_the_loss():
    values = [(98.0, 0.3), (99.0, 0.2), (99.0, 0.1), (None, None)]
    higher = [Trial({"lr": i}, "done", *value) for i, value in enumerate(values)]
    lower = [Trial({"lr": i}, "done", *value, False) for i, value in enumerate(values)]
    assert trials.choose(higher) is higher[2]
    assert trials.choose(lower) is lower[0]


def test_nothing_to_choose_from():
    with pytest.raises(UserError, match="No trial has a finite"):
        trials.choose([Trial(POINT, "diverged")])


@pytest.mark.parametrize(
    ("status", "rows", "expected"),
    [
        ("done", [(90.0, 0.5), (95.0, 0.4), (94.0, 0.1)], ("done", 95.0, 0.4)),
        ("done", [(95.0, 0.5), (95.0, 0.4)], ("done", 95.0, 0.4)),
        ("diverged", [(95.0, 0.5)], ("diverged", None, None)),
        ("out_of_memory", [(95.0, 0.5)], ("out_of_memory", None, None)),
        ("done", [(math.nan, 0.5)], ("never finite", None, None)),
        ("done", [(math.inf, 800.0)], ("never finite", None, None)),
    ],
)
def test_a_trial_is_its_best_evaluation(tmp_path, status, rows, expected):
    trial = trials.of_runs(POINT, [run(tmp_path, status, rows)])
    assert (trial.status, trial.metric, trial.loss) == expected
    assert trial.point == POINT


def test_a_trial_of_several_seeds_is_their_mean(tmp_path):
    runs = [run(tmp_path, rows=[(90.0, 0.5)]), run(tmp_path, rows=[(96.0, 0.1), (80.0, 0.0)])]
    trial = trials.of_runs(POINT, runs)
    assert (trial.metric, trial.loss) == (93.0, 0.3)
    assert (trial.measure, trial.higher_is_better) == ("accuracy_percent", True)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["done", "diverged"], "diverged"),
        (["diverged", "failed"], "failed"),
        (["failed", "interrupted"], "interrupted"),
        (["done", None], "failed"),
    ],
)
def test_a_trial_without_one_of_its_seeds_has_no_value(tmp_path, statuses, expected):
    runs = [status and run(tmp_path, status, [(90.0, 0.5)]) for status in statuses]
    trial = trials.of_runs(POINT, runs)
    assert (trial.status, trial.metric) == (expected, None)


def test_the_test_set_is_never_looked_at(tmp_path):
    with pytest.raises(UserError, match="digits has no validation split"):
        trials.of_runs(POINT, [run(tmp_path, rows=[(90.0, 0.5)], validation=False)])


def test_less_is_better_of_a_perplexity(tmp_path):
    told = {"metric": "perplexity", "higher_is_better": False}
    trial = trials.of_runs(POINT, [run(tmp_path, rows=[(20.0, 3.0), (10.0, 2.3)], **told)])
    assert (trial.metric, trial.cost) == (10.0, 10.0)
