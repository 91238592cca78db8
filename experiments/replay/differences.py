"""Two records of one config, row by row: equal to the bit, within a tolerance, or different."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.config.values import leaves

RTOL = 1e-6
"""Default tolerance, relative: eight units in the last place of float32.

That is what another order of summation costs one evaluation, on other threads or another processor.
Whatever training has amplified beyond it is not the same run any more, and an accuracy is a count:
one image more is a difference that no tolerance of rounding should hide.
"""

IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"
_CLOCKS = ("seconds", "_per_second")  # endings of what a clock decides
_NOT_COMPARED = ("date", "remarks", "earlier_code")


@dataclass(frozen=True)
class Difference:
    """One measurement of which the two records say different things."""

    step: int | None
    metric: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        """As one line of a report."""
        where = "" if self.step is None else f"step {self.step}, "
        return f"{where}{self.metric}: recorded {self.recorded!r}, replayed {self.replayed!r}"


@dataclass(frozen=True)
class RecordComparison:
    """How two lists of rows compare.

    Attributes:
        verdict: ``IDENTICAL``, ``WITHIN`` or ``DIFFERENT``.
        measurements: How many values were compared.
        first: The first that is not equal to the bit, or the first beyond the tolerance if there
            is one.
        largest: The largest relative difference of two finite values.
    """

    verdict: str
    measurements: int
    first: Difference | None
    largest: float


def compare_rows(
    recorded: Sequence[Mapping[str, Any]],
    replayed: Sequence[Mapping[str, Any]],
    *,
    rtol: float = RTOL,
) -> RecordComparison:
    """Compare row by row, without what a clock decides.

    Two values are within tolerance if ``|a - b| <= rtol * max(|a|, |b|)``; NaN equals NaN.

    Args:
        recorded: Rows of the record, by step.
        replayed: Those of the replay.
        rtol: The relative tolerance.

    Example:
        >>> a, b = {"step": 1, "test_loss": 2.0}, {"step": 1, "test_loss": 2.1}
        >>> str(compare_rows([a], [b]).first)
        'step 1, test_loss: recorded 2.0, replayed 2.1'
    """
    unequal: Difference | None = None
    beyond: Difference | None = None
    count, largest = 0, 0.0
    for difference in _pairs(recorded, replayed):
        count += 1
        a, b = difference.recorded, difference.replayed
        if _same(a, b):
            continue
        unequal = unequal or difference
        relative = _relative(a, b)
        if math.isfinite(relative):
            largest = max(largest, relative)
        if relative > rtol:
            beyond = beyond or difference
    verdict = DIFFERENT if beyond else WITHIN if unequal else IDENTICAL
    return RecordComparison(verdict, count, beyond or unequal, largest)


def compare_environments(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> list[str]:
    """One line for each fact that differs, as ``packages.torch: recorded 2.11.0, replayed 2.14.1``.

    A fact that the record lacks, as an older version of the suite wrote it, is no difference.
    """
    old, new = dict(leaves(recorded)), dict(leaves(replayed))
    return [
        f"{key}: recorded {_text(value)}, replayed {_text(new.get(key))}"
        for key, value in old.items()
        if key.partition(".")[0] not in _NOT_COMPARED and new.get(key) != value
    ]


def _pairs(
    recorded: Sequence[Mapping[str, Any]], replayed: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    """Every pair of values, equal or not, in the order in which they were measured."""
    for index in range(max(len(recorded), len(replayed))):
        a = recorded[index] if index < len(recorded) else None
        b = replayed[index] if index < len(replayed) else None
        if a is None or b is None:
            step = (a or b or {}).get("step")
            yield Difference(step, "row", *("none" if row is None else "one" for row in (a, b)))
            continue
        step = a.get("step")
        for key in [*a, *(key for key in b if key not in a)]:
            if not key.endswith(_CLOCKS):
                yield Difference(step, key, a.get(key), b.get(key))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _relative(a: Any, b: Any) -> float:
    """Relative difference; infinite where the two cannot be subtracted."""
    if not (isinstance(a, int | float) and isinstance(b, int | float)):
        return math.inf
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))


def _text(value: Any) -> str:
    return "nothing" if value is None else str(value)
