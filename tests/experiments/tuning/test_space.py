import math
from collections import Counter

import numpy as np
import optuna
import pytest
import yaml

from experiments.config import commandline
from experiments.config.compose import composed
from experiments.config.sections import MethodSection
from experiments.errors import UserError
from experiments.tuning import full_grid, space, two_stages
from experiments.tuning.space import Dimension

LR = Dimension("lr", 1e-4, 1e-1, log=True)
TUNED = sorted((commandline.CONF / "tuned").glob("*/*.yaml"))


def section(search, **hyperparameters):
    return MethodSection({"lr": 0.1, **hyperparameters}, {"name": "method", "search": search})


def test_points_fill_the_space_evenly():
    """A scrambled Sobol' set of 2^m points has one in each of 2^m equal cells."""
    values = [point["lr"] for point in space.points([LR], 8)]
    positions = sorted(math.log(value / 1e-4) / math.log(1000) for value in values)
    assert [int(position * 8) for position in positions] == list(range(8))


def test_points_of_two_dimensions_fill_both_evenly():
    values = space.points([LR, Dimension("momentum", 0.0, 1.0)], 16)
    for dimension in (LR, Dimension("momentum", 0.0, 1.0)):
        positions = sorted(dimension.position(point[dimension.key]) for point in values)
        assert [int(position * 16) for position in positions] == list(range(16))


def test_every_method_gets_the_same_points_of_its_space():
    other = [Dimension("lr", 1.0, 1000.0, log=True)]
    pairs = zip(space.points([LR], 8), space.points(other, 8), strict=True)
    assert [b["lr"] / a["lr"] for a, b in pairs] == pytest.approx([1e4] * 8, rel=0.02)


def test_more_trials_begin_with_the_same_points():
    assert space.points([LR], 16)[:8] == space.points([LR], 8)
    assert space.points([LR], 5) == space.points([LR], 8)[:5]


@pytest.mark.parametrize("path", TUNED, ids=lambda path: "/".join(path.parts[-2:]))
def test_the_recorded_ledgers_are_of_these_points(path):
    """What was tuned once would be tuned at the same learning rates today."""
    ledger = yaml.safe_load((path.parent / "ledgers" / path.name).read_text())
    optimizer = yaml.safe_load((commandline.CONF / "optimizer" / path.name).read_text())
    (dimension,) = space.parse(MethodSection.of(optimizer))
    tried = [trial["values"]["lr"] for trial in ledger["trials"]]
    assert {trial["stage"] for trial in ledger["trials"]} == {full_grid.NAME}
    assert [point["lr"] for point in full_grid.points([dimension], [12])] == tried
    assert tried == pytest.approx(np.geomspace(dimension.low, dimension.high, 12), rel=5e-3)


def test_every_method_searches_as_much():
    """Equal effort: as many hyperparameters, over as many decades."""
    searched = {
        tuple(
            (d.key, round(math.log10(d.high / d.low), 6))
            for d in space.parse(MethodSection.of(yaml.safe_load(text)))
        )
        for text in (path.read_text() for path in (commandline.CONF / "optimizer").glob("*.yaml"))
    }
    assert searched == {(("lr", 3.0),)}


def test_a_dimension_is_at_its_ends_at_the_ends_of_the_unit_interval():
    linear = Dimension("momentum", 0.5, 0.9)
    whole = Dimension("interval", 1, 100, log=True, whole=True)
    choices = Dimension("normalize", choices=("before", "after"))
    assert [linear.at(0.0), linear.at(0.5), linear.at(1.0)] == [0.5, 0.7, 0.9]
    # Of 0.5 to 100.5, the numbers that round to one of them, the middle is the root of 50.25.
    assert [whole.at(0.0), whole.at(0.5), whole.at(1.0)] == [1, 7, 100]
    assert isinstance(whole.at(0.3), int)
    assert [choices.at(unit) for unit in (0.0, 0.49, 0.5, 1.0)] == ["before"] * 2 + ["after"] * 2


def test_rounding_does_not_leave_the_space():
    odd = Dimension("lr", 0.0012345, 0.0098765)
    assert [odd.at(0.0), odd.at(1.0)] == [0.0012345, 0.0098765]


@pytest.mark.parametrize(("low", "high"), [(1, 4), (0, 1), (3, 10), (1, 9)])
def test_whole_numbers_are_equally_frequent(low, high):
    """4096 points have one in each of as many cells, of which a number ends in two at most."""
    dimension = Dimension("interval", low, high, whole=True)
    counts = Counter(point["interval"] for point in space.points([dimension], 4096))
    share = 4096 / (high - low + 1)
    assert sorted(counts) == list(range(low, high + 1))
    assert all(abs(count - share) < 2 for count in counts.values())
    assert share % 1 or set(counts.values()) == {share}  # the cells divide evenly


def test_whole_numbers_on_a_log_scale_have_the_shares_of_tpe():
    """Of log(k + 0.5) - log(k - 0.5), and so says Optuna within five standard errors of n draws."""
    dimension = Dimension("interval", 1, 4, log=True, whole=True)
    counts = Counter(point["interval"] for point in space.points([dimension], 4096))
    drawn = Counter(_drawn(optuna.distributions.IntDistribution(1, 4, log=True), 2000))
    for value in range(1, 5):
        share = math.log((value + 0.5) / (value - 0.5)) / math.log(9)
        assert abs(counts[value] - 4096 * share) < 2
        assert abs(drawn[value] - 2000 * share) < 5 * math.sqrt(2000 * share * (1 - share))


def _drawn(distribution, count):
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=count))
    optuna.logging.set_verbosity(verbosity)
    return [study.ask({"k": distribution}).params["k"] for _ in range(count)]


@pytest.mark.parametrize(
    ("chosen", "tried", "edge"),
    [
        (0.3, [0.1, 0.3, 0.5], False),
        (0.3, [0.3, 0.5], True),  # nothing was tried below
        (0.3, [0.1, 0.3], True),
        (0.99, [0.1, 0.99, 1.0], False),  # near the end of the space, but something lies beyond
        (1.4, [0.1, 0.9, 1.4], True),  # beyond the space, where a grid goes
        (0.3, [0.3], True),
    ],
)
def test_the_edge_is_where_nothing_lies_beyond(chosen, tried, edge):
    dimensions = [Dimension("lr", 0.0, 1.0)]
    points = [{"lr": value} for value in tried]
    assert space.on_edge(dimensions, {"lr": chosen}, points) == (["lr"] if edge else [])


def test_each_dimension_has_its_own_edge_and_choices_have_none():
    dimensions = [LR, Dimension("momentum", 0.0, 1.0), Dimension("kind", choices=("a", "b"))]
    tried = [
        {"lr": lr, "momentum": momentum, "kind": kind}
        for lr, momentum, kind in [(1e-3, 0.5, "a"), (1e-2, 0.3, "b"), (5e-3, 0.7, "a")]
    ]
    assert space.on_edge(dimensions, tried[0], tried) == ["lr"]
    assert space.on_edge(dimensions, tried[1], tried) == ["lr", "momentum"]


def test_a_space_is_read_from_the_yaml():
    search = {
        "lr": {"low": 0.1, "high": 1.0, "scale": "log", "source": "a paper"},
        "interval": {"low": 1, "high": 100, "scale": "linear"},
        "normalize": {"choices": ["before", "after"]},
    }
    assert space.parse(section(search, interval=10, normalize="after")) == [
        Dimension("lr", 0.1, 1.0, log=True),
        Dimension("interval", 1, 100, whole=True),
        Dimension("normalize", choices=("before", "after")),
    ]


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (None, "Invalid optimizer.suite.search of method: None"),
        ({"rate": {}}, "Invalid optimizer.suite.search.rate: method has no such hyperparameter"),
        ({"lr": {"low": 0.1, "high": 1.0}}, "scale must be one of: log, linear"),
        ({"lr": {"low": 1.0, "high": 0.1, "scale": "log"}}, "low < high"),
        ({"lr": {"low": "x", "high": 0.1, "scale": "log"}}, "must be numbers"),
        ({"lr": {"low": 0.0, "high": 0.1, "scale": "log"}}, "low must be > 0"),
        ({"lr": {"low": 0.1, "hihg": 0.1}}, "Must be a mapping with keys of"),
        ({"lr": {"choices": [0.1]}}, "two values or more"),
        ({"lr": {"choices": [0.1, [0.2]]}}, "choices must be numbers"),
        ({"lr": 0.1}, "Must be a mapping"),
        (
            {"interval": {"low": 1.5, "high": 9, "scale": "linear"}},
            "low and high must be whole numbers, as the default 10 is one",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(search, line):
    with pytest.raises(UserError) as refused:
        space.parse(section(search, interval=10))
    assert line in str(refused.value)


def test_weight_decay_is_searched_second_and_then_what_the_file_names():
    search = {"lr": {"low": 1, "high": 2, "scale": "log"}}
    damping = {"low": 1e-4, "high": 1e-2, "scale": "log"}
    method = section(search, weight_decay=0.01, damping=1e-3)
    method.suite["coordinates"] = {"damping": damping}
    assert space.coordinates(method) == [
        Dimension("weight_decay", 3.2e-4, 0.32, log=True),  # 0.01 over and times 10^1.5
        Dimension("damping", 1e-4, 1e-2, log=True),
    ]
    none = section(search, weight_decay=0.0)
    assert space.coordinates(none) == [Dimension("weight_decay", 1.6e-5, 1.6e-2, log=True)]
    assert space.coordinates(section(search, betas=[0.9, 0.99])) == []
    own = {"low": 0.1, "high": 0.2, "scale": "linear"}
    method.suite["coordinates"] = {"damping": damping, "weight_decay": own}
    assert [one.key for one in space.coordinates(method)] == ["weight_decay", "damping"]
    assert space.coordinates(method)[0] == Dimension("weight_decay", 0.1, 0.2)


@pytest.mark.parametrize("key", ["lr", "betas", "no"])
def test_what_cannot_be_searched_by_itself_is_refused(key):
    method = section({"lr": {"low": 1, "high": 2, "scale": "log"}}, betas=[0.9, 0.99])
    method.suite["coordinates"] = {key: {"low": 0.1, "high": 0.2, "scale": "linear"}}
    with pytest.raises(
        UserError, match=rf"Invalid optimizer\.suite\.coordinates\.{key}: must be a"
    ):
        space.coordinates(method)


@pytest.mark.parametrize("name", commandline.choices("optimizer"))
def test_every_shipped_method_has_a_second_dimension(name):
    method = composed([f"optimizer={name}"]).optimizer
    own = space.parse(method)
    further = space.coordinates(method)
    two_stages.check([*own, *further], 16)
    assert further[0].key == "weight_decay"
    for one in further:
        default = float(method.arguments[one.key])
        assert default == 0 or one.low < default < one.high


def test_none_has_nothing_below_it():
    dimension = Dimension("weight_decay", 1e-4, 1e-2, log=True)
    tried = [{"weight_decay": value} for value in (0.0, 1e-4, 1e-2)]
    assert space.on_edge([dimension], tried[0], tried) == []
    assert space.on_edge([dimension], tried[2], tried) == ["weight_decay"]
