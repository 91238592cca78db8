import math

import pytest
import yaml

from experiments.errors import UserError
from experiments.tuning import ledger, rungs
from experiments.tuning.space import Dimension
from experiments.tuning.trials import Trial

SPACE = [Dimension("lr", 0.01, 10.0, log=True)]
TRIALS = [
    Trial({"lr": 1.0}, "done", math.exp(470), 470.0, False, "perplexity"),
    Trial({"lr": 0.1}, "done", 9.87654, 2.29, False, "perplexity"),
    Trial({"lr": 0.05}, "done", 12.0, 2.5, False, "perplexity"),
    Trial({"lr": 2.0}, "never finite", None, None, False, "perplexity"),
    Trial({"lr": 5.0}, "diverged", None, None, False, "perplexity"),
    Trial({"lr": 0.02}, "failed"),
]


@pytest.fixture
def effort(make_config):
    config = make_config("optimizer=sgd", "task=tinyshakespeare", "budget=epochs")
    settings = {"space": SPACE, "seeds": [1, 2], "sampler": "sobol", "pruner": "none"}
    return lambda trials, **changes: ledger.effort(config, trials, **settings | changes)


def test_the_effort_counts_every_trial(effort):
    facts = effort(TRIALS)
    assert facts == {
        "trials": 6,
        "seeds": [1, 2],
        "budget": "1 epoch",
        "model": "gpt_tiny",
        "tokenization": "character",
        "space": {"lr": {"low": 0.01, "high": 10.0, "scale": "log"}},
        "sampler": "sobol",
        "pruner": "none",
        "completed": 3,
        "diverged": 2,
        "pruned": 0,
        "failed": 1,
        "chosen": {"lr": 0.1},
        "on_edge": [],
        "spread": {
            "metric": "validation_perplexity",
            "best": 9.8765,
            "median": 12.0,
            "worst": float(f"{math.exp(470):.3e}"),
        },
    }


def test_a_trial_that_failed_does_not_bound_the_best_one(effort):
    """0.02 failed, so that nothing is known below 0.05; 5.0 diverged, which is known."""
    trials = [trial for trial in TRIALS if trial.point["lr"] not in (0.1,)]
    assert effort(trials)["on_edge"] == ["lr"]
    assert effort([*trials, Trial({"lr": 0.03}, "diverged")])["on_edge"] == []


def test_the_file_can_be_read_by_a_person_and_by_hydra(effort):
    facts = effort(TRIALS)
    text = ledger.render("make tune X", TRIALS, facts, task="tinyshakespeare", space=SPACE)
    content = yaml.safe_load(text)
    assert content == {"ruleset": "tuned", "optimizer": {"lr": 0.1}, "tuning": facts}
    assert text.startswith("# @package _global_\n")
    rows = [line.split() for line in text.splitlines() if line.startswith("#   ")]
    assert rows == [
        ["#", "lr", "validation_perplexity", "validation_loss"],
        ["#", "0.02", "failed"],
        ["#", "0.05", "12.0000", "2.50000"],
        ["#", "0.1", "9.8765", "2.29000", "<-", "chosen"],
        ["#", "1", f"{math.exp(470):.3e}", "470.00000"],
        ["#", "2", "never", "finite"],
        ["#", "5", "diverged"],
    ]
    for told in ("make tune X", "3 decades", "1 epoch", "with each seed (seeds 1, 2)", "mean over"):
        assert told in text
    assert "lies on the edge" not in text


def test_an_edge_is_told_in_the_file_and_in_one_line(effort):
    trials = [TRIALS[1], TRIALS[4]]
    facts = effort(trials)
    text = ledger.render("make tune X", trials, facts, task="t", space=SPACE)
    assert text.count("The best lr lies on the edge of its space.") == 1
    (line,) = ledger.warnings("t", "sgd", facts)
    assert line.startswith("warning: sgd on t: The best lr lies on the edge of its space.")
    assert "0.1 of 0.01 to 10.0" in line
    assert ledger.warnings("t", "sgd", effort(TRIALS)) == []


def test_several_hyperparameters_are_columns_of_the_ledger(effort):
    space = [*SPACE, Dimension("normalize", choices=("before", "after"))]
    trials = [
        Trial({"lr": 0.1, "normalize": kind}, "done", metric, 1.0, True, "accuracy_percent")
        for kind, metric in [("after", 90.0), ("before", 80.0)]
    ]
    facts = effort(trials, space=space)
    text = ledger.render("make tune X", trials, facts, task="t", space=space)
    rows = [line.split() for line in text.splitlines() if line.startswith("#   ")]
    assert [row[1:3] for row in rows] == [["lr", "normalize"], ["0.1", "before"], ["0.1", "after"]]
    assert yaml.safe_load(text)["optimizer"] == {"lr": 0.1, "normalize": "after"}
    assert facts["on_edge"] == ["lr"]


def test_pruned_trials_are_told(effort):
    trials = rungs.climb(
        [trial.point for trial in TRIALS[:2]],
        ["half", ""],
        lambda points, _: [Trial(p, "done", p["lr"], 1.0, False, "perplexity") for p in points],
    )
    facts = effort(trials, pruner="median")
    assert (facts["completed"], facts["pruned"], facts["on_edge"]) == (1, 1, ["lr"])
    text = ledger.render("make tune X", trials, facts, task="t", space=SPACE)
    assert "after 1/2 of it (pruner median)" in text


def test_no_value_is_no_choice(effort):
    with pytest.raises(UserError, match="No trial has a finite"):
        effort(TRIALS[3:])
