"""Which worker of pytest-xdist runs a test, and when: a group at a time, what costs most first.

Tests of a file are a group, so that a worker loads and prepares for a file once. Of these, each
test that costs is one by itself, unless it shares a fixture that costs: those stay together, or
each worker would make it. The dearest groups come first, as the last ones decide how long a worker
waits for the others. What costs is known from ``costs.txt``.
"""

from collections.abc import Sequence
from typing import NamedTuple

DEAREST_FIRST = ("process", "compiles", "long")


class Seen(NamedTuple):
    """What counts of a test.

    Attributes:
        file: Where it is.
        kinds: Of its cost, by itself and by its fixtures.
        shares: Whether it has a fixture that costs and serves other tests, too.
    """

    file: str
    kinds: frozenset[str]
    shares: bool


def distributed(tests: Sequence[Seen]) -> list[tuple[int, str | None]]:
    """Order tests: the position of each, and the name of its group; None: it is by itself."""
    groups: dict[str | int, list[int]] = {}
    for number, test in enumerate(tests):
        by_itself = bool(test.kinds) and not test.shares
        name = f"{test.file} shared" if test.shares else test.file
        groups.setdefault(number if by_itself else name, []).append(number)
    ordered = sorted(groups, key=lambda name: min(_rank(tests[number]) for number in groups[name]))
    return [
        (number, name if isinstance(name, str) else None)
        for name in ordered
        for number in groups[name]
    ]


def _rank(test: Seen) -> int:
    ranks = [rank for rank, kind in enumerate(DEAREST_FIRST) if kind in test.kinds]
    return min(ranks, default=len(DEAREST_FIRST))
