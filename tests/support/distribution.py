"""The order of files where several workers of pytest-xdist run them: what costs most comes first.

A worker takes a file at a time (``--dist=loadfile``), so that what the tests of a file share is
made once. The last files decide how long a worker waits for the others: those should be short.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence

SECONDS = {"process": 10.0, "compiles": 3.0, "long": 0.5}
"""About what a test of a kind takes."""
OTHERS_SECONDS = 0.02


def dearest_first(tests: Sequence[tuple[str, Collection[str]]]) -> list[int]:
    """Order tests by what those of their file cost together; within a file they stay as they are.

    Args:
        tests: The file of each, and the kinds of its cost.

    Returns:
        Their positions.
    """
    costs: dict[str, float] = defaultdict(float)
    for file, kinds in tests:
        costs[file] += max((SECONDS[kind] for kind in kinds), default=OTHERS_SECONDS)
    return sorted(
        range(len(tests)), key=lambda number: (-costs[tests[number][0]], tests[number][0])
    )
