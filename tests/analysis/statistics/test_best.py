from typing import Any

import pandas as pd
import pytest

from analysis.statistics.best import best

NOISE = [0.0, 0.3, -0.2, 0.1, -0.1, 0.2, -0.3, 0.05]


def runs(mean: float, *, seeds: int = 8, step: float = 0.01, **columns: Any) -> pd.DataFrame:
    # Paired: the seeds' noise is common, and a small part of it is the method's own.
    values = [mean + NOISE[seed] + step * seed for seed in range(seeds)]
    frame = pd.DataFrame({"seed": range(seeds), "final": values})
    given = {"status": "done", "ruleset": "paper", "higher_is_better": True, **columns}
    return frame.assign(tuning=None, **given)


def test_the_best_is_better_than_every_other() -> None:
    made = best({"adam": runs(90), "sgd": runs(92, step=0.0), "muon": runs(91)})
    assert (made.leader, made.significant) == ("sgd", True)
    assert set(made.against) == {"adam", "muon"}
    assert [one.family for one in made.against.values()] == [2, 2]


def test_one_that_it_is_not_told_apart_from_takes_the_significance() -> None:
    twin = runs(92, step=0.0)
    twin["final"] += [0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.05, -0.06]
    made = best({"adam": runs(90), "sgd": runs(92, step=0.0), "twin": twin})
    assert not made.significant
    assert made.against["adam"].outcome == "better"


def test_the_direction_of_the_metric() -> None:
    lower = {"higher_is_better": False}
    made = best({"adam": runs(90, **lower), "sgd": runs(92, step=0.0, **lower)})
    assert (made.leader, made.significant) == ("adam", True)


def test_the_correction_counts_all_methods() -> None:
    # 8 seeds reach p = 1/128: enough for six methods at 5 %, not for seven.
    others = {f"m{i}": runs(90 - i, step=0.01 * (i + 1)) for i in range(7)}
    first = runs(95, step=0.0)
    assert best({"sgd": first, **dict(list(others.items())[:6])}).significant
    assert not best({"sgd": first, **others}).significant


def test_one_seed_makes_no_best() -> None:
    made = best({"adam": runs(10, seeds=1), "sgd": runs(99, seeds=1)})
    assert (made.leader, made.significant) == ("sgd", False)
    assert made.against["adam"].outcome == "inconclusive"


@pytest.mark.parametrize(("status", "significant"), [("failed", False), ("diverged", True)])
def test_a_method_that_was_not_measured_takes_the_significance_and_one_that_diverged_does_not(
    status: str, significant: bool
) -> None:
    made = best({"adam": runs(90), "sgd": runs(92, step=0.0), "kfac": runs(0, status=status)})
    assert (made.leader, made.significant) == ("sgd", significant)


def test_no_method_or_a_single_one_is_no_comparison() -> None:
    assert best({}).leader is None
    assert best({"kfac": runs(0, status="failed")}).leader is None
    assert not best({"adam": runs(90)}).significant
