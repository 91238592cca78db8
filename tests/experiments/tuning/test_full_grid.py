"""The full grid by hand: where its values lie, that all combinations are tried, and at once."""

import itertools
import math

import pytest

from experiments.config import compose
from experiments.errors import UserError
from experiments.tuning import full_grid, space
from experiments.tuning.options import TuneOptions
from experiments.tuning.space import Dimension
from experiments.tuning.trial_scores import Trial, choose

LR = Dimension("lr", 3e-4, 1e-1, log=True)
DAMPING = Dimension("damping", 1e-4, 1e-1, log=True)
RELATIVE = 6e-3  # three digits


def section(name):
    return compose.composed([f"optimizer={name}", "task=digits"]).optimizer


def test_twelve_rates_of_two_and_a_half_decades_are_a_fixed_factor_apart():
    rates = [point["lr"] for point in full_grid.points([LR], [12])]
    assert (rates[0], rates[-1]) == (3e-4, 1e-1)
    steps = [math.log10(b / a) for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx([math.log10(1e-1 / 3e-4) / 11] * 11, abs=5e-3)


def test_of_two_every_combination_is_tried_once():
    points = full_grid.points([LR, DAMPING], [8, 3])
    dampings = [10 ** (-4 + 1.5 * i) for i in range(3)]
    assert len({tuple(point.values()) for point in points}) == len(points) == 24
    for damping in dampings:
        of = [
            point["lr"]
            for point in points
            if point["damping"] == pytest.approx(damping, rel=RELATIVE)
        ]
        assert of == [point["lr"] for point in full_grid.points([LR], [8])]


@pytest.mark.parametrize(
    ("dimension", "count", "values"),
    [
        (Dimension("momentum", 0.5, 0.9), 3, [0.5, 0.7, 0.9]),
        (Dimension("interval", 1, 10, whole=True), 4, [1, 4, 7, 10]),
        (Dimension("rule", choices=("a", "b", "c")), 3, ["a", "b", "c"]),
    ],
)
def test_of_other_kinds_both_ends_and_what_lies_evenly_between(dimension, count, values):
    found = [point[dimension.key] for point in full_grid.points([dimension], [count])]
    assert found == values


@pytest.mark.parametrize(
    "dimension", [Dimension("interval", 1, 3, whole=True), Dimension("lr", 1.0, 1.002, log=True)]
)
def test_more_values_than_there_are_is_one_line(dimension):
    with pytest.raises(UserError, match="Invalid grid: 12 values of"):
        full_grid.points([dimension], [12])


def test_all_are_asked_for_at_once_and_the_best_is_the_best_pair(tmp_path):
    calls = []

    def evaluate(points):
        calls.append(points)
        value = [abs(math.log10(p["lr"]) + 2) + abs(math.log10(p["damping"]) + 4) for p in points]
        return [Trial(p, "done", v, v, False) for p, v in zip(points, value, strict=True)]

    trials = full_grid.complete(tmp_path / "study", [LR, DAMPING], [8, 3], evaluate)
    assert calls == [full_grid.points([LR, DAMPING], [8, 3])]
    best = choose(trials)
    assert (best.point["damping"], best.stage) == (1e-4, "full_grid")
    assert math.log10(best.point["lr"]) == pytest.approx(-2, abs=math.log10(1e-1 / 3e-4) / 14)


def test_an_interrupted_trial_is_no_result(tmp_path):
    with pytest.raises(UserError, match="4 of 4 trials were interrupted"):
        full_grid.complete(
            tmp_path / "study", [LR], [4], lambda points: [Trial(p, "interrupted") for p in points]
        )


def test_what_is_searched_is_what_the_yaml_names():
    keys = lambda name, grid: [one.key for one in full_grid.searched(section(name), grid)]  # noqa: E731
    assert keys("adafisher", None) == ["lr"]
    assert keys("adafisher", {"damping": 3, "lr": 8}) == ["damping", "lr"]
    (damping,) = full_grid.searched(section("adafisher"), {"damping": 3})
    assert (damping.low, damping.high, damping.log) == (3e-5, 3e-2, True)  # of coordinates:
    with pytest.raises(UserError) as refused:
        full_grid.searched(section("sgd"), {"lr": 8, "damping": 3})
    assert str(refused.value) == (
        "Invalid grid: 'damping'. Of sgd it must be one of: lr, weight_decay, momentum; "
        "+optimizer.suite.search.damping=... adds it."
    )


def test_of_several_searched_ones_the_counts_must_be_typed():
    both = compose.composed(
        [
            "optimizer=sgd",
            "+optimizer.suite.search.momentum={low: 0.5, high: 0.9, scale: linear}",
        ]
    ).optimizer
    with pytest.raises(UserError, match=r"Missing value: grid\. sgd is searched over lr, momentum"):
        full_grid.searched(both, None)
    assert [one.key for one in full_grid.searched(both, {"lr": 4, "momentum": 2})] == [
        "lr",
        "momentum",
    ]


def test_records_say_how_many_values_each_had():
    asked = TuneOptions(trials=24, sampler="full_grid", grid={"lr": 8, "damping": 3})
    assert asked.proposed == "full_grid 8 lr x 3 damping"
    assert asked.counts == [8, 3]
    assert TuneOptions(trials=12, sampler="full_grid").counts == [12]


def test_the_edge_of_either_axis_is_told():
    points = full_grid.points([LR, DAMPING], [8, 3])
    inner = next(point for point in points if point["damping"] == points[1]["damping"])
    assert space.on_edge([LR, DAMPING], points[0], points) == ["lr", "damping"]
    assert space.on_edge([LR, DAMPING], {**inner, "lr": points[9]["lr"]}, points) == []
