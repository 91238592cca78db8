import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.expected_best import expected_best, trial_results

RESULTS = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(RESULTS, st.booleans())
def test_it_is_the_mean_over_all_draws_with_replacement(values: list[float], higher: bool) -> None:
    made = expected_best(values, higher_is_better=higher, most=min(3, len(values)))
    for _, row in made.iterrows():
        draws = itertools.product(values, repeat=int(row["trials"]))
        best = [max(draw) if higher else min(draw) for draw in draws]
        assert row["value"] == pytest.approx(np.mean(best))
        assert row["std"] == pytest.approx(np.std(best), abs=1e-6)


def test_two_trials_by_hand() -> None:
    # One draw of {1, 3}: 2. Two draws: the best is 3 but for the draw (1, 1): 2.5.
    made = expected_best([3.0, 1.0], higher_is_better=True)
    assert made["trials"].tolist() == [1, 2]
    assert made["value"].tolist() == [2.0, 2.5]
    assert made["n"].tolist() == [2, 2]


def test_a_failed_trial_counts_at_what_it_is_said_to_be_worth() -> None:
    with pytest.raises(ValueError, match="1 of 2 trials failed"):
        expected_best([90.0, float("nan")], higher_is_better=True)
    made = expected_best([90.0, float("nan")], higher_is_better=True, failed_value=10.0)
    assert made["value"].tolist() == [50.0, 70.0]


def test_more_trials_than_there_are_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="Invalid most: 3"):
        expected_best([1.0, 2.0], higher_is_better=True, most=3)
    assert expected_best([], higher_is_better=True).empty


@pytest.mark.parametrize(("higher", "expected"), [(True, [9.0, 5.0]), (False, [1.0, 5.0])])
def test_trials_are_read_off_their_runs(higher: bool, expected: list[float]) -> None:
    columns = ["run_id", "group_id", "status"]
    rows = [
        ("a", "one", "done"),
        ("b", "two seeds", "done"),
        ("c", "two seeds", "done"),
        ("d", "diverged", "diverged"),
        ("e", "a seed diverged", "done"),
        ("f", "a seed diverged", "diverged"),
        ("g", "never finite", "done"),
        ("h", "no curve", "done"),
    ]
    curves = {"a": [1.0, 9.0, math.inf], "b": [5.0], "c": [7.0, 3.0], "d": [99.0], "e": [98.0]}
    curves |= {"f": [97.0], "g": [math.inf]}
    made = trial_results(
        pd.DataFrame(rows, columns=columns),
        {name: (np.arange(len(y)), np.array(y)) for name, y in curves.items()},
        higher_is_better=higher,
    )
    assert made[:2].tolist() == expected
    assert np.isnan(made[2:]).tolist() == [True] * 4
