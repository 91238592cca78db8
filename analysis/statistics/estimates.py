"""Location and spread of one sample, and what an estimate says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.statistics.summary import LEVEL, Floats

Statistic = Callable[..., Floats]
"""A function of an array and an ``axis`` that it reduces."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        statistic: What was estimated, as ``mean``.
        n: Values that went in.
        value: The estimate; ``None`` for n = 0.
        low: Lower end of its interval; ``None`` where there is none, as for n = 1.
        high: Upper end.
        level: Confidence level of the interval.
        method: How the interval was made.
    """

    statistic: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    method: str = ""

    def __str__(self) -> str:
        """Say it whole: ``mean 2, n=3, 95 % percentile bootstrap 1 to 3``."""
        value = "none" if self.value is None else f"{self.value:g}"
        text = f"{self.statistic} {value}, n={self.n}"
        if self.low is None or self.high is None:
            return text
        return f"{text}, {100 * self.level:g} % {self.method} {self.low:g} to {self.high:g}"


def mean(values: npt.ArrayLike, axis: int = -1) -> Floats:
    """Arithmetic mean, ``sum(x) / n``."""
    return np.asarray(np.mean(np.asarray(values, dtype=np.float64), axis=axis))


def median(values: npt.ArrayLike, axis: int = -1) -> Floats:
    """Middle value; the mean of the middle two where n is even."""
    return np.asarray(np.median(np.asarray(values, dtype=np.float64), axis=axis))


def interquartile_mean(values: npt.ArrayLike, axis: int = -1) -> Floats:
    """Mean of what is left when ``floor(n / 4)`` values are cut off at either end.

    So where n is no multiple of 4 more than half of the values are kept, and for n < 4 all are: it
    is then the mean.

    Args:
        values: At least one along ``axis``.
        axis: Axis to reduce.

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.3.
    """
    from scipy.stats import trim_mean  # half a second, of which most reports need nothing

    return np.asarray(trim_mean(values, 0.25, axis=axis))


STATISTICS: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "interquartile mean": interquartile_mean,
}


def finite(values: npt.ArrayLike) -> Floats:
    """Values of one sample without those that are not finite, ``[n]``."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def check_level(level: float) -> None:
    """Raise ``ValueError`` unless ``level`` lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"Invalid level: {level}. Must be > 0 and < 1.")
