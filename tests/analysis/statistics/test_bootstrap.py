import itertools
import math

import numpy as np
import pytest
import scipy.stats

from analysis.statistics.bootstrap import BATCH, bootstrap, interval, stratified
from analysis.statistics.estimates import STATISTICS


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact(strata: list[list[float]], statistic: str, level: float) -> tuple[float, float]:
    """The percentile interval over every possible resample, each as likely as another."""
    products = [itertools.product(sample, repeat=len(sample)) for sample in strata]
    values = sorted(
        float(STATISTICS[statistic](np.concatenate([np.array(part) for part in parts])))
        for parts in itertools.product(*[list(product) for product in products])
    )
    low = values[math.floor((1 - level) / 2 * (len(values) - 1))]
    high = values[math.ceil((1 + level) / 2 * (len(values) - 1))]
    return low, high


@pytest.mark.parametrize("statistic", ["mean", "median", "interquartile mean"])
def test_interval_is_that_of_all_resamples(statistic: str) -> None:
    # An uneven level: its quantiles fall within a step of the exact distribution, not between two.
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    made = bootstrap(values, statistic, generator=seeded(), level=0.87, resamples=40_000)

    assert (made.low, made.high) == pytest.approx(exact([values], statistic, 0.87), abs=0.35)
    assert (made.statistic, made.n, made.level) == (statistic, 5, 0.87)


@pytest.mark.parametrize("resamples", [499, 1700])
def test_the_interval_is_that_of_scipy(resamples: int) -> None:
    """Of the same stream, whether the resamples fit a whole number of batches or not."""
    samples = [seeded(1).normal(size=n) for n in (3, 5)]

    def apart(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis) - y.mean(axis)

    found = interval(samples, apart, generator=seeded(2), level=0.9, resamples=resamples)
    theirs = scipy.stats.bootstrap(
        samples,
        apart,
        n_resamples=resamples,
        batch=BATCH,
        confidence_level=0.9,
        method="percentile",
        rng=seeded(2),
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_two_values_by_hand() -> None:
    # Resamples of {0, 1} have the means 0, 1/2, 1 with 1/4, 1/2, 1/4: the middle 40 % is 1/2, which
    # is no interval.
    made = bootstrap([0.0, 1.0], generator=seeded(), level=0.4)
    assert (made.value, made.low, made.high) == (0.5, None, None)
    made = bootstrap([0.0, 1.0], generator=seeded(), level=0.6)
    assert (made.low, made.high) == (0.0, 1.0)


def test_equal_values_have_no_interval_as_one_without_width_would_be_certainty() -> None:
    made = bootstrap([100.0 * 353 / 359, 353 / 359 * 100.0, 98.328691], generator=seeded())
    assert made.low is not None
    made = bootstrap([100.0 * 353 / 359, 353 / 359 * 100.0] * 2, generator=seeded())
    assert (made.value, made.low) == (pytest.approx(100 * 353 / 359), None)


def test_one_value_has_no_interval_and_none_has_no_value() -> None:
    one, none = bootstrap([5.0], generator=seeded()), bootstrap([math.nan], generator=seeded())
    assert (one.n, one.value, one.low, one.high) == (1, 5.0, None, None)
    assert (none.n, none.value, none.low, none.high) == (0, None, None, None)


def test_the_generator_alone_decides() -> None:
    values = np.arange(7.0) ** 2
    first = bootstrap(values, generator=seeded(3), resamples=200)
    np.random.default_rng().random(10)
    assert first == bootstrap(values, generator=seeded(3), resamples=200)
    assert first != bootstrap(values, generator=seeded(4), resamples=200)


def test_an_unknown_statistic_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="Invalid statistic: mode"):
        bootstrap([1.0, 2.0], "mode", generator=seeded())
    with pytest.raises(ValueError, match="Invalid level"):
        bootstrap([1.0, 2.0], generator=seeded(), level=95)


def test_strata_keep_their_runs() -> None:
    # The first task does not vary, and is in every resample as often, however far off it is.
    made = stratified([[0.0, 0.0], [100.0, 102.0]], "mean", generator=seeded(), level=0.6)
    assert (made.value, made.low, made.high, made.n) == (50.5, 50.0, 51.0, 4)
    assert "stratified" in made.method
    assert stratified([[0.0, 0.0], [9.0, 9.0]], "mean", generator=seeded()).low is None


def test_stratified_interval_is_that_of_all_resamples() -> None:
    tasks = [[0.0, 1.0, 5.0], [10.0, 12.0, 17.0]]
    made = stratified(tasks, "mean", generator=seeded(), level=0.87, resamples=40_000)
    assert (made.low, made.high) == pytest.approx(exact(tasks, "mean", 0.87), abs=0.2)


def test_a_task_with_one_run_takes_the_interval_away() -> None:
    made = stratified([[1.0, 2.0], [3.0]], "mean", generator=seeded())
    assert (made.n, made.value, made.low) == (3, 2.0, None)
    assert stratified([], generator=seeded()).value is None
