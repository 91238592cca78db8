"""Does a mean over seeds equal a published one, by a margin?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from analysis.statistics.equality import are_equal, subtract
from analysis.statistics.estimates import check_level, finite
from analysis.statistics.summary import LEVEL, Floats

EQUAL, HIGHER, LOWER, INCONCLUSIVE = "equal", "higher", "lower", "inconclusive"
FEWEST_SEEDS = 3
"""Two values that happen to be close would pass for certainty."""

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Reference:
    """A published mean.

    Attributes:
        mean: The number.
        std: Population standard deviation (divisor n) over its runs; ``None`` where not published.
        n: Its runs; ``None`` where not known.
    """

    mean: float
    std: float | None = None
    n: int | None = None

    @property
    def runs(self) -> int:
        """The fewest runs that it can be the mean of: ``n``, else 2 if it has a spread, else 1."""
        return self.n or (1 if self.std is None else 2)

    @property
    def sample_std(self) -> float | None:
        """Sample standard deviation (divisor n - 1)."""
        if self.std is None or self.runs < 2:
            return None
        return self.std * float(np.sqrt(self.runs / (self.runs - 1)))


@dataclass(frozen=True)
class Equivalence:
    """Where the difference lies with respect to the margin.

    Attributes:
        outcome: ``equal``, ``higher``, ``lower`` (ours), or ``inconclusive``.
        n: Our seeds.
        difference: Ours minus published; ``None`` for n = 0.
        low: Lower end of its interval; ``None`` for n < 2, and where all our seeds are equal.
        high: Its upper end.
        margin: Bound of what counts as equal.
        more_seeds: Seeds still needed to decide if mean and spread stay as they are; 0 if decided,
            ``None`` if none up to ``MOST_SEEDS`` do.
        level: Confidence level of the interval.
        statistic: What ``difference`` is.
    """

    outcome: str
    n: int
    difference: float | None
    low: float | None
    high: float | None
    margin: float
    more_seeds: int | None
    level: float = LEVEL
    statistic: str = "difference of the means"


def equivalence(
    values: npt.ArrayLike, reference: Reference, *, margin: float, level: float = LEVEL
) -> Equivalence:
    r"""Compare the mean of our seeds with a published mean.

    .. math:: d \pm t_\nu \sqrt{s^2 / n + s_r^2 / n_r}

    ``equal`` if this interval lies within ``[-margin, margin]``, ``higher`` or ``lower`` if it lies
    wholly beyond. With a published spread, ``nu`` is Welch's. Without one, the published runs are
    taken to scatter as ours do, and ``nu = n - 1``. A reference of unknown n counts as the fewest
    runs that it can be. Fewer than ``FEWEST_SEEDS`` seeds, or seeds that are all equal
    (``equality``), decide nothing.

    Args:
        values: Ours, ``[n]``; what is not finite is left out.
        reference: The published mean.
        margin: Largest difference that counts as equal, in the unit of the values.
        level: Confidence level.

    Raises:
        ValueError: If ``margin`` is not positive or ``level`` is invalid.

    Reference:
        Schuirmann (1987), two one-sided tests, J. Pharmacokinetics and Biopharmaceutics 15; Welch
        (1947), Biometrika 34.
    """
    check_level(level)
    if not margin > 0:
        raise ValueError(f"Invalid margin: {margin}. Must be > 0.")
    sample = finite(values)
    n = sample.size
    if n == 0:
        return Equivalence(INCONCLUSIVE, 0, None, None, None, margin, FEWEST_SEEDS, level)
    difference = float(subtract(sample.mean(), reference.mean))
    spread = None if are_equal(sample) else float(sample.std(ddof=1))
    guess = spread or reference.sample_std
    more = FEWEST_SEEDS - n
    if guess:
        counts = np.arange(max(n + 1, FEWEST_SEEDS), n + MOST_SEEDS + 1)
        enough = _half_width(counts, guess, reference, level) <= abs(abs(difference) - margin)
        more = int(counts[enough][0]) - n if enough.any() else MOST_SEEDS + 1
    more_seeds = None if more > MOST_SEEDS else max(1, more)
    if spread is None:
        return Equivalence(INCONCLUSIVE, n, difference, None, None, margin, more_seeds, level)
    half = float(_half_width(np.array([n]), spread, reference, level)[0])
    low, high = difference - half, difference + half
    outcome = INCONCLUSIVE
    if n >= FEWEST_SEEDS:
        if -margin <= low and high <= margin:
            outcome = EQUAL
        elif low > margin or high < -margin:
            outcome = HIGHER if low > margin else LOWER
    decided = outcome != INCONCLUSIVE
    return Equivalence(
        outcome, n, difference, low, high, margin, 0 if decided else more_seeds, level
    )


def _half_width(counts: npt.ArrayLike, spread: float, reference: Reference, level: float) -> Floats:
    """Half the interval of the difference, for each number of our seeds."""
    n = np.asarray(counts, dtype=np.float64)
    runs, ours = reference.runs, spread**2 / np.asarray(counts, dtype=np.float64)
    if reference.sample_std is None:
        variance, freedom = ours + spread**2 / runs, n - 1
    else:
        theirs = reference.sample_std**2 / runs
        variance = ours + theirs
        freedom = variance**2 / (ours**2 / (n - 1) + theirs**2 / (runs - 1))
    return np.asarray(stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance))
