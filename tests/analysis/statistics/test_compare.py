from typing import Any

import pandas as pd
import pytest
import scipy.stats

from analysis.statistics.compare import Comparison, compare, compare_runs, corrected
from analysis.statistics.effort import Effort, effort_of, unequal

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


@pytest.mark.parametrize("test", ["sign_flip", "student"])
def test_one_seed_is_inconclusive_however_far_apart(test: str) -> None:
    made = compare({0: 99.0}, {0: 1.0}, higher_is_better=True, test=test)
    assert (made.outcome, made.n, made.p, made.low) == ("inconclusive", 1, None, None)
    assert made.more_seeds == (5 if test == "sign_flip" else 1)
    assert str(made).startswith("inconclusive (")


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
    assert made.p == 2 / 64
    assert "n=6" in str(made)
    assert "90 % Student t" in str(made)


def test_five_seeds_cannot_pass_the_sign_flip_test_and_it_says_how_many_can() -> None:
    ours, theirs = ({s: v[s] for s in range(5)} for v in (AHEAD, BASE))
    made = compare(ours, theirs, higher_is_better=True)
    assert (made.outcome, made.p, made.more_seeds) == ("inconclusive", 2 / 32, 1)
    assert of(compare(ours, theirs, higher_is_better=True, test="student")) == "better"


def test_more_seeds_are_those_of_the_corrected_level() -> None:
    # Of 40 tests none passes at 2/2^n > 0.05/40 = 1/800: 11 seeds are the fewest that can.
    five, base = ({s: v[s] for s in range(5)} for v in (AHEAD, BASE))
    made = corrected([compare(five, base, higher_is_better=True)] * 40)
    assert made[0].more_seeds == 11 - 5


def test_a_difference_within_the_noise_is_inconclusive() -> None:
    ours = {seed: value + (0.1 if seed % 2 else -0.09) for seed, value in BASE.items()}
    made = compare(ours, BASE, higher_is_better=True, test="student")
    assert made.outcome == "inconclusive"
    assert made.more_seeds is not None
    assert made.more_seeds > 100


def test_unequal_effort_refuses_better_unless_told_so() -> None:
    ours = runs(AHEAD, ruleset="tuned", tuning={"trials": 32, "seeds": 1})
    theirs = runs(BASE, ruleset="tuned", tuning={"trials": 8, "seeds": 1})
    made = compare_runs(ours, theirs)
    assert made.outcome == "unequal tuning effort"
    assert "32 trials against tuned, 8 trials" in str(made)
    assert of(compare_runs(theirs, ours)) == "unequal tuning effort"
    assert of(compare_runs(ours, theirs, allow_unequal=True)) == "better"
    assert of(compare_runs(ours, theirs.assign(tuning=ours["tuning"]))) == "better"
    # One seed settles nothing in the first place.
    assert of(compare_runs(ours.head(1), theirs.head(1))) == "inconclusive"


EFFORTS = {
    "same trials": (Effort("tuned", 8, 1), Effort("tuned", 8, 1), True),
    "other trials": (Effort("tuned", 8, 1), Effort("tuned", 9, 1), False),
    "other seeds a trial": (Effort("tuned", 8, 1), Effort("tuned", 8, 3), False),
    "one unknown": (Effort("tuned", 8, 1), Effort("tuned", None), False),
    "both unknown": (Effort("tuned", None), Effort("tuned", None), False),
    "both as given": (Effort("paper", 0), Effort("paper", 0), True),
    "tuned against given": (Effort("tuned", 8), Effort("paper", 0), False),
    "two rulesets": (Effort("default", 0), Effort("paper", 0), False),
}


@pytest.mark.parametrize(("ours", "theirs", "equal"), EFFORTS.values(), ids=list(EFFORTS.keys()))
def test_efforts(ours: Effort, theirs: Effort, equal: bool) -> None:
    assert (unequal(ours, theirs) == "") is equal
    assert (unequal(theirs, ours) == "") is equal


def test_effort_is_read_off_the_runs() -> None:
    tuned = runs(BASE, ruleset="tuned", tuning={"trials": 8, "seeds": 2})
    assert effort_of(tuned) == Effort("tuned", 8, 2)
    assert effort_of(runs(BASE, ruleset="tuned")) == Effort("tuned", None)
    assert effort_of(runs(BASE, ruleset="default")) == Effort("default", 0)
    mixed = pd.concat([tuned, runs(BASE, ruleset="tuned", tuning={"trials": 9})])
    assert effort_of(mixed).trials is None
    assert str(effort_of(tuned)) == "tuned, 8 trials of 2 seeds"


def test_a_method_that_diverged_is_not_better_on_the_seeds_that_are_left() -> None:
    ours = runs({**AHEAD, 6: 10.0})
    ours.loc[ours["seed"] == 6, "status"] = "diverged"
    made = compare_runs(ours, runs({**BASE, 6: 90.0}))
    assert (made.outcome, made.n, made.reason) == ("inconclusive", 6, "diverged 1/7")
    # Nor does a correction make it so; that the other method diverged does not help it either.
    assert of(corrected([made])[0]) == "inconclusive"
    assert of(compare_runs(runs({**AHEAD, 6: 91.0}), runs(BASE))) == "better"


def test_a_seed_that_is_there_twice_is_refused() -> None:
    twice = pd.concat([runs(AHEAD), runs(AHEAD)])
    with pytest.raises(ValueError, match="a seed twice"):
        compare_runs(twice, runs(BASE))


def test_the_correction_takes_back_what_a_single_test_found() -> None:
    better = compare(AHEAD, BASE, higher_is_better=True)  # p = 1/32, so 1/16 of a family of two
    made = corrected([better, better, compare({0: 1.0}, {0: 2.0}, higher_is_better=True)])
    assert [of(one) for one in made] == ["inconclusive"] * 3
    assert (made[0].p, made[0].family) == (1 / 16, 2)
    assert "Holm's correction for 2" in str(made[0])
    # 1/32 halved asks for 7 seeds; the difference itself is beyond doubt.
    assert made[0].more_seeds == 1
    assert of(corrected([better])[0]) == "better"


def test_an_unknown_test_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="Invalid test: z"):
        compare(AHEAD, BASE, higher_is_better=True, test="z")
