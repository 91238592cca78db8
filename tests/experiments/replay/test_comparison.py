"""Verdicts on rows, at the bounds; what differs in two environments, by name."""

import math

import pytest

from experiments.replay.differences import compare_environments, compare_rows

ROWS = [
    {"step": 10, "train_seconds": 1.0, "train_loss": 0.5, "test_accuracy_percent": 90.0},
    {"step": 20, "train_seconds": 2.0, "train_loss": 0.25, "test_accuracy_percent": 95.0},
]


def changed(row, **values):
    return [{**old, **(values if index == row else {})} for index, old in enumerate(ROWS)]


def test_times_are_not_compared():
    other = changed(1, train_seconds=9.0, images_per_second=3.0)
    found = compare_rows(ROWS, other)
    assert (found.verdict, found.first, found.measurements) == ("identical", None, 6)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1 + 2**-52, "within tolerance"), (1 + 0.9e-6, "within tolerance"), (1 + 1.1e-6, "different")],
)
def test_the_verdict_turns_at_the_tolerance(factor, verdict):
    found = compare_rows(ROWS, changed(1, train_loss=0.25 * factor))
    assert found.verdict == verdict
    assert (found.first.step, found.first.metric) == (20, "train_loss")
    assert found.largest == pytest.approx(factor - 1, rel=1e-3)


def test_the_first_that_differs_is_named_and_not_one_that_is_only_rounded():
    other = changed(0, train_loss=0.5 * (1 + 1e-9))
    other[1] = {**other[1], "test_accuracy_percent": 94.0}
    found = compare_rows(ROWS, other)
    assert str(found.first) == "step 20, test_accuracy_percent: recorded 95.0, replayed 94.0"


def test_a_tolerance_of_nothing_still_takes_equal_values():
    assert compare_rows(ROWS, ROWS, rtol=0.0).verdict == "identical"
    assert compare_rows(ROWS, changed(0, train_loss=0.5 + 2**-53), rtol=0.0).verdict == "different"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (ROWS[:1], "step 20, row: recorded 'one', replayed 'none'"),
        ([*ROWS, {"step": 30}], "step 30, row: recorded 'none', replayed 'one'"),
        (changed(0, step=11), "step 10, step: recorded 10, replayed 11"),
        (changed(0, extra=1.0), "step 10, extra: recorded None, replayed 1.0"),
        (changed(0, train_loss=math.nan), "step 10, train_loss: recorded 0.5, replayed nan"),
        (changed(0, train_loss=math.inf), "step 10, train_loss: recorded 0.5, replayed inf"),
        (changed(0, train_loss=-0.5), "step 10, train_loss: recorded 0.5, replayed -0.5"),
    ],
    ids=["row missing", "row more", "other step", "metric more", "nan", "infinite", "sign"],
)
def test_what_no_tolerance_covers_is_different(other, told):
    found = compare_rows(ROWS, other, rtol=1e-2)
    assert (found.verdict, str(found.first)) == ("different", told)


def test_nan_is_the_same_as_nan_and_zero_as_zero():
    rows = [{"step": 1, "train_loss": math.nan, "lr": 0.0}]
    assert compare_rows(rows, [{"step": 1, "train_loss": math.nan, "lr": -0.0}]).verdict == (
        "identical"
    )


def test_environments_differ_by_name():
    old = {
        "python": "3.11.2",
        "packages": {"torch": "2.11.0", "numpy": "2.4"},
        "code": {"commit": "a", "uncommitted_changes": True, "patch_sha256": "b"},
        "data_sha256": {"x.npz": "1"},
        "threads": 2,
        "remarks": ["one"],
        "pretrained": None,
    }
    new = {
        "python": "3.11.2",
        "packages": {"torch": "2.14.1", "numpy": "2.4", "timm": "1.0"},
        "code": {"commit": "a", "uncommitted_changes": False},
        "data_sha256": {"x.npz": "2"},
        "threads": 1,
        "remarks": [],
        "pretrained": None,
        "cpu_capability": "AVX2",
    }
    assert compare_environments(old, new) == [
        "packages.torch: recorded 2.11.0, replayed 2.14.1",
        "code.uncommitted_changes: recorded True, replayed False",
        "code.patch_sha256: recorded b, replayed nothing",
        "data_sha256.x.npz: recorded 1, replayed 2",
        "threads: recorded 2, replayed 1",
    ]
    assert compare_environments(old, old) == []
