"""What a folder of runs comes to in a sentence: never more than its intervals carry."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_rel

from analysis.results.answer import Answer, answer
from analysis.results.leaders import leader_comparisons
from analysis.results.load import load_results
from tests.support.calibrations import made_up

TUNED = {"tuning": {"trials": 8, "seeds": [0]}}


@pytest.fixture
def said(runs_dir: Path) -> Any:
    return lambda: answer(load_results(runs_dir))


@pytest.fixture
def method(write_run: Any) -> Any:
    """Runs of a method, a seed for each final value."""

    def write(name: str, finals: Any, **options: Any) -> None:
        for seed, value in enumerate(finals):
            write_run(name, seed, (value, value), **{**TUNED, **options})

    return write


def one(made: Answer) -> str:
    (sentence,) = made.sentences
    assert made.details == {}
    return sentence


def interval(ours: list[float], theirs: list[float]) -> tuple[str, str]:
    ends = ttest_rel(ours, theirs).confidence_interval(0.95)
    return f"{ends.low:.3g}", f"{ends.high:.3g}"


BEST, NEXT, LAST = [98.0, 98.3, 98.1], [97.0, 97.2, 97.3], [90.0, 91.0, 90.2]


def test_who_is_better_by_how_much_under_which_budget_and_effort(method: Any, said: Any) -> None:
    method("adam", BEST)
    method("sgd", NEXT)
    low, high = interval(BEST, NEXT)
    assert one(said()) == (
        "On digits, adam is better than sgd: test accuracy 98.13 % against 97.17 %, by 0.967 "
        f"points (95 % interval {low} to {high}, n=3); budget 2 epochs; both tuned with 8 trials."
    )


def test_what_is_low_is_better_where_the_metric_says_so(method: Any, said: Any) -> None:
    lower = {"metric": "perplexity", "higher_is_better": False, "units": {"perplexity": ""}}
    method("adam", [10.0, 11.0, 10.5], **lower)
    method("sgd", [14.0, 15.2, 14.4], **lower)
    low, high = interval([14.0, 15.2, 14.4], [10.0, 11.0, 10.5])
    text = "test perplexity 10.5 against 14.53, by 4.03"
    assert f"adam is better than sgd: {text} (95 % interval {low} to {high}, n=3)" in one(said())


def test_the_best_of_many_stands_before_the_next(method: Any, said: Any) -> None:
    method("adam", BEST)
    method("sgd", NEXT)
    method("kfac", LAST)
    sentence = one(said())
    numbers = "test accuracy 98.13 % against 97.17 % of sgd, the next, by 0.967 points"
    assert f"adam is better than each of 2 others: {numbers}" in sentence
    assert sentence.endswith("; all tuned with 8 trials.")


def needed(difference: float, std: float) -> int:
    """Seeds of a paired t-test with a power of 80 %, one by one."""
    for n in range(2, 10_000):
        shift, most = difference / std * np.sqrt(n), t.ppf(0.975, n - 1)
        if nct.sf(most, n - 1, shift) + nct.cdf(-most, n - 1, shift) >= 0.8:
            return n
    raise AssertionError


def test_what_is_not_decided_says_how_many_seeds_in_all_would_find_such_a_lead(
    method: Any, said: Any
) -> None:
    ours, theirs = [98.0, 97.0, 98.6], [97.1, 97.6, 97.5]
    method("adam", ours)
    method("sgd", theirs)
    gains = np.subtract(ours, theirs)
    low, high = interval(ours, theirs)
    seeds = needed(gains.mean(), gains.std(ddof=1))
    assert one(said()) == (
        "On digits, nothing is decided: adam leads with test accuracy 97.87 %, 0.467 points "
        f"ahead of sgd (95 % interval {low} to {high}, n=3); a lead of this size would be "
        f"found, in four of five cases, by about {seeds} seeds in all or more, looked at once (by "
        "stages: `make versus`); budget 2 epochs; both tuned with 8 trials."
    )


def test_of_many_it_counts_whom_the_leader_is_better_than(method: Any, said: Any) -> None:
    method("adam", [98.0, 97.0, 98.6])
    method("sgd", [97.1, 97.6, 97.5])
    method("kfac", [70.0, 69.1, 70.4])
    sentence = one(said())
    assert "nothing is decided: adam leads 3 methods with test accuracy 97.87 %, " in sentence
    assert "; adam is better than 1 of the others;" in sentence


@pytest.mark.parametrize(("more", "who"), [([], "sgd (95 %)"), (["kfac"], "2 other")])
def test_one_seed_says_that_nothing_can_be_compared(
    method: Any, said: Any, more: list[str], who: str
) -> None:
    for name, value in (("adam", 99.0), ("sgd", 95.0), *((name, 50.0) for name in more)):
        method(name, [value], ruleset="default", tuning=None)
    sentence = one(said())
    start = "On digits, nothing can be compared: adam (test accuracy 99 %) and"
    assert sentence.startswith(f"{start} {who}")
    assert "have one seed in common" in sentence
    assert not re.search("better|worse|leads", sentence)
    assert "with the defaults, which nobody tuned." in sentence


def test_one_method_alone_is_not_compared(method: Any, said: Any) -> None:
    method("adam", BEST)
    assert one(said()) == (
        "On digits, nothing can be compared: adam (test accuracy 98.13 %) alone has a result; "
        "budget 2 epochs; tuned with 8 trials."
    )


def test_a_method_that_diverged_is_named(method: Any, said: Any) -> None:
    method("adam", BEST)
    method("sgd", NEXT, status="diverged", reason="nan")
    assert "; every run of sgd diverged;" in one(said())


def test_runs_that_learned_nothing_are_told(method: Any, said: Any) -> None:
    constant = {"units": {"accuracy_percent": "%"}, "summary": {"constant_prediction": 10.0}}
    method("adam", [98.0, 98.3, 10.1], **constant)
    method("sgd", NEXT, **constant)
    sentence = one(said())
    assert "; 1 of the runs of adam learned nothing (collapsed);" in sentence
    assert "runs of sgd" not in sentence


def test_without_a_result_nothing_is_said_of_methods(method: Any, said: Any) -> None:
    method("adam", [1.0], status="failed", reason="gone")
    assert one(said()) == "On digits, no run has a result yet (adam)."


def test_a_metric_that_is_constant_decides_nothing(method: Any, said: Any) -> None:
    method("adam", [95.0] * 3)
    method("sgd", [95.0] * 3)
    assert "adam and sgd are equal in test accuracy, 95 % (n=3); equal differences tell" in one(
        said()
    )


def test_the_same_gap_in_every_seed_decides_nothing(method: Any, said: Any) -> None:
    method("adam", [96.0] * 3)
    method("sgd", [95.0] * 3)
    sentence = one(said())
    assert "nothing is decided" in sentence
    assert ", 1 points ahead of sgd (n=3); equal differences tell no spread" in sentence


def test_unequal_tuning_is_said_and_nobody_called_better(method: Any, said: Any) -> None:
    method("adam", BEST)
    method("sgd", NEXT, ruleset="default", tuning=None)
    sentence = one(said())
    assert "nothing is decided" in sentence
    assert "they were not tuned alike, so that neither is called better" in sentence
    assert sentence.endswith(
        "; adam tuned with 8 trials, sgd with the defaults, which nobody tuned."
    )


def timed(**machine: Any) -> dict[str, Any]:
    facts = {"device": "cpu", "processor": "A", "threads": 4, **machine}
    return {"summary": {"calibration": made_up(machine=facts).summary()}}


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"threads": 1}, "threads 4 against 1"),
        ({"processor": "B", "threads": 1}, "processor A against B, threads 4 against 1"),
    ],
)
def test_equal_time_that_was_measured_apart_decides_nothing(
    method: Any, said: Any, machine: dict[str, Any], told: str
) -> None:
    method("adam", BEST, **timed())
    method("sgd", NEXT, **timed(**machine))
    sentence = one(said())
    assert "nothing is decided: adam leads" in sentence
    assert f"n=3); equal time was measured with {told}; budget" in sentence
    assert "better" not in sentence


def test_equal_time_that_was_measured_on_one_machine_is_compared(method: Any, said: Any) -> None:
    method("adam", BEST, **timed())
    method("sgd", NEXT, **timed())
    assert "adam is better than sgd" in one(said())


def test_a_pruner_is_said_of_the_method_that_had_one(method: Any, said: Any) -> None:
    tuning = {"trials": 8, "seeds": [1, 2], "pruner": "halving"}
    method("adam", BEST)
    method("sgd", NEXT, tuning=tuning)
    assert one(said()).endswith(
        "; adam tuned with 8 trials, sgd tuned with 8 trials of 2 seeds (pruner halving)."
    )


def test_a_tuning_for_another_budget_is_said(method: Any, said: Any) -> None:
    tuning = {"trials": 8, "seeds": [0], "budget": "1 epoch"}
    method("adam", BEST, tuning=tuning)
    method("sgd", NEXT, tuning=tuning)
    assert one(said()).endswith("; budget 2 epochs; both tuned with 8 trials for 1 epoch.")
    method("muon", NEXT, tuning={**tuning, "budget": "2 epochs"})
    assert "muon tuned with 8 trials." in one(said())


def test_effort_that_is_not_known_is_not_called_unequal(method: Any, said: Any) -> None:
    method("adam", BEST, tuning=None)
    method("sgd", NEXT, tuning=None)
    sentence = one(said())
    assert "it is not known whether they were tuned alike, so that neither" in sentence
    assert sentence.endswith("; both with the ruleset tuned, after trials that no record tells.")


def test_a_gap_that_the_correction_takes_back_says_so(method: Any, said: Any) -> None:
    """Of many methods an interval without zero in it need not decide."""
    ours, theirs = [98.0, 98.2, 98.1], [97.9, 98.03, 97.98]
    method("adam", ours)
    method("sgd", theirs)
    method("kfac", [96.0, 98.9, 97.5])
    low, high = interval(ours, theirs)
    assert 0.0167 < ttest_rel(ours, theirs).pvalue < 0.05
    assert one(said()).startswith(
        "On digits, nothing is decided: adam leads 3 methods with test accuracy 98.1 %, 0.13 "
        f"points ahead of sgd (95 % interval {low} to {high}, n=3); this does not hold beside 3 "
        "comparisons; a lead of this size would be found, in four of five cases, by about "
    )


def test_more_blocks_than_three_are_counted_first(method: Any, said: Any) -> None:
    for task in ("a", "b", "c"):
        method("adam", BEST, task=task)
        method("sgd", NEXT, task=task)
    assert len(said().sentences) == 3
    method("adam", [98.0, 97.0, 98.6], task="d")
    method("sgd", [97.1, 97.6, 97.5], task="d")
    method("adam", [98.0], task="e")
    made = said()
    assert made.sentences == (
        "Of 5 tasks and settings, one method is the best in 3 (adam on a; adam on b; adam on c), "
        "nothing is decided in 1, nothing can be compared in 1.",
    )
    assert list(made.details) == ["a", "b", "c", "d", "e"]


def versus(runs_dir: Path, name: str, **facts: Any) -> None:
    folder = runs_dir / ".versus" / name
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(json.dumps(facts))


def test_what_versus_said_stands_first_word_for_word(
    method: Any, said: Any, runs_dir: Path
) -> None:
    method("adam", BEST)
    versus(runs_dir, "one", sentence="adam is better than sgd on digits (...).", void=None)
    versus(runs_dir, "tuned-again", sentence="It was void.", void="tuned again")
    versus(runs_dir, "begun", void=None)
    runs_dir.joinpath(".versus/torn").mkdir()
    runs_dir.joinpath(".versus/torn/verdict.json").write_text("{")
    first, second = said().sentences
    assert first == "adam is better than sgd on digits (...)."
    assert second.startswith("On digits, nothing can be compared")


def test_comparisons_that_share_a_method_say_how_many_they_are(said: Any, runs_dir: Path) -> None:
    for name, ours, theirs, void in (
        ("a", "adam", "sgd", None),
        ("b", "kfac", "sgd", None),
        ("c", "muon", "soap", None),
        ("d", "lion", "sgd", "tuned again"),
    ):
        text = f"{ours} is better than {theirs}."
        versus(runs_dir, name, sentence=text, optimizer=ours, against=theirs, void=void)
    more = "One of 2 comparisons here that share a method: each errs by itself."
    assert said().sentences == (
        f"adam is better than sgd. {more}",
        f"kfac is better than sgd. {more}",
        "muon is better than soap.",
    )


def test_the_leaders_are_compared_once_for_all_that_ask(method: Any, runs_dir: Path) -> None:
    method("adam", BEST)
    method("sgd", NEXT)
    results = load_results(runs_dir)
    assert leader_comparisons(results) is leader_comparisons(results)
    assert leader_comparisons(load_results(runs_dir)) is not leader_comparisons(results)


def test_a_leader_that_is_behind_over_the_common_seeds_says_so(method: Any, said: Any) -> None:
    method("adam", [95.0, 95.2, 99.9, 99.8])
    method("sgd", [95.5, 95.6])
    sentence = one(said())
    assert "adam leads with test accuracy 97.47 %, but not over the seeds of sgd (n=2)" in sentence
    assert "ahead" not in sentence


def test_a_method_without_a_result_leaves_it_open(method: Any, said: Any) -> None:
    method("adam", BEST)
    method("sgd", NEXT)
    method("kfac", [1.0], status="failed", reason="gone")
    sentence = one(said())
    assert "nothing is decided: adam leads 3 methods with test accuracy 98.13 %" in sentence
    assert ", but kfac has no result; adam is better than 1 of the others;" in sentence


def test_a_method_with_a_seed_twice_is_named_and_left_out(
    method: Any, said: Any, write_run: Any
) -> None:
    method("adam", BEST)
    method("sgd", NEXT)
    method("kfac", LAST)
    write_run("kfac", 0, (99.0, 99.0), run_id="again", **TUNED)
    sentence = one(said())
    assert "adam is better than sgd" in sentence
    assert "; left out is kfac, with a seed twice;" in sentence


def test_variants_alone_are_not_compared(method: Any, said: Any) -> None:
    told = {"protocol": {"task": {"name": "digits"}}, "hyperparameters": {"lr": 0.5}}
    origin = {"command": ["optimizer=adam"], "setting": {}, "ruleset_file": None}
    method("adam", BEST, origin={**origin, "typed": {"lr": 0.5}, "experiment": None}, **told)
    assert "hyperparameters that somebody typed" in one(said())


def test_no_runs_say_nothing(said: Any) -> None:
    assert said() == Answer()
