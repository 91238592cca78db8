"""The rule by hand: where its values lie, what it asks for, and that it goes on where it was."""

import itertools
import math

import pytest

from experiments.errors import UserError
from experiments.tuning import space, two_stages
from experiments.tuning.space import Dimension
from experiments.tuning.trial_scores import Trial

LR = Dimension("lr", 1e-3, 1.0, log=True)
RELATIVE = 6e-3  # three digits


class Objective:
    """Lower is better; ``value`` maps a rate to its perplexity, None where it diverges."""

    def __init__(self, value):
        self.value = value
        self.calls = []

    def __call__(self, points):
        self.calls.append([point["lr"] for point in points])
        return [self.trial(point, self.value(point["lr"])) for point in points]

    @staticmethod
    def trial(point, value):
        status = "done" if value is not None else "diverged"
        return Trial(point, status, value, value, False, "perplexity", (value,), 10)


def near(best):
    return lambda lr: abs(math.log10(lr) - math.log10(best))


def positions(values, dimension=LR):
    """In units of the space's width: 0 and 1 are its ends."""
    return [math.log(v / dimension.low) / math.log(dimension.high / dimension.low) for v in values]


def run(tmp_path, objective, trials=16):
    return two_stages.complete(tmp_path / "study", [LR], trials, objective)


def test_the_coarse_values_are_even_in_log_with_both_ends():
    values = two_stages.coarse(LR, 8)
    assert (values[0], values[-1]) == (1e-3, 1.0)
    assert values == pytest.approx([10 ** (-3 + 3 * i / 7) for i in range(8)], rel=RELATIVE)
    assert two_stages.coarse(LR, 4) == [0.001, 0.01, 0.1, 1.0]
    odd = Dimension("lr", 0.0012351, 0.98765, log=True)  # ends of more than three digits
    assert (two_stages.coarse(odd, 5)[0], two_stages.coarse(odd, 5)[-1]) == (0.0012351, 0.98765)


def test_the_fine_values_divide_the_way_to_both_neighbours():
    """Four on either side: with the best and its neighbours they are even in log."""
    coarse = positions(two_stages.coarse(LR, 8))
    fine = positions(two_stages.fine(LR, 8, 3, 8))
    line = sorted([*coarse[2:5], *fine])
    assert [b - a for a, b in itertools.pairwise(line)] == pytest.approx([1 / 35] * 10, abs=2e-3)
    assert len(fine) == 8


@pytest.mark.parametrize(("best", "ends"), [(0, (-0.8, 0.8)), (7, (6.2, 7.8))])
def test_at_an_end_they_go_one_coarse_step_beyond_it(best, ends):
    """From the inner neighbour to one step out: a fifth of a step apart, neither of the two in."""
    fine = [7 * position for position in positions(two_stages.fine(LR, 8, best, 8))]
    assert (fine[0], fine[-1]) == pytest.approx(ends, abs=0.02)
    outside = [step for step in fine if not 0 <= step <= 7]
    assert len(outside) == 4


def test_both_stages_are_asked_for_at_once_each(tmp_path):
    objective = Objective(near(0.02))
    trials = run(tmp_path, objective)
    coarse = two_stages.coarse(LR, 8)
    assert objective.calls == [coarse, two_stages.fine(LR, 8, 3, 8)]  # 10 ** (-3 + 9 / 7) is 0.0193
    assert [trial.stage for trial in trials] == ["coarse"] * 8 + ["fine"] * 8
    assert len({trial.point["lr"] for trial in trials}) == 16


@pytest.mark.parametrize("trials", [4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 33])
def test_there_are_as_many_trials_as_were_asked_for(tmp_path, trials):
    found = run(tmp_path, Objective(near(0.02)), trials)
    fine = sum(trial.stage == "fine" for trial in found)
    assert len({trial.point["lr"] for trial in found}) == len(found) == trials
    assert fine % 2 == 0
    assert fine <= trials - fine <= fine + 3


@pytest.mark.parametrize("trials", [4, 6, 8, 10, 12, 16, 18, 24])
@pytest.mark.parametrize("optimum", [1e-5, 0.02, 1.0])
def test_as_many_again_lie_around_the_best_and_repeat_none(tmp_path, trials, optimum):
    objective = Objective(near(optimum))
    found = two_stages.complete(tmp_path / "study", [LR], trials, objective, again=True)
    first, again = found[:trials], found[trials:]
    assert [trial.stage for trial in again] == ["again"] * trials
    assert len({trial.point["lr"] for trial in found}) == 2 * trials
    best = min(first, key=lambda trial: trial.rank).point["lr"]
    coarse_step = 3 / (two_stages.shares(trials)[0] - 1)
    steps = [math.log10(trial.point["lr"] / best) / coarse_step for trial in again]
    assert sum(step < 0 for step in steps) == trials // 2
    assert max(map(abs, steps)) < 1
    assert steps == pytest.approx([-step for step in reversed(steps)], abs=0.01)


def test_the_optimum_between_two_coarse_values_is_found_within_a_tenth_of_a_step(tmp_path):
    found = run(tmp_path, Objective(near(0.031)))
    best = min(found, key=lambda trial: trial.rank).point["lr"]
    assert abs(math.log10(best / 0.031)) <= 3 / 7 / 10 + 2e-3


def test_a_best_value_beyond_the_space_is_on_edge_and_one_within_is_not(tmp_path):
    for optimum, edge in ((1e-5, ["lr"]), (8e-4, []), (0.02, []), (1.3, []), (90.0, ["lr"])):
        trials = run(tmp_path, Objective(near(optimum)))
        best = min(trials, key=lambda trial: trial.rank)
        assert space.on_edge([LR], best.point, [t.point for t in trials]) == edge, optimum


def test_what_diverges_bounds_the_search(tmp_path):
    objective = Objective(lambda lr: None if lr > 0.1 else 1 / lr)
    trials = run(tmp_path, objective)
    best = min(trials, key=lambda trial: trial.rank)
    assert best.point["lr"] <= 0.1
    assert space.on_edge([LR], best.point, [t.point for t in trials]) == []


def test_the_second_stage_is_the_same_whatever_happened_in_between(tmp_path):
    unbroken = Objective(near(0.02))
    expected = run(tmp_path / "unbroken", unbroken)
    stopped = Objective(near(0.02))

    def evaluate(points):
        if len(stopped.calls) == 1:
            stopped.calls.append("killed")
            raise KeyboardInterrupt
        return stopped(points)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, evaluate)
    assert run(tmp_path, evaluate) == expected
    assert stopped.calls == [unbroken.calls[0], "killed", *unbroken.calls]


@pytest.mark.parametrize("stage", [0, 1])
def test_a_trial_that_was_interrupted_alone_is_no_result(tmp_path, stage):
    objective = Objective(near(0.02))

    def evaluate(points):
        trials = objective(points)
        if len(objective.calls) == stage + 1:
            trials[2] = Trial(points[2], "interrupted")
        return trials

    with pytest.raises(UserError, match="1 of 8 trials were interrupted"):
        run(tmp_path, evaluate)


def test_without_any_value_there_is_no_second_stage(tmp_path):
    objective = Objective(lambda lr: None)
    with pytest.raises(UserError, match="No trial has a finite"):
        run(tmp_path, objective)
    assert len(objective.calls) == 1


@pytest.mark.parametrize(
    ("dimensions", "trials", "line"),
    [
        ([LR], 3, "Invalid trials: 3. Must be >= 4 with sampler=grid"),
        ([LR, Dimension("kind", choices=("a", "b"))], 16, "; kind of a, b. Take sampler=sobol|tpe"),
        ([LR, Dimension("interval", 1, 100, log=True, whole=True)], 16, "Invalid sampler: 'grid'"),
        ([LR, Dimension("momentum", 0.5, 0.501)], 16, "suite.search.momentum: 0.5 to 0.501. It is"),
        ([Dimension("interval", 1, 100, log=True, whole=True)], 16, "Invalid sampler: 'grid'"),
        ([Dimension("momentum", 0.5, 0.9)], 16, "Invalid sampler: 'grid'"),
        ([Dimension("kind", choices=("a", "b"))], 16, "kind of a, b. Take sampler=sobol|tpe"),
        (
            [Dimension("lr", 0.9, 0.91, log=True)],
            16,
            "Invalid optimizer.suite.search.lr: 0.9 to 0.91. It is too narrow for 16 values",
        ),
    ],
)
def test_what_has_no_grid_is_refused_before_anything_runs(tmp_path, dimensions, trials, line):
    with pytest.raises(UserError) as refused:
        two_stages.complete(
            tmp_path / "study", dimensions, trials, lambda points: pytest.fail("ran")
        )
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


DECAY = Dimension("weight_decay", 1e-4, 1e-1, log=True)
MOMENTUM = Dimension("momentum", 0.5, 0.9)
START = {"lr": 0.5, "weight_decay": 0.0, "momentum": 0.71}


class Bowl(Objective):
    """The distance from the best point, each hyperparameter by itself."""

    def __init__(self, **best):
        super().__init__(None)
        self.best = best

    def __call__(self, points):
        self.calls.append([dict(point) for point in points])
        return [self.trial(point, self.distance(point)) for point in points]

    def distance(self, point):
        logs = [
            abs(math.log10(point[key] or 1e-9) - math.log10(self.best[key]))
            for key in ("lr", "weight_decay")
        ]
        return sum(logs) + 10 * abs(point["momentum"] - self.best["momentum"])


def coordinate_pass(tmp_path, objective, trials=8, again=0):
    dimensions = [LR, DECAY, MOMENTUM]
    return two_stages.complete(
        tmp_path / "study", dimensions, trials, objective, again=again, held=START
    )


def test_each_hyperparameter_has_its_trials_while_the_others_are_held_at_the_best_so_far(tmp_path):
    objective = Bowl(lr=0.02, weight_decay=3e-3, momentum=0.83)
    found = coordinate_pass(tmp_path, objective)
    assert [trial.stage for trial in found] == [
        *(["coarse"] * 4 + ["fine"] * 4),
        *(["coarse weight_decay"] * 4 + ["fine weight_decay"] * 4),
        *(["coarse momentum"] * 4 + ["fine momentum"] * 4),
    ]
    rates, decays, momenta = ([t.point for t in found[at : at + 8]] for at in (0, 8, 16))
    best = min(rates, key=objective.distance)
    assert all({**point, "lr": 0} == {**START, "lr": 0} for point in rates)
    assert [point["weight_decay"] for point in decays[:4]] == [1e-4, 1e-3, 1e-2, 1e-1]
    assert {(point["lr"], point["momentum"]) for point in decays} == {(best["lr"], 0.71)}
    second = min([*rates, *decays], key=objective.distance)
    held = {(point["lr"], point["weight_decay"]) for point in momenta}
    assert held == {(second["lr"], second["weight_decay"])}
    chosen = min((trial.point for trial in found), key=objective.distance)
    assert chosen["weight_decay"] == pytest.approx(3e-3, rel=0.5)
    assert chosen["momentum"] == pytest.approx(0.83, abs=0.05)


def test_what_was_better_before_its_turn_stays(tmp_path):
    objective = Bowl(lr=0.02, weight_decay=1e-9, momentum=0.71)  # as good as none
    found = coordinate_pass(tmp_path, objective)
    chosen = min((trial.point for trial in found), key=objective.distance)
    assert (chosen["weight_decay"], chosen["momentum"]) == (0.0, 0.71)


def test_a_linear_space_is_closed(tmp_path):
    """At an end its fine values divide the way to the one neighbour that there is."""
    first = two_stages.fine(MOMENTUM, 5, 0, 4)
    assert first == pytest.approx([0.52, 0.54, 0.56, 0.58])
    assert two_stages.fine(MOMENTUM, 5, 4, 4) == pytest.approx([0.82, 0.84, 0.86, 0.88])
    assert two_stages.fine(MOMENTUM, 5, 1, 4) == pytest.approx([0.533, 0.567, 0.633, 0.667])


@pytest.mark.parametrize("trials", [4, 6, 10, 16])
def test_again_and_again_repeats_none(tmp_path, trials):
    objective = Bowl(lr=0.02, weight_decay=3e-3, momentum=0.83)
    found = coordinate_pass(tmp_path, objective, trials, again=2)
    again = [trial.point for trial in found if trial.stage == "again"]
    assert len(again) == 2 * trials
    assert len({tuple(trial.point.values()) for trial in found}) == len(found) == 5 * trials
    assert len({(point["weight_decay"], point["momentum"]) for point in again}) == 1
