import math

import pytest

from experiments.errors import UserError
from experiments.records.schema import Run
from experiments.tuning import trial_scores
from experiments.tuning.trial_scores import Trial

POINT = {"lr": 0.1}


def run(folder, status="done", rows=(), **identity):
    facts = {"metric": "accuracy_percent", "higher_is_better": True, "task": "digits"} | identity
    records = [
        {f"validation_{facts['metric']}": metric, "validation_loss": loss} for metric, loss in rows
    ]
    progress = {"step": 7 * len(records)}
    return Run("r", folder, status, None, facts, rows=records, progress=progress)


def test_the_best_metric_wins_then_the_loss():
    values = [(98.0, 0.3), (99.0, 0.2), (99.0, 0.1), (None, None)]
    higher = [Trial({"lr": i}, "done", *value) for i, value in enumerate(values)]
    lower = [Trial({"lr": i}, "done", *value, False) for i, value in enumerate(values)]
    assert trial_scores.choose(higher) is higher[2]
    assert trial_scores.choose(lower) is lower[0]


def test_nothing_to_choose_from():
    with pytest.raises(UserError, match="No trial has a finite"):
        trial_scores.choose([Trial(POINT, "diverged")])


@pytest.mark.parametrize(
    ("status", "rows", "expected"),
    [
        ("done", [(90.0, 0.5), (95.0, 0.4), (94.0, 0.1)], ("done", 95.0, 0.4)),
        ("done", [(95.0, 0.5), (95.0, 0.4)], ("done", 95.0, 0.4)),
        ("diverged", [(95.0, 0.5)], ("diverged", None, None)),
        ("out_of_memory", [(95.0, 0.5)], ("out_of_memory", None, None)),
        ("done", [(math.nan, 0.5)], ("never finite", None, None)),
        ("done", [(math.inf, 800.0)], ("never finite", None, None)),
        ("done", [(10.0, math.nan), (9.0, math.inf)], ("never finite", None, None)),
    ],
)
def test_a_trial_is_its_best_evaluation(tmp_path, status, rows, expected):
    trial = trial_scores.of_runs(POINT, [run(tmp_path, status, rows)])
    assert (trial.status, trial.metric, trial.loss) == expected
    assert trial.point == POINT


@pytest.mark.parametrize(("metric", "worst"), [("accuracy_percent", 90.0), ("perplexity", 96.0)])
def test_a_trial_of_several_seeds_is_the_worst_of_them(tmp_path, metric, worst):
    told = {"metric": metric, "higher_is_better": metric == "accuracy_percent"}
    best = (96.0, 0.1) if told["higher_is_better"] else (90.0, 0.1)
    other = (90.0, 0.5) if told["higher_is_better"] else (96.0, 0.5)
    runs = [run(tmp_path, rows=[other], **told), run(tmp_path, rows=[best, (93.0, 0.9)], **told)]
    if metric == "perplexity":
        runs[1].rows[1]["validation_perplexity"] = 99.0  # its best evaluation counts
    else:
        runs[1].rows[1]["validation_accuracy_percent"] = 80.0
    trial = trial_scores.of_runs(POINT, runs)
    assert (trial.metric, trial.loss) == (worst, pytest.approx(0.3))  # the loss is their mean
    assert trial.scores == (other[0], best[0])
    assert trial.steps == 14
    assert (trial.measure, trial.higher_is_better) == (metric, told["higher_is_better"])


def test_a_steady_value_beats_one_that_a_lucky_seed_carries(tmp_path):
    """The trap of one seed: 15.66 and then 26.3 against 15.71 three times."""
    told = {"metric": "perplexity", "higher_is_better": False}

    def trial(lr, *values):
        runs = [run(tmp_path, rows=[(value, math.log(value))], **told) for value in values]
        return trial_scores.of_runs({"lr": lr}, runs)

    lucky, steady = trial(0.0155, 15.66, 26.3, 20.0), trial(0.00099, 15.71, 15.71, 15.71)
    assert trial_scores.choose([lucky, steady]) is steady


def test_equal_scores_are_decided_by_the_mean_loss(tmp_path):
    def trial(lr, *losses):
        return trial_scores.of_runs(
            {"lr": lr}, [run(tmp_path, rows=[(95.0, loss)]) for loss in losses]
        )

    first, second, third = trial(1, 0.1, 0.5), trial(2, 0.2, 0.3), trial(3, 0.3, 0.2)
    assert trial_scores.choose([first, second, third]) is second  # the earliest of equals


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
    trial = trial_scores.of_runs(POINT, runs)
    assert (trial.status, trial.metric, trial.loss) == (expected, None, None)
    assert trial.scores == tuple(90.0 if status == "done" else None for status in statuses)
    assert trial_scores.choose(
        [trial, trial_scores.of_runs(POINT, [run(tmp_path, rows=[(1.0, 9.0)])])]
    ).metric


def test_the_test_set_is_never_looked_at(tmp_path):
    with pytest.raises(UserError, match="digits has no validation split"):
        trial_scores.of_runs(POINT, [run(tmp_path, rows=[(90.0, 0.5)], validation=False)])
    both = run(tmp_path, rows=[(90.0, 0.5), (80.0, 0.6)])
    for row, on_test in zip(both.rows, (70.0, 99.0), strict=True):
        row |= {"test_accuracy_percent": on_test, "test_loss": 1 - on_test / 100}
    trial = trial_scores.of_runs(POINT, [both])
    assert (trial.metric, trial.loss) == (90.0, 0.5)


def test_less_is_better_of_a_perplexity(tmp_path):
    told = {"metric": "perplexity", "higher_is_better": False}
    trial = trial_scores.of_runs(POINT, [run(tmp_path, rows=[(20.0, 3.0), (10.0, 2.3)], **told)])
    assert (trial.metric, trial.cost) == (10.0, 10.0)


def test_the_mean_of_the_seeds_where_it_is_asked_for(tmp_path):
    runs = [run(tmp_path, rows=[(value, 0.1)]) for value in (90.0, 96.0)]
    trial = trial_scores.of_runs(POINT, runs, score="mean")
    assert (trial.metric, trial.scores) == (93.0, (90.0, 96.0))
    ended = trial_scores.of_runs(POINT, [*runs, run(tmp_path, "diverged")], score="mean")
    assert (ended.status, ended.metric) == ("diverged", None)  # and so behind all that did not


def test_the_loss_decides_where_it_is_asked_for(tmp_path):
    """Four rates tie at 98.96 % of 96 images; their losses do not, nor at the best evaluation."""
    tied = [
        trial_scores.of_runs(
            {"lr": lr},
            [run(tmp_path, rows=[(98.96, loss), (90.0, loss / 2)]) for loss in losses],
            choose="loss",
        )
        for lr, losses in ((0.1, (0.06, 0.08)), (0.2, (0.04, 0.12)), (0.3, (0.08, 0.07)))
    ]
    assert [trial.metric for trial in tied] == [0.04, 0.06, 0.04]  # worst seed, its least loss
    assert trial_scores.choose(tied) is tied[0]  # then by the mean
    assert {(trial.measure, trial.higher_is_better) for trial in tied} == {("loss", False)}
    by_metric = trial_scores.of_runs(POINT, [run(tmp_path, rows=[(98.96, 0.06), (90.0, 0.03)])])
    assert (by_metric.metric, by_metric.loss) == (98.96, 0.06)
