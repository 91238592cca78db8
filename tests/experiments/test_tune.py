import math

import pytest

from experiments import tune
from experiments.errors import UserError
from experiments.record import Run
from experiments.tune import Trial

SPACE = {"low": 1e-4, "high": 1e-1}


def test_points_fill_the_space_evenly():
    """A scrambled Sobol' set of 2^m points has one in each of 2^m equal cells."""
    values = tune.points(SPACE, 8)
    positions = sorted(math.log(value / 1e-4) / math.log(1000) for value in values)
    assert [int(position * 8) for position in positions] == list(range(8))


def test_every_method_gets_the_same_points_of_its_space():
    other = {"low": 1.0, "high": 1000.0}
    ratios = [b / a for a, b in zip(tune.points(SPACE, 8), tune.points(other, 8), strict=True)]
    assert ratios == pytest.approx([1e4] * 8, rel=0.02)


def test_more_trials_begin_with_the_same_points():
    assert tune.points(SPACE, 16)[:8] == tune.points(SPACE, 8)


def test_the_best_metric_wins_then_the_loss():
    trials = [
        Trial(0.1, "done", 98.0, 0.3),
        Trial(0.2, "done", 99.0, 0.2),
        Trial(0.3, "done", 99.0, 0.1),
        Trial(0.4, "diverged", None, None),
    ]
    assert tune.choose(trials, higher_is_better=True) is trials[2]
    assert tune.choose(trials, higher_is_better=False) is trials[0]


def test_nothing_to_choose_from():
    with pytest.raises(UserError, match="No trial has a finite"):
        tune.choose([Trial(0.1, "diverged", None, None)], higher_is_better=True)


def test_the_edge_is_what_was_tried():
    trials = [Trial(value, "done", 1.0, 1.0) for value in (0.2, 0.1, 0.3)]
    assert [tune.on_edge(trial, trials) for trial in trials] == [False, True, True]


@pytest.mark.parametrize(
    ("status", "rows", "expected"),
    [
        ("done", [(90.0, 0.5), (95.0, 0.4), (94.0, 0.1)], (95.0, 0.4)),
        ("done", [(95.0, 0.5), (95.0, 0.4)], (95.0, 0.4)),
        ("diverged", [(95.0, 0.5)], (None, None)),
        ("done", [(math.nan, 0.5)], (None, None)),
    ],
)
def test_a_trial_is_its_best_evaluation(tmp_path, status, rows, expected):
    identity = {"metric": "accuracy_percent", "higher_is_better": True}
    records = [{"validation_accuracy_percent": a, "validation_loss": b} for a, b in rows]
    trial = tune.result(Run("r", tmp_path, status, None, identity, rows=records), 0.1)
    assert (trial.metric, trial.loss) == expected


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["task=digits"], "Missing argument: optimizer"),
        (["optimizer=adam", "task=digits", "trials=0"], "Invalid trials: '0'"),
        (["optimizer=adam", "task=digits", "trials=few"], "Invalid trials: 'few'"),
        (["optimizer=adamm", "task=digits"], "Unknown optimizer: 'adamm'"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, arguments, line):
    monkeypatch.setattr("sys.argv", ["tune", *arguments])
    with pytest.raises(SystemExit) as ended:
        tune.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {line}")
    assert told.count("\n") == 1


def test_a_small_tuning_writes_the_best_of_its_trials(tmp_path, monkeypatch):
    import yaml

    from experiments import commandline

    (tmp_path / "conf").mkdir()
    written = []
    monkeypatch.setattr(
        tune, "write_atomic", lambda path, content: written.append((path, content.decode()))
    )
    overrides = [f"runs_dir={tmp_path}", "budget=steps", "budget.steps=30"]
    path = tune.tune("sgd", "digits", 2, overrides)
    assert path == commandline.CONF / "tuned" / "digits" / "sgd.yaml"
    ((_, text),) = written
    content = yaml.safe_load(text)
    assert content["ruleset"] == "tuned"
    assert content["optimizer"]["lr"] in tune.points({"low": 3.0e-3, "high": 3.0}, 2)
    assert text.count("<- chosen") == 1
    assert "it lies on the edge" in text


def test_the_ledger_of_a_method_that_blew_up_can_be_read(make_config):
    config = make_config("optimizer=sgd", "task=tinyshakespeare")
    trials = [
        Trial(0.1, "done", 9.87654, 2.29),
        Trial(1.0, "done", math.exp(470), 470.0),
        Trial(2.0, "never finite", None, None),
    ]
    text = tune._render(config, trials, metric="perplexity", higher_is_better=False)
    rows = [line.split() for line in text.splitlines() if line.startswith("#   ")][1:]
    assert [row[:3] for row in rows] == [
        ["#", "0.1", "9.8765"],
        ["#", "1", f"{math.exp(470):.3e}"],
        ["#", "2", "never"],
    ]


def test_a_trial_that_ended_without_a_finite_value_does_not_pass_for_done(tmp_path):
    identity = {"metric": "perplexity", "higher_is_better": False}
    rows = [{"validation_perplexity": math.inf, "validation_loss": 800.0}]
    run = Run("r", tmp_path, "done", None, identity, rows=rows)
    assert tune.result(run, 0.1).status == "never finite"
