"""A study ends with exactly its trials, however it is interrupted, whatever they come to."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from experiments.errors import UserError
from experiments.tuning import optuna_trials, space
from experiments.tuning.optuna_trials import TrialPlan
from experiments.tuning.space import Dimension
from experiments.tuning.trial_scores import Trial

ROOT = Path(__file__).resolve().parents[3]
LR = [Dimension("lr", 1e-4, 1.0, log=True)]
SOBOL = TrialPlan(LR, 8)
TPE = TrialPlan(LR, 8, "tpe", startup=4, batch=2)
PLANS = [SOBOL, TPE, replace(SOBOL, space=[*LR, Dimension("interval", 1, 9, whole=True)])]


class Objective:
    """Lower is better near lr=0.01; `end` may decide otherwise."""

    def __init__(self, end=lambda call, index: "done"):
        self.end = end
        self.calls = []

    def __call__(self, points):
        self.calls.append(list(points))
        trials = []
        for index, point in enumerate(points):
            status = self.end(len(self.calls), index)
            value = abs(point["lr"] - 0.01) if status == "done" else None
            trials.append(Trial(point, status, value, value, False, "perplexity"))
        return trials


def stop_in(*calls):
    def end(call, index):
        if call in calls:
            raise KeyboardInterrupt
        return "done"

    return end


@pytest.mark.parametrize("plan", PLANS, ids=["sobol", "tpe", "two dimensions"])
def test_interrupted_twice_it_ends_with_exactly_its_trials(tmp_path, plan):
    unbroken = optuna_trials.complete(tmp_path / "unbroken", plan, Objective())
    objective = Objective(stop_in(1, 3))
    with pytest.raises(KeyboardInterrupt):
        optuna_trials.complete(tmp_path / "broken", replace(plan, trials=6), objective)
    if plan.sampler == "sobol":
        optuna_trials.complete(tmp_path / "broken", replace(plan, trials=6), objective)
    with pytest.raises(KeyboardInterrupt):
        optuna_trials.complete(tmp_path / "broken", plan, objective)
    trials = optuna_trials.complete(tmp_path / "broken", plan, objective)
    assert len(trials) == 8
    assert trials == unbroken


def test_asked_again_it_asks_for_nothing(tmp_path):
    first = optuna_trials.complete(tmp_path / "s", SOBOL, Objective())
    again = Objective()
    assert optuna_trials.complete(tmp_path / "s", SOBOL, again) == first
    assert again.calls == []


def test_more_trials_add_the_difference_and_fewer_take_the_first(tmp_path):
    eight = optuna_trials.complete(tmp_path / "s", SOBOL, Objective())
    objective = Objective()
    sixteen = optuna_trials.complete(tmp_path / "s", replace(SOBOL, trials=16), objective)
    assert [len(points) for points in objective.calls] == [8]
    assert sixteen[:8] == eight
    assert [trial.point for trial in sixteen] == space.points(LR, 16)
    assert (
        optuna_trials.complete(tmp_path / "s", replace(SOBOL, trials=5), Objective()) == eight[:5]
    )


def test_quasi_random_trials_are_known_in_advance_and_asked_for_at_once(tmp_path):
    objective = Objective()
    optuna_trials.complete(tmp_path / "s", SOBOL, objective)
    assert objective.calls == [space.points(LR, 8)]


def test_tpe_begins_with_the_quasi_random_trials_and_proposes_a_few_at_once(tmp_path):
    objective = Objective()
    trials = optuna_trials.complete(tmp_path / "s", TPE, objective)
    assert [len(points) for points in objective.calls] == [4, 2, 2]
    points = [trial.point for trial in trials]
    assert points[:4] == space.points(LR, 4)
    assert not any(point in space.points(LR, 8) for point in points[4:])
    assert all(LR[0].low <= point["lr"] <= LR[0].high for point in points)


def test_tpe_learns_from_the_trials(tmp_path):
    """Most of its proposals lie nearer to the optimum, in decades, than uniform ones would."""
    plan = TrialPlan(LR, 24, "tpe", startup=8)
    trials = optuna_trials.complete(tmp_path / "s", plan, Objective())
    near = [abs(LR[0].position(t.point["lr"]) - LR[0].position(0.01)) < 0.15 for t in trials[8:]]
    assert sum(near) > len(near) / 2  # 30 % of uniform ones


def test_a_failed_trial_is_run_again_on_request_only(tmp_path):
    ends = ["done", "failed", "diverged", "out_of_memory", "done", "done", "done", "done"]
    first = optuna_trials.complete(
        tmp_path / "s", SOBOL, Objective(lambda call, index: ends[index])
    )
    assert [trial.status for trial in first] == ends
    idle = Objective()
    assert optuna_trials.complete(tmp_path / "s", SOBOL, idle) == first
    assert idle.calls == []
    objective = Objective(stop_in(1))
    retrying = replace(SOBOL, retry=True)
    with pytest.raises(KeyboardInterrupt):
        optuna_trials.complete(tmp_path / "s", retrying, objective)
    trials = optuna_trials.complete(tmp_path / "s", retrying, objective)
    assert objective.calls == [[first[1].point, first[3].point]] * 2
    assert [trial.point for trial in trials] == [trial.point for trial in first]
    assert [trial.status for trial in trials] == ["done"] * 2 + ["diverged"] + ["done"] * 5
    more = optuna_trials.complete(tmp_path / "s", replace(SOBOL, trials=10), Objective())
    assert [trial.point for trial in more] == space.points(LR, 10)


def test_a_trial_that_was_interrupted_alone_is_no_result(tmp_path):
    objective = Objective(lambda call, index: "interrupted" if (call, index) == (1, 2) else "done")
    with pytest.raises(UserError, match="1 of 8 trials were interrupted"):
        optuna_trials.complete(tmp_path / "s", SOBOL, objective)
    trials = optuna_trials.complete(tmp_path / "s", SOBOL, objective)
    assert [len(points) for points in objective.calls] == [8, 1]
    assert {trial.status for trial in trials} == {"done"}


def test_what_was_found_is_kept_though_the_process_dies_before_it_is_told(tmp_path, monkeypatch):
    """A cohort is told as a whole: pruned trials would else be compared with fewer others."""
    told = itertools.count()
    tell = optuna_trials._tell

    def dying(*arguments):
        if next(told) == 3:
            raise KeyboardInterrupt
        tell(*arguments)

    monkeypatch.setattr(optuna_trials, "_tell", dying)
    objective = Objective()
    with pytest.raises(KeyboardInterrupt):
        optuna_trials.complete(tmp_path / "s", SOBOL, objective)
    trials = optuna_trials.complete(tmp_path / "s", SOBOL, objective)
    assert len(objective.calls) == 1
    assert len(trials) == 8


def test_optuna_has_one_trial_for_each_with_its_end(tmp_path):
    ends = ["done", "diverged", "failed", "done"]
    plan = replace(SOBOL, trials=4)
    trials = optuna_trials.complete(
        tmp_path / "s", plan, Objective(lambda call, index: ends[index])
    )
    with optuna_trials._open(tmp_path / "s") as opened:
        assert [trial.state for trial in opened.trials] == [
            TrialState.COMPLETE,
            TrialState.PRUNED,  # without a value: worse than any
            TrialState.FAIL,
            TrialState.COMPLETE,
        ]
        assert opened.best_value == min(trial.cost for trial in trials)


DYING = """
import os, signal, sys
from pathlib import Path
from tests.experiments.tuning.test_study import Objective, SOBOL, TPE
from experiments.tuning import optuna_trials

def evaluate(points):
    os.kill(os.getpid(), signal.SIGKILL)

optuna_trials.complete(Path(sys.argv[1]), TPE if sys.argv[2] == "tpe" else SOBOL, evaluate)
"""


@pytest.mark.parametrize("plan", [SOBOL, TPE], ids=["sobol", "tpe"])
def test_killed_between_asking_and_telling_it_counts_no_trial_twice(tmp_path, plan):
    killed = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "s"), plan.sampler],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    journal = tmp_path / "s" / optuna_trials.JOURNAL
    assert journal.stat().st_size > 0
    # What such a death may leave besides: half a line, and the lock of Optuna.
    with journal.open("ab") as handle:
        handle.write(b'{"op_code":5,"wor')
    journal.with_name(f"{optuna_trials.JOURNAL}.lock").symlink_to(journal)
    objective = Objective()
    trials = optuna_trials.complete(tmp_path / "s", plan, objective)
    assert trials == optuna_trials.complete(tmp_path / "unbroken", plan, Objective())
    assert sum(map(len, objective.calls)) == 8


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "nonsense\n" + text,
        lambda text: text.replace("op_code", "operation", 1),
        lambda text: "[]\n" + text,
        lambda text: "5\n" + text,
    ],
    ids=["no JSON", "no operation", "a list", "a number"],
)
def test_a_damaged_journal_is_one_line_and_stays(tmp_path, damage):
    optuna_trials.complete(tmp_path / "s", SOBOL, Objective())
    journal = tmp_path / "s" / optuna_trials.JOURNAL
    journal.write_text(damage(journal.read_text()))
    before = journal.read_bytes()
    with pytest.raises(UserError, match=r"is damaged .*Move its folder away") as refused:
        optuna_trials.complete(tmp_path / "s", SOBOL, Objective())
    assert "\n" not in str(refused.value)
    assert journal.read_bytes() == before
