import math

import pytest
import yaml

from experiments.errors import UserError
from experiments.tuning import ledger, rungs, tuned_file
from experiments.tuning.options import TuneOptions
from experiments.tuning.space import Dimension
from experiments.tuning.trial_scores import Trial

SPACE = [Dimension("lr", 0.01, 10.0, log=True)]


def trial(lr, status, metric=None, loss=None, scores=(), stage="coarse"):
    return Trial({"lr": lr}, status, metric, loss, False, "perplexity", scores, 60, stage)


TRIALS = [
    trial(1.0, "done", math.exp(470), 470.0, (math.exp(460), math.exp(470))),
    trial(0.1, "done", 9.87654, 2.29, (9.87654, 9.5), "fine"),
    trial(0.05, "done", 12.0, 2.5, (12.0, 11.0), "fine"),
    trial(2.0, "never finite", scores=(9.0, None)),
    trial(5.0, "diverged", scores=(None, 20.0)),
    trial(0.02, "failed", scores=(None, None)),
]


@pytest.fixture
def effort(make_config):
    config = make_config("optimizer=sgd", "task=tinyshakespeare", "budget=epochs")

    def of(trials, *, space=SPACE, **changes):
        asked = TuneOptions(**{"seeds": (1001, 1002), "sampler": "sobol", **changes})
        setting = {"model.width": 8}
        return ledger.effort(config, trials, setting=setting, space=space, options=asked)

    return of


def test_the_effort_counts_every_trial(effort):
    facts = effort(TRIALS)
    assert facts == {
        "trials": 6,
        "seeds": [1001, 1002],
        "score": "worst seed",
        "choose": "metric",
        "budget": "1 epoch",
        "steps": 60,
        "model": "gpt_tiny",
        "tokenization": "character",
        "setting": {"model.width": 8},
        "sha256": {},
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


def render(trials, facts, space=SPACE):
    return ledger.render("make tune X", trials, facts, space=space)


def test_the_ledger_is_data(effort):
    """Every trial in the order of its values, with all digits of what was measured."""
    facts = effort(TRIALS)
    content = yaml.safe_load(render(TRIALS, facts))
    assert list(content) == ["ledger", "command", "tuning", "trials"]
    assert (content["ledger"], content["command"]) == (ledger.VERSION, "make tune X")
    assert content["tuning"] == facts
    assert [one["values"] for one in content["trials"]] == [
        {"lr": value} for value in (0.02, 0.05, 0.1, 1.0, 2.0, 5.0)
    ]
    assert content["trials"][2] == {
        "stage": "fine",
        "state": "done",
        "values": {"lr": 0.1},
        "scores": [9.87654, 9.5],
        "score": 9.87654,
        "loss": 2.29,
    }
    assert content["trials"][3]["scores"] == [math.exp(460), math.exp(470)]
    assert content["trials"][5] == {
        "stage": "coarse",
        "state": "diverged",
        "values": {"lr": 5.0},
        "scores": [None, 20.0],
        "score": None,
        "loss": None,
    }


def test_a_trial_is_a_line_of_the_ledger(effort):
    lines = render(TRIALS, effort(TRIALS)).splitlines()
    assert sum(line.startswith("- {") for line in lines) == len(TRIALS)
    assert lines[-1].startswith("- {")


def test_the_tuned_file_holds_the_choice_and_no_trials(effort):
    facts = effort(TRIALS)
    text = tuned_file.render("make tune X", facts, name="sgd", task="shakespeare", space=SPACE)
    content = yaml.safe_load(text)
    assert content == {"ruleset": "tuned", "optimizer": {"lr": 0.1}, "tuning": facts}
    assert text.startswith("# @package _global_\n")
    for told in ("make tune X", "3 decades", "1 epoch", "each seed (1001, 1002)", "(worst seed)"):
        assert told in text
    assert "All trials are in ledgers/sgd.yaml." in text
    assert "at the end of what was tried" not in text


def test_an_edge_is_told_in_the_file(effort):
    facts = effort([TRIALS[1], TRIALS[4]])
    text = tuned_file.render("make tune X", facts, name="sgd", task="t", space=SPACE)
    assert text.count("The best lr is at the end of what was tried.") == 1


def test_failed_trials_are_told_in_the_file(effort):
    facts = effort(TRIALS)
    text = tuned_file.render("make tune X", facts, name="sgd", task="t", space=SPACE)
    (told,) = tuned_file.remarks(facts)
    assert told.startswith("1 of 6 trials failed: ")
    assert text.count(told) == 1
    assert tuned_file.remarks(effort(TRIALS[:-1])) == []


def test_several_hyperparameters_are_values_of_a_trial(effort):
    space = [*SPACE, Dimension("normalize", choices=("before", "after"))]
    trials = [
        Trial({"lr": 0.1, "normalize": kind}, "done", metric, 1.0, True, "accuracy_percent")
        for kind, metric in [("after", 90.0), ("before", 80.0)]
    ]
    facts = effort(trials, space=space)
    content = yaml.safe_load(render(trials, facts, space))
    assert [one["values"]["normalize"] for one in content["trials"]] == ["before", "after"]
    assert facts["chosen"] == {"lr": 0.1, "normalize": "after"}
    assert facts["on_edge"] == ["lr"]


def test_a_line_shows_the_values_and_the_score_on_validation():
    line = ledger.line(TRIALS[1], name="sgd on t")
    assert line == (
        "sgd on t, lr=0.1: validation perplexity 9.8765, loss 2.29 (seeds: 9.8765, 9.5000)"
    )
    assert ledger.line(TRIALS[4], name="sgd on t") == (
        "sgd on t, lr=5.0: diverged (seeds: none, 20.0000)"
    )
    one = Trial({"lr": 0.1, "beta": 0.9}, "done", 98.0, 0.1, True, "accuracy_percent", (98.0,))
    assert ledger.line(one, name="x").endswith(
        "lr=0.1, beta=0.9: validation accuracy_percent 98.0000, loss 0.1"
    )


def test_pruned_trials_are_told(effort):
    trials = rungs.climb(
        [trial.point for trial in TRIALS[:2]],
        ["half", ""],
        lambda points, _: [Trial(p, "done", p["lr"], 1.0, False, "perplexity") for p in points],
    )
    facts = effort(trials, pruner="median")
    assert (facts["completed"], facts["pruned"], facts["on_edge"]) == (1, 1, ["lr"])
    text = tuned_file.render("make tune X", facts, name="sgd", task="t", space=SPACE)
    assert "after 1/2 of it (pruner median)" in text


def test_no_value_is_no_choice(effort):
    with pytest.raises(UserError, match="No trial has a finite"):
        effort(TRIALS[3:])


def test_what_was_judged_by_the_loss_says_so(effort):
    trials = [
        Trial({"lr": lr}, "done", loss, loss, False, "loss", (loss, loss), 60)
        for lr, loss in ((0.1, 0.51234567), (0.2, 0.0123456), (0.3, 0.7))
    ]
    facts = effort(trials, choose="loss", score="mean")
    assert (facts["choose"], facts["score"]) == ("loss", "mean over seeds")
    assert facts["spread"] == {
        "metric": "validation_loss",
        "best": 0.01235,
        "median": 0.5123,
        "worst": 0.7,
    }
    text = tuned_file.render("make tune X", facts, name="sgd", task="t", space=SPACE)
    assert "# best by validation loss (mean over seeds), then by mean validation loss." in text
    written = ledger.render("make tune X", trials, facts, space=SPACE)
    assert "`score` is validation_loss (mean over seeds)" in written
    assert yaml.safe_load(written)["tuning"]["choose"] == "loss"
