import math

import pytest
import scipy.integrate
import scipy.stats

from analysis.statistics.power import power, seeds_needed

# Sample sizes for a power of 80 % at 5 %, two-sided: Cohen (1988), table 2.4.1 (small, medium and
# large d, two samples: 393, 64, 26; 394 by the exact distribution), and G*Power for pairs.
PUBLISHED = {
    "two samples, small": (0.2, False, 394),
    "two samples, medium": (0.5, False, 64),
    "two samples, large": (0.8, False, 26),
    "pairs, small": (0.2, True, 199),
    "pairs, medium": (0.5, True, 34),
    "pairs, large": (0.8, True, 15),
}


@pytest.mark.parametrize(("d", "paired", "n"), PUBLISHED.values(), ids=list(PUBLISHED.keys()))
def test_seeds_needed_are_those_of_the_published_tables(d: float, paired: bool, n: int) -> None:
    assert seeds_needed(d, 1.0, paired=paired) == n
    assert seeds_needed(-3 * d, 3.0, paired=paired) == n


def integrated(difference: float, n: int, paired: bool) -> float:
    """Power without the noncentral t: the normal mean, averaged over the spread that is drawn."""
    freedom = n - 1 if paired else 2 * n - 2
    shift = difference * math.sqrt(n if paired else n / 2)
    critical = scipy.stats.t.ppf(0.975, freedom)

    def found(variance: float) -> float:
        limit = critical * math.sqrt(variance / freedom)
        beyond = scipy.stats.norm.cdf(shift - limit) + scipy.stats.norm.cdf(-shift - limit)
        return float(beyond * scipy.stats.chi2.pdf(variance, freedom))

    return scipy.integrate.quad(found, 0, math.inf, limit=200)[0]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("difference", "n"), [(0.1, 3), (1.0, 5), (2.0, 4), (0.7, 20)])
def test_power_is_that_of_a_normal_mean_over_a_random_spread(
    difference: float, n: int, paired: bool
) -> None:
    expected = integrated(difference, n, paired)
    assert power(difference, 1.0, n, paired=paired) == pytest.approx(expected, abs=1e-6)


def test_limits() -> None:
    assert power(0.0, 1.0, 5) == pytest.approx(0.05)  # nothing to find: the size of the test
    assert power(0.0, 1.0, 5, level=0.99) == pytest.approx(0.01)
    assert power(1e6, 1.0, 5) == pytest.approx(1.0)
    assert power(100.0, 1.0, 1) == 0.0
    assert seeds_needed(1e6, 1.0) == 2
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1e-4, 1.0) is None


def test_a_spread_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid std: 0"):
        power(1.0, 0.0, 5)
