import math
from typing import Any

import pandas as pd
import pytest
import scipy.stats

from analysis.statistics.compare import Comparison, compare, compare_runs, corrected
from analysis.statistics.effort import Effort, effort_of, insufficient
from analysis.statistics.power import seeds_needed

BASE = {0: 90.0, 1: 91.0, 2: 89.0, 3: 90.5, 4: 90.2, 5: 89.9}
AHEAD = {seed: value + 1 + seed / 10 for seed, value in BASE.items()}


def runs(values: dict[int, float], **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"seed": list(values), "final": list(values.values())})
    for name, value in {
        "status": "done",
        "ruleset": "paper",
        "tuning": None,
        "higher_is_better": True,
        **columns,
    }.items():
        frame[name] = [value] * len(frame)
    return frame


def of(outcome: Comparison) -> str:
    return outcome.outcome


def test_one_seed_is_inconclusive_however_far_apart() -> None:
    made = compare({0: 99.0}, {0: 1.0}, higher_is_better=True)
    assert (made.outcome, made.n, made.p, made.low) == ("inconclusive", 1, None, None)
    assert made.more_seeds == 1
    assert str(made).startswith("inconclusive (at least 2 seeds in all)")


def test_no_common_seed_is_inconclusive() -> None:
    made = compare({0: 99.0}, {1: 1.0}, higher_is_better=True)
    assert (made.outcome, made.n, made.difference) == ("inconclusive", 0, None)


def test_both_directions() -> None:
    assert of(compare(AHEAD, BASE, higher_is_better=True)) == "better"
    assert of(compare(BASE, AHEAD, higher_is_better=True)) == "worse"
    assert of(compare(AHEAD, BASE, higher_is_better=False)) == "worse"
    assert of(compare(BASE, AHEAD, higher_is_better=False)) == "better"


def test_the_interval_is_students_of_the_differences() -> None:
    made = compare(AHEAD, BASE, higher_is_better=True, level=0.9)
    differences = [AHEAD[seed] - BASE[seed] for seed in BASE]
    mean = sum(differences) / 6
    expected = scipy.stats.t.interval(0.9, 5, mean, scipy.stats.sem(differences))
    assert (made.low, made.high) == pytest.approx(expected)
    theirs = list(BASE.values())
    assert made.p == pytest.approx(scipy.stats.ttest_rel(list(AHEAD.values()), theirs).pvalue)
    assert "n=6" in str(made)
    assert "90 % Student t" in str(made)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_equal_differences_decide_nothing_whatever_n(n: int) -> None:
    # One image of 359 in each seed: the differences are one number up to their last bits.
    theirs = {seed: 100.0 * (340 + seed % 7) / 359 for seed in range(n)}
    ours = {seed: 100.0 * (341 + seed % 7) / 359 for seed in range(n)}
    made = compare(ours, theirs, higher_is_better=True)
    assert (made.outcome, made.p, made.low, made.std) == ("inconclusive", None, None, 0.0)
    assert made.difference == pytest.approx(100 / 359)
    assert (made.reason, made.more_seeds) == ("all differences are equal", None)
    assert of(compare(ours, ours, higher_is_better=True)) == "inconclusive"
    # One more image in one seed is a spread.
    ours[0] = 100.0 * 342 / 359
    assert compare(ours, theirs, higher_is_better=True).p is not None


def test_a_difference_within_the_noise_is_inconclusive() -> None:
    ours = {seed: value + (0.1 if seed % 2 else -0.09) for seed, value in BASE.items()}
    made = compare(ours, BASE, higher_is_better=True)
    assert made.outcome == "inconclusive"
    assert made.more_seeds is not None
    assert made.more_seeds > 100


def test_no_text_asks_for_more_seeds_on_top_of_those_that_decided_nothing() -> None:
    made = compare(
        {0: 91.0, 1: 92.0, 2: 93.0}, dict.fromkeys(range(3), 90.0), higher_is_better=True
    )
    needed = seeds_needed(2.0, 1.0)
    assert made.seeds == f"about {needed} seeds in all"
    assert str(made).startswith(f"inconclusive (about {needed} seeds in all);")
    assert compare(AHEAD, BASE, higher_is_better=True).seeds == ""


def test_unequal_effort_refuses_better_unless_told_so() -> None:
    ours = runs(AHEAD, ruleset="tuned", tuning={"trials": 32, "seeds": 1})
    theirs = runs(BASE, ruleset="tuned", tuning={"trials": 8, "seeds": 1})
    made = compare_runs(ours, theirs)
    assert made.outcome == "unequal tuning effort"
    assert "32 trials against tuned, 8 trials" in str(made)
    assert of(compare_runs(theirs, ours)) == "unequal tuning effort"
    # Who lost with more trials has lost.
    swapped = ours.assign(tuning=theirs["tuning"]), theirs.assign(tuning=ours["tuning"])
    assert of(compare_runs(*swapped)) == "better"
    assert of(compare_runs(*swapped[::-1])) == "worse"
    assert of(compare_runs(ours, theirs, allow_unequal=True)) == "better"
    assert of(compare_runs(ours, theirs.assign(tuning=ours["tuning"]))) == "better"
    # One seed settles nothing in the first place.
    assert of(compare_runs(ours.head(1), theirs.head(1))) == "inconclusive"


EFFORTS = {
    "same trials": (Effort("tuned", 8, 1), Effort("tuned", 8, 1), True),
    "more behind the loser": (Effort("tuned", 8, 1), Effort("tuned", 9, 1), True),
    "more behind the winner": (Effort("tuned", 9, 1), Effort("tuned", 8, 1), False),
    "more seeds behind the loser": (Effort("tuned", 8, 1), Effort("tuned", 8, 3), True),
    "more seeds behind the winner": (Effort("tuned", 8, 3), Effort("tuned", 8, 1), False),
    "more of one, less of the other": (Effort("tuned", 8, 1), Effort("tuned", 4, 3), False),
    "loser unknown": (Effort("tuned", 8, 1), Effort("tuned", None), False),
    "both unknown": (Effort("tuned", None), Effort("tuned", None), False),
    "both as published": (Effort("paper", 0), Effort("paper", 0), True),
    "as long, in words": (Effort("tuned", 8, length="9 steps"), Effort("tuned", 8), True),
    "longer trials": (
        Effort("tuned", 8, length="9 steps"),
        Effort("tuned", 16, length="2 steps"),
        False,
    ),
    "whole trials against pruned ones": (
        Effort("tuned", 16, 3),
        Effort("tuned", 16, 3, pruner="halving"),
        False,
    ),
    "pruned trials against whole ones": (
        Effort("tuned", 16, 3, pruner="halving"),
        Effort("tuned", 16, 3),
        False,
    ),
    "two pruners": (
        Effort("tuned", 8, 3, pruner="median"),
        Effort("tuned", 16, 3, pruner="halving"),
        False,
    ),
    "one pruner": (
        Effort("tuned", 8, 3, pruner="median"),
        Effort("tuned", 16, 3, pruner="median"),
        True,
    ),
    "default over pruned": (Effort("default", 0), Effort("tuned", 8, 3, pruner="median"), True),
    "tuned over default": (Effort("tuned", 8), Effort("default", 0), False),
    "default over tuned": (Effort("default", 0), Effort("tuned", 8), True),
    "as published over default": (Effort("paper", 0), Effort("default", 0), False),
    "default over as published": (Effort("default", 0), Effort("paper", 0), False),
}


@pytest.mark.parametrize(("winner", "loser", "enough"), EFFORTS.values(), ids=list(EFFORTS))
def test_efforts(winner: Effort, loser: Effort, enough: bool) -> None:
    assert (insufficient(winner, loser) == "") is enough


def test_effort_is_read_off_the_runs() -> None:
    tuned = runs(BASE, ruleset="tuned", tuning={"trials": 8, "seeds": 2})
    assert effort_of(tuned) == Effort("tuned", 8, 2)
    assert effort_of(runs(BASE, ruleset="tuned")) == Effort("tuned", None)
    assert effort_of(runs(BASE, ruleset="default")) == Effort("default", 0)
    mixed = pd.concat([tuned, runs(BASE, ruleset="tuned", tuning={"trials": 9})])
    assert effort_of(mixed).trials is None
    assert str(effort_of(tuned)) == "tuned, 8 trials of 2 seeds"
    wide = {"budget": "9 steps", "setting": {"model.width": 8, "budget.steps": 9}}
    told = runs(BASE, ruleset="tuned", tuning={"trials": 8, "seeds": 2, **wide})
    assert effort_of(told).length == "9 steps, model.width=8"
    several = effort_of(pd.concat([told, tuned]))  # of two tasks, say
    assert (several.count, several.length) == ("8 x 2 seeds", "")


def test_trials_that_failed_are_no_effort() -> None:
    """Those that diverged are: they say that the rate is too high, and not that a disk was full."""
    tuning = {"trials": 16, "seeds": 3, "completed": 16, "diverged": 0, "failed": 0}
    ours = runs(AHEAD, ruleset="tuned", tuning=tuning)
    failed = {**tuning, "completed": 1, "failed": 15}
    theirs = runs(BASE, ruleset="tuned", tuning=failed)
    assert effort_of(theirs) == Effort("tuned", 1, 3)
    assert (
        insufficient(effort_of(ours), effort_of(theirs))
        == "tuned, 16 trials of 3 seeds against tuned, 1 trial of 3 seeds"
    )
    assert compare_runs(ours, theirs).outcome == "unequal tuning effort"
    diverged = theirs.assign(tuning=[{**failed, "failed": 0, "diverged": 15}] * len(theirs))
    assert of(compare_runs(ours, diverged)) == "better"


def test_a_tuning_that_stopped_trials_early_is_another_effort() -> None:
    tuning = {"trials": 16, "seeds": 3, "budget": "20 epochs", "pruner": "none"}
    ours = runs(AHEAD, ruleset="tuned", tuning=tuning)
    theirs = runs(BASE, ruleset="tuned", tuning={**tuning, "pruner": "halving", "pruned": 12})
    assert str(effort_of(ours)) == "tuned, 16 trials of 3 seeds"
    assert str(effort_of(theirs)) == "tuned, 16 trials of 3 seeds, pruner halving"
    assert effort_of(theirs).count == "16 x 3 seeds, pruner halving"
    assert compare_runs(ours, theirs).outcome == "unequal tuning effort"
    assert compare_runs(ours, theirs.assign(tuning=ours["tuning"])).outcome == "better"


def test_a_method_that_diverged_is_not_better_on_the_seeds_that_are_left() -> None:
    ours = runs({**AHEAD, 6: 10.0})
    ours.loc[ours["seed"] == 6, "status"] = "diverged"
    made = compare_runs(ours, runs({**BASE, 6: 90.0}))
    assert (made.outcome, made.n, made.reason) == ("inconclusive", 6, "diverged 1/7")
    # Nor does a correction make it so; that the other method diverged does not help it either.
    assert of(corrected([made])[0]) == "inconclusive"
    assert of(compare_runs(runs({**AHEAD, 6: 91.0}), runs(BASE))) == "better"


def test_a_method_with_a_result_that_is_not_finite_is_not_better_either() -> None:
    ours = runs({**AHEAD, 6: math.nan})
    made = compare_runs(ours, runs({**BASE, 6: 90.0}))
    assert (made.outcome, made.n, made.reason) == ("inconclusive", 6, "not finite 1/7")
    assert of(compare_runs(runs({**AHEAD, 6: 91.0}), runs({**BASE, 6: math.inf}))) == "better"


def test_a_seed_that_is_there_twice_is_refused() -> None:
    twice = pd.concat([runs(AHEAD), runs(AHEAD)])
    with pytest.raises(ValueError, match="a seed twice"):
        compare_runs(twice, runs(BASE))


def test_the_correction_takes_back_what_a_single_test_found() -> None:
    # By hand: differences 1, 2, 3 have the mean 2 and t = 2 sqrt(3), so that p = 0.0742; of
    # 2, 3, 4 it is t = 3 sqrt(3) and p = 0.0351, which Holm's correction for two doubles.
    base = {0: 90.0, 1: 90.0, 2: 90.0}
    better = compare({0: 92.0, 1: 93.0, 2: 94.0}, base, higher_is_better=True)
    open_ = compare({0: 91.0, 1: 92.0, 2: 93.0}, base, higher_is_better=True)
    assert (of(better), of(open_)) == ("better", "inconclusive")
    made = corrected([better, open_, compare({0: 1.0}, {0: 2.0}, higher_is_better=True)])
    assert [of(one) for one in made] == ["inconclusive"] * 3
    assert made[0].p == pytest.approx(2 * 0.0351, abs=2e-4)
    assert (made[0].alone, made[0].family) == (better.p, 2)
    assert "corrected for 2 tests" in str(made[0])
    assert of(corrected([better])[0]) == "better"


def test_more_seeds_are_those_of_the_two_alone_until_their_own_test_has_found_it() -> None:
    base = dict.fromkeys(range(3), 90.0)
    open_ = compare({0: 91.0, 1: 92.0, 2: 93.0}, base, higher_is_better=True)
    assert corrected([open_] * 40)[0].more_seeds == open_.more_seeds
    assert open_.more_seeds == seeds_needed(2.0, 1.0) - 3
    better = compare({0: 92.0, 1: 93.0, 2: 94.0}, base, higher_is_better=True)
    assert better.more_seeds == 0
    taken = corrected([better] * 40)[0]
    assert taken.more_seeds == seeds_needed(3.0, 1.0, level=1 - 0.05 / 40) - 3
