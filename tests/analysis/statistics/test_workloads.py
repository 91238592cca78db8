from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import scipy.stats

from analysis.statistics.scores import (
    WorkloadScore,
    cost,
    improvement_percent,
    relative_costs,
    workload_scores,
)

SEEDS = [0, 1, 2]
TASKS = ["digits", "shakespeare"]


def costs() -> dict[str, dict[str, dict[int, float]]]:
    return {
        "sgd": {"digits": {0: 2.0, 1: 2.0, 2: 2.0}, "shakespeare": {0: 8.0, 1: 8.0, 2: 8.0}},
        "adam": {"digits": {0: 0.5, 1: 1.0, 2: 1.5}, "shakespeare": {0: 8.0, 1: 7.0, 2: 9.0}},
        "muon": {"digits": {0: 8.0, 1: 8.0, 2: 8.0}, "shakespeare": {0: 1.0, 1: 1.0, 2: 1.0}},
    }


def scores(given: Mapping[str, Any], **options: Any) -> dict[str, WorkloadScore]:
    options = {"reference": "sgd", "workloads": dict.fromkeys(TASKS, SEEDS), **options}
    made = workload_scores(given, generator=np.random.default_rng(0), resamples=200, **options)
    return {one.method: one for one in made}


def test_score_by_hand() -> None:
    made = scores(costs())
    # adam: sqrt(1/2 * 8/8); muon: sqrt(8/2 * 1/8), the same; sgd: 1.
    assert made["adam"].value == pytest.approx(np.sqrt(0.5))
    assert made["muon"].value == pytest.approx(np.sqrt(0.5))
    assert (made["sgd"].value, made["sgd"].low, made["sgd"].high) == (1.0, 1.0, 1.0)
    # However the logarithms are rounded, both share the first rank.
    assert [made[name].rank for name in ("adam", "muon", "sgd")] == [1, 1, 3]
    means = [[np.mean(list(s.values())) for s in of.values()] for of in costs().values()]
    assert [scipy.stats.gmean(row) / scipy.stats.gmean(means[0]) for row in means] == (
        pytest.approx([made[name].value for name in costs()])
    )
    assert made["adam"].low is not None
    assert made["adam"].low < np.sqrt(0.5)
    assert (made["adam"].workloads, made["adam"].n) == (2, 6)


def test_equal_scores_share_a_rank() -> None:
    given = {**costs(), "twin": costs()["adam"]}
    made = scores(given)
    assert made["twin"].rank == made["adam"].rank == 1
    assert made["sgd"].rank == 4
    for off in (1 + 1e-12, 1 - 1e-12):
        given["twin"] = {
            task: {seed: off * value for seed, value in of.items()}
            for task, of in costs()["adam"].items()
        }
        assert scores(given)["twin"].rank == 1
        assert scores(given)["adam"].rank == 1


@pytest.mark.parametrize("reference", ["sgd", "adam", "muon"])
def test_the_order_does_not_depend_on_the_reference(reference: str) -> None:
    given = costs()
    given["muon"]["shakespeare"] = {0: 2.0, 1: 1.0, 2: 1.0}
    made = scores(given, reference=reference)
    assert [made[name].rank for name in ("adam", "muon", "sgd")] == [1, 2, 3]


def test_a_missing_seed_or_workload_is_incomplete_and_moves_no_other() -> None:
    whole, given = scores(costs()), costs()
    del given["adam"]["digits"][1], given["muon"]["shakespeare"]
    made = scores(given)

    assert (made["adam"].value, made["adam"].rank) == (None, None)
    assert made["adam"].missing == ("digits: n=2/3",)
    assert made["muon"].missing == ("shakespeare: n=0/3",)
    assert made["sgd"].value == whole["sgd"].value
    assert [made[name].workloads for name in made] == [2, 2, 2]  # what is there is no denominator
    assert list(made) == ["sgd", "adam", "muon"]


def test_a_workload_that_no_method_has_is_missing_too() -> None:
    made = scores(costs(), workloads=dict.fromkeys([*TASKS, "imagenet1k"], SEEDS))
    assert all(one.value is None for one in made.values())
    assert "imagenet1k: n=0/3" in made["adam"].missing


def test_an_incomplete_reference_makes_all_incomplete() -> None:
    given = costs()
    del given["sgd"]["digits"][0]
    assert scores(given)["adam"].missing == ("sgd, digits: n=2/3",)
    assert scores(costs(), reference="lamb")["adam"].missing == ("lamb, no run",)


def test_each_workload_has_seeds_of_its_own() -> None:
    given = costs()
    for of_method in given.values():
        del of_method["digits"][2]
    made = scores(given, workloads={"digits": [0, 1], "shakespeare": SEEDS})
    assert made["adam"].value == pytest.approx(np.sqrt(0.75 / 2))  # (0.5 + 1) / 2 against 2
    assert made["adam"].n == 5


def test_what_was_not_agreed_on_does_not_count() -> None:
    given = costs()
    given["adam"]["digits"][9] = 1e9
    given["adam"]["extra"] = {0: 1e9}
    assert scores(given)["adam"].value == scores(costs())["adam"].value


def test_a_reference_without_cost_gives_no_ratio() -> None:
    given = costs()
    given["sgd"]["digits"] = dict.fromkeys(SEEDS, 0.0)
    assert scores(given)["adam"].missing == ("sgd: a mean cost of 0",)


def test_cost() -> None:
    assert cost(97.5, "accuracy_percent", higher_is_better=True) == 2.5
    assert cost(75.5, "top1_accuracy_percent", higher_is_better=True) == 24.5
    assert cost(12.0, "perplexity", higher_is_better=False) == 12.0
    assert cost(100.00000000000001, "accuracy_percent", higher_is_better=True) == 0.0
    with pytest.raises(ValueError, match="Invalid metric: reward"):
        cost(1.0, "reward", higher_is_better=True)


def test_relative_costs_by_hand() -> None:
    given = {"sgd": {"a": {0: 1.0, 1: 3.0}, "b": {0: 0.0}}, "adam": {"a": {0: 1.0}, "b": {0: 1.0}}}
    made = relative_costs(given, reference="sgd", workloads=["a", "b", "c"])
    assert [part.tolist() for part in made["sgd"]] == [[0.5, 1.5], [], []]
    assert [part.tolist() for part in made["adam"]] == [[0.5], [], []]


@pytest.mark.parametrize(
    ("result", "reference", "metric", "higher", "percent"),
    [
        (98, 96, "accuracy_percent", True, 50),  # half the errors
        (94, 96, "accuracy_percent", True, -50),
        (60, 80, "perplexity", False, 25),
        (100, 80, "perplexity", False, -25),
        (0.6, 0.5, "score", True, 20),
        (-4, -5, "score", True, 20),
        (99, 100, "accuracy_percent", True, np.nan),
        (99, 99.99999999999999, "accuracy_percent", True, np.nan),
        (96.00000000000001, 96, "accuracy_percent", True, 0),
    ],
)
def test_improvement(
    result: float, reference: float, metric: str, higher: bool, percent: float
) -> None:
    found = improvement_percent(result, reference, metric=metric, higher_is_better=higher)
    assert found == pytest.approx(percent, nan_ok=True)
    assert percent or found == 0
