"""When results are equal: one rule, so that nothing hangs on the last bit of a sum.

Two results are equal if they agree to ``RELATIVE`` of the larger one. For accuracies that is the
same count of test rows: of N rows two counts differ by 1/N or more, beyond the rule for every N
below a billion, and one count that was summed up in two ways differs by some 1e-16, within it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RELATIVE = 1e-9


def tolerance(*results: npt.ArrayLike) -> float:
    """Largest difference of results of this size that are equal; 0 for none.

    Args:
        results: Samples of any shape; what is not finite is left out.
    """
    flat = np.concatenate([np.ravel(np.asarray(one, dtype=np.float64)) for one in results])
    return RELATIVE * float(np.abs(flat[np.isfinite(flat)]).max(initial=0.0))


def are_equal(values: npt.ArrayLike, *, of: tuple[npt.ArrayLike, ...] = ()) -> bool:
    """Tell whether all values are equal, so that they tell no spread; one value or none is.

    Args:
        values: ``[n]``; finite.
        of: For differences, the results that were subtracted: their size is what counts.
    """
    sample = np.asarray(values, dtype=np.float64)
    return sample.size < 2 or bool(np.ptp(sample) <= tolerance(*(of or (sample,))))


def subtract(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Floats:
    """Subtract element by element, with broadcasting; exactly 0 where both are equal."""
    x, y = (np.asarray(values, dtype=np.float64) for values in (ours, theirs))
    with np.errstate(invalid="ignore"):  # of infinite ones there is no difference
        difference = x - y
    near = np.abs(difference) <= RELATIVE * np.maximum(np.abs(x), np.abs(y))
    return np.asarray(np.where(near & np.isfinite(difference), 0.0, difference))
