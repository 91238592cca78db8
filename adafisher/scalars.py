"""Numbers, and what holds one: tensors of one element and scalars of NumPy."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


def as_number(value: Any) -> Any:
    """Take the number out of a tensor of one element or a scalar of NumPy; all else stays."""
    holds_one = isinstance(value, Tensor) and value.numel() == 1
    if holds_one or (hasattr(value, "item") and getattr(value, "ndim", None) == 0):
        return value.item()
    return value


def check_number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Raise unless ``value`` is a finite number with ``low <=, above <, <= high, < below``."""
    value = as_number(value)
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">=", low), (">", above), ("<=", high), ("<", below))
        if bound is not None
    ]
    valid = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )
    if not valid:
        raise ValueError(
            f"Invalid {name}: {value!r}. Must be a finite number {' and '.join(bounds)}."
        )
