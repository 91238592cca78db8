"""Whether what is to take the same time was timed alike.

A budget that matches a training time gives a method the reference's steps over the ratio of a step.
On another machine, or with another number of threads, that is another ratio, and no equal time. In
a budget of seconds the faster machine trains for longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def timed_apart(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Say in what the machines differ that two groups of runs were timed on, seed by seed.

    Args:
        ours: Rows of the run-level frame; ``timed_on`` has the machine's facts by name, and none
            where no timing ended a run or gave it its steps.
        theirs: Likewise, of the same block.

    Returns:
        A few words; empty where each seed that both have was timed alike.

    Example:
        >>> one, two = ({"seed": [0], "timed_on": [{"threads": count}]} for count in (4, 1))
        >>> timed_apart(pd.DataFrame(one), pd.DataFrame(two))
        'equal time was measured with threads 4 against 1'
    """
    first, second = _machines(ours), _machines(theirs)
    found = {
        f"{fact} {first[seed].get(fact)} against {second[seed].get(fact)}": None
        for seed in sorted(first.keys() & second.keys())
        for fact in sorted(first[seed].keys() | second[seed].keys())
        if first[seed].get(fact) != second[seed].get(fact)
    }
    return f"equal time was measured with {', '.join(found)}" if found else ""


def _machines(runs: pd.DataFrame) -> dict[int, Mapping[str, Any]]:
    """Give what each seed was timed on, where it was timed."""
    if "timed_on" not in runs:
        return {}
    return {int(seed): of for seed, of in zip(runs["seed"], runs["timed_on"], strict=True) if of}
