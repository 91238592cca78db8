from itertools import product

import numpy as np
import pytest
import scipy.stats

from analysis.statistics.bands import bootstrap


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_seeds_are_all_resamples_there_are(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(n, 6))
    means = np.array([values[list(pick)].mean(axis=0) for pick in product(range(n), repeat=n)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0, method="inverted_cdf")

    found_n, mean, std, found_low, found_high = bootstrap(values)

    assert found_n.tolist() == [n] * 6
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(std, values.std(axis=0, ddof=1))
    np.testing.assert_allclose(found_low, low)
    np.testing.assert_allclose(found_high, high)


@pytest.mark.parametrize("n", [7, 20])
def test_many_seeds_agree_with_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(n, 20))
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4999, rng=np.random.default_rng(0)
    ).confidence_interval

    *_, low, high = bootstrap(values)

    error = values.std(axis=0) / np.sqrt(n)  # both quantiles are estimates, to a part of this
    assert np.max(np.abs(low - theirs.low) / error) < 0.4
    assert np.max(np.abs(high - theirs.high) / error) < 0.4


def test_random_resamples_are_the_same_each_time_and_follow_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=(9, 3))
    assert bootstrap(values)[3].tolist() == bootstrap(values)[3].tolist()
    assert bootstrap(values)[3].tolist() != bootstrap(values, seed=1)[3].tolist()


def test_a_wider_level_gives_a_wider_band() -> None:
    values = np.random.default_rng(0).normal(size=(6, 1))
    low, high = bootstrap(values, level=0.5)[3:]
    wider_low, wider_high = bootstrap(values, level=0.95)[3:]
    assert wider_low[0] < low[0] < high[0] < wider_high[0]


def test_each_point_counts_the_seeds_that_are_there() -> None:
    nan = np.nan
    values = [[1.0, 1.0, nan, nan], [3.0, nan, 5.0, nan], [8.0, nan, 6.0, nan]]

    n, mean, std, low, high = bootstrap(values)

    assert n.tolist() == [3, 1, 2, 0]
    np.testing.assert_allclose(mean, [4, 1, 5.5, nan])
    np.testing.assert_allclose(std, [np.sqrt(13), nan, np.sqrt(0.5), nan])
    np.testing.assert_allclose(low, [1, nan, 5, nan])
    np.testing.assert_allclose(high, [8, nan, 6, nan])
