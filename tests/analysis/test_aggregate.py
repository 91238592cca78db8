import math
import statistics

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.statistics.summary import GRID_POINTS, Summary, curve, moments, summarize

VALUES = [97.1, 98.4, 96.9, 98.0]


def runs(*ended: tuple[str, float | None]) -> pd.DataFrame:
    return pd.DataFrame([{"status": status, "final": value} for status, value in ended])


def test_mean_std_and_interval_are_those_of_statistics_and_scipy() -> None:
    n, mean, std, low, high = moments(VALUES)

    assert n == 4
    assert mean == pytest.approx(statistics.mean(VALUES), rel=1e-12)
    assert std == pytest.approx(statistics.stdev(VALUES), rel=1e-12)
    expected = scipy.stats.t.interval(0.95, 3, statistics.mean(VALUES), scipy.stats.sem(VALUES))
    assert (low, high) == pytest.approx(expected, rel=1e-12)


def test_interval_by_hand() -> None:
    # Mean 2, std 1, n 3; the table of Student's t gives 4.3027 for 2 degrees and 95 %.
    _, mean, std, low, high = moments([1.0, 2.0, 3.0])

    assert (mean, std) == (2.0, 1.0)
    assert high - mean == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert mean - low == pytest.approx(high - mean)


def test_a_higher_level_is_a_wider_interval() -> None:
    *_, low, high = moments(VALUES, level=0.99)
    expected = scipy.stats.t.interval(0.99, 3, statistics.mean(VALUES), scipy.stats.sem(VALUES))
    assert (low, high) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_its_bounds_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"Invalid level: {level}"):
        moments(VALUES, level=level)


def test_equal_seeds_have_no_spread_not_even_of_the_last_bit() -> None:
    for count in range(300, 359):  # of 359 test images, worked out in two ways
        same = (100.0 * count / 359, count / 359 * 100.0, 100.0 * count / 359)
        summary = summarize(runs(*(("done", value) for value in same)), "final", expected=3)
        assert (summary.std, summary.low) == (0.0, summary.mean)
        assert summary.mean == pytest.approx(same[0])
    columns = np.array([[0.1, 1.0], [0.1, 2.0], [0.1 + 1e-16, np.nan]])
    assert moments(columns)[2].tolist() == [0.0, pytest.approx(math.sqrt(0.5))]


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    summary = summarize(runs(("done", 98.0)), "final", expected=1)

    assert (summary.n, summary.mean) == (1, 98.0)
    assert (summary.std, summary.low, summary.high) == (None, None, None)
    assert summary.note == "n=1"


def test_runs_that_did_not_end_well_are_counted_and_not_averaged() -> None:
    ended = runs(
        ("done", 90.0),
        ("done", 92.0),
        ("diverged", 10.0),
        ("failed", None),
        ("out_of_memory", None),
        ("interrupted", 50.0),
        ("running", 60.0),
    )
    summary = summarize(ended, "final", expected=7)

    assert (summary.n, summary.mean) == (2, 91.0)
    assert summary.note == ("n=2/7, diverged 1/7, failed 1/7, out of memory 1/7, incomplete 2/7")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_run_that_is_done_without_a_finite_value_is_named(value: float | None) -> None:
    summary = summarize(runs(("done", 90.0), ("done", value), ("done", 92.0)), "final", expected=3)

    assert (summary.n, summary.mean, summary.not_finite) == (2, 91.0, 1)
    assert summary.note == "n=2/3, not finite 1/3"


NOTES = {
    "all there": (Summary(n=3, mean=1.0, expected=3), "n=3"),
    "one missing": (Summary(n=2, mean=1.0, expected=3), "n=2/3"),
    "one diverged": (Summary(n=2, mean=1.0, expected=3, diverged=1), "n=2/3, diverged 1/3"),
    "one not finite": (Summary(n=2, mean=1.0, not_finite=1), "n=2/3, not finite 1/3"),
    "none left": (Summary(n=0, expected=3, diverged=1, failed=2), "diverged 1/3, failed 2/3"),
    "done without a number": (Summary(n=0, expected=3), "n=0/3"),
}


@pytest.mark.parametrize(("summary", "note"), NOTES.values(), ids=NOTES.keys())
def test_the_note_says_n_and_what_is_missing(summary: Summary, note: str) -> None:
    assert summary.note == note


def line(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = zip(*points, strict=True)
    return np.array(x), np.array(y)


def test_curves_of_unequal_length_are_averaged_where_each_has_a_value() -> None:
    band = curve([line((1, 10), (2, 20), (3, 30)), line((1, 14), (2, 24))])

    assert list(band["x"]) == [1, 2]
    assert list(band["n"]) == [2, 2]
    assert list(band["mean"]) == [12, 22]
    assert band["std"].tolist() == pytest.approx([statistics.stdev([10, 14])] * 2)
    expected = scipy.stats.t.interval(0.95, 1, 12, scipy.stats.sem([10, 14]))
    assert band.loc[0, ["low", "high"]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("to_shortest", [False, True])
def test_curves_that_share_no_point_have_no_mean(to_shortest: bool) -> None:
    assert curve([line((1, 10), (2, 20)), line((3, 30))], to_shortest=to_shortest).empty


def test_a_point_between_evaluations_is_interpolated() -> None:
    band = curve([line((0, 0), (2, 20)), line((0, 2), (1, 12), (2, 22))])

    assert band["mean"].tolist() == [1, 11, 21]


def test_on_time_the_grid_is_what_all_seeds_cover() -> None:
    band = curve([line((1, 1), (9, 9)), line((2, 2), (5, 5))], to_shortest=True)

    assert len(band) == GRID_POINTS
    assert (band["x"].iloc[0], band["x"].iloc[-1]) == (2, 5)
    assert (band["n"] == 2).all()
    assert band["mean"].tolist() == pytest.approx(band["x"].tolist())


def test_points_that_are_not_finite_are_left_out() -> None:
    band = curve([line((1, 1.0), (2, math.inf), (3, math.nan)), line((1, 3.0))])

    assert band["mean"].tolist() == [2.0]


def test_a_value_that_is_not_finite_is_a_gap_of_the_mean() -> None:
    healthy = line((1, 30), (2, 28), (3, 26), (4, 24), (5, 22))
    lost = line((1, 20), (2, math.inf), (3, math.nan), (4, 11), (5, 10))
    band = curve([healthy, healthy, lost])

    assert band["n"].tolist() == [3, 0, 0, 3, 3]
    np.testing.assert_allclose(band["mean"], [80 / 3, math.nan, math.nan, 59 / 3, 18])
    # Between a gap and its neighbours there is no value either: the second seed has none at 1.5.
    band = curve([line((1, 30), (1.5, 29), (2, 28)), line((1, 20), (2, math.nan))])
    assert band["x"].tolist() == [1]


def test_a_gap_of_all_seeds_is_not_drawn_across() -> None:
    alone = line((1, 20), (2, math.inf), (3, 12), (4, 11), (5, math.nan))
    band = curve([alone])

    assert band["x"].tolist() == [1, 2, 3, 4]
    assert band["n"].tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(band["mean"], [20, math.nan, 12, 11])
    band = curve([alone], to_shortest=True)
    assert (band["x"].iloc[0], band["x"].iloc[-1]) == (1, 4)
    assert band["mean"][(band["x"] > 1) & (band["x"] < 3)].isna().all()
    assert band["mean"][band["x"] >= 3].notna().all()


def test_no_curves_make_no_band() -> None:
    assert curve([]).empty
    assert curve([line((1, math.nan))]).empty
