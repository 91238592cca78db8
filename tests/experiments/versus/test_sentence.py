"""One sentence, from the record of a comparison."""

import pytest

from experiments.records.verdict import BETTER, UNDECIDED, WITHIN, WORSE
from experiments.versus.sentence import beside, sentence

LOOK = {"n": 5, "difference": 1.25, "std": 0.5, "z": 3.0, "bound": 2.9, "low": 0.1, "high": 2.4}
RESULT = {
    "verdict": BETTER,
    "final": True,
    "reason": "",
    "n": 5,
    "metric": "accuracy_percent",
    "higher_is_better": True,
    "ours": 98.25,
    "theirs": 97.0,
    "looks": [LOOK],
    "p_corrected": 0.0123,
    "level": 0.95,
    "seeds_needed": None,
    "speed_up": {
        "metric": "validation_accuracy_percent",
        "target": 97.5,
        "bound": "exact",
        "value": 1.4,
        "low": 1.1,
        "high": 1.8,
    },
    "cost_ratio": 1.21,
    "equal_epochs": {"n": 5, "ours": 98.5, "theirs": 97.0},
}
SIDES = {
    "ours": {"hyperparameters": {"lr": 0.03}, "effort": {"trials": 16}},
    "theirs": {"hyperparameters": {"lr": 0.001}, "effort": {"trials": 32, "failed": 2}},
}


def record(results, **changes):
    facts = {"optimizer": "x", "against": "adamw", "margin": 0.5, "after": []}
    return {**facts, "frozen": dict.fromkeys(results, SIDES), "results": results, **changes}


def test_it_names_interval_speed_up_cost_and_what_the_claim_is_about():
    said = sentence(record({"digits": RESULT}))
    assert said == (
        "x is better than adamw on digits (test accuracy in % 98.25 against 97 in the same "
        "training time; mean paired difference +1.25; 95 % interval over all looks +0.1 to +2.4; "
        "n=5 of at most 10, p=0.012; 1.4 times as fast (1.1 to 1.8) to validation accuracy in % "
        "97.5; a step costs 1.21 times as much; lr=0.03 of 16 trials against lr=0.001 of 32 "
        "trials, 2 of which failed; no more seeds are needed); this is said of the two "
        "configurations as tuned here, frozen before the first result seed."
    )
    made = {"n": 5, "ours": None, "theirs": 97.0, "lost": {"ours": "2 of 5 diverged", "theirs": ""}}
    (line,) = beside(record({"digits": {**RESULT, "equal_epochs": made}}))
    assert line.endswith(" on digits: test accuracy in % 2 of 5 diverged against 97 (n=5)")
    assert beside(record({"digits": RESULT})) == [
        "without a verdict, for as many epochs on digits: test accuracy in % 98.5 against 97 (n=5)"
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"verdict": WORSE}, "x is not better than adamw but worse on digits ("),
        (
            {"verdict": WITHIN},
            "x is not better than adamw, from which it differs by less than 0.5 on",
        ),
        (
            {"verdict": UNDECIDED, "n": 10, "seeds_needed": 34},
            "takes about 34 seeds, in a comparison",
        ),
        (
            {"verdict": UNDECIDED, "n": 10, "seeds_needed": 7},
            "takes about 11 seeds, in a comparison",
        ),
        ({"verdict": UNDECIDED, "n": 10}, "no affordable number of seeds would tell"),
        ({"verdict": UNDECIDED, "final": False}, "up to 5 more seeds may tell"),
        ({"p_corrected": 1e-12}, ", p<1e-6; "),
        ({"looks": [], "p_corrected": None, "reason": "ours: 1 of 3 diverged"}, "; ours: 1 of 3"),
        (
            {"speed_up": {**RESULT["speed_up"], "bound": "at least", "low": None}},
            "; at least 1.4 times",
        ),
        (
            {"speed_up": {**RESULT["speed_up"], "value": None, "bound": "unknown"}},
            "; neither reaches the target;",
        ),
        (
            {"speed_up": {**RESULT["speed_up"], "value": None, "bound": "at most"}},
            "; the other one alone reaches the target;",
        ),
        (
            {"speed_up": {**RESULT["speed_up"], "value": None, "bound": "at once"}},
            "; it is at the target from the start;",
        ),
    ],
)
def test_every_way_to_end_has_its_words(changes, text):
    assert text in sentence(record({"digits": {**RESULT, **changes}}))


def test_where_less_is_better_the_difference_is_that_of_the_metric():
    said = sentence(record({"ptb": {**RESULT, "metric": "perplexity", "higher_is_better": False}}))
    assert "mean paired difference -1.25; 95 % interval over all looks -2.4 to -0.1" in said


def test_several_tasks_are_one_sentence():
    results = {"digits": RESULT, "ptb": {**RESULT, "verdict": UNDECIDED}}
    said = sentence(record(results, after=["adam-sgd-1"]))
    assert "x is better than adamw on digits (" in said
    assert "; x against adamw is undecided on ptb (" in said
    assert ", with Holm's correction for 2 tasks; this is said" in said
    assert said.endswith("after 1 earlier comparison that a tuning made void.")
    assert said.count(". ") == 0
    said = sentence(record(results, beside=["adam-sgd-2", "adam-sgd-3"]))
    assert said.endswith("beside 2 other comparisons on some of these tasks.")
