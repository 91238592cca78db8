"""The best of several methods, where the seeds tell it apart from every other.

The leader is chosen by the very results that it is tested on, as the largest of k means. A
correction for its k - 1 comparisons alone would leave that choice out: of equal methods, some would
be called worse than the leader far too often. So there are two ways to a verdict, each by the
paired t-test and without an assumption that methods scatter alike:

- the leader is *the best* if it is better than each other method by the test of these two. That all
  must be, makes up for the choice, and no correction is needed (an intersection-union test; Gutmann
  and Maymin, 1987, for known variances);
- else it is better than those from which Holm's correction over all k (k - 1) / 2 pairs of methods
  tells it apart.

``simulation`` shows how often either errs, and what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.statistics.compare import BETTER, Comparison, by_seed, compare_runs, take_back
from analysis.statistics.equality import subtract
from analysis.statistics.paired import holm, pairs_of, student
from analysis.statistics.summary import LEVEL


@dataclass(frozen=True)
class Best:
    """The method with the best mean, against each other one.

    Attributes:
        leader: Its name, of equal ones the first; ``None`` where no run has a result.
        significant: Whether it is better than every other; only then is it *the* best.
        against: Its comparison with each other method, corrected for the choice of the leader.
    """

    leader: str | None
    significant: bool
    against: Mapping[str, Comparison]


def best(
    groups: Mapping[str, pd.DataFrame],
    *,
    result: str = "final",
    level: float = LEVEL,
    allow_unequal: bool = False,
) -> Best:
    """Compare the method with the best mean with all others of its block.

    A method whose every run diverged is beaten, and takes no part. One of which no run is done for
    another reason takes the leader its significance: what was never measured may be better. So does
    one from which the leader differs by the same in every seed, as that tells no spread.

    Args:
        groups: For each method its rows of the run-level frame, one a seed.
        result: ``final`` or ``best_test``.
        level: As for ``compare``.
        allow_unequal: As for ``compare``.

    Raises:
        ValueError: If a group has a seed twice.

    Reference:
        Gutmann and Maymin (1987), Is the selected population the best?, Annals of Statistics 15;
        Berger (1982), Multiparameter hypothesis testing and acceptance sampling, Technometrics 24;
        Holm (1979), as for ``paired.holm``.
    """
    seeds = {name: by_seed(runs, result) for name, runs in groups.items()}
    finite = {name: [x for x in of.values() if np.isfinite(x)] for name, of in seeds.items()}
    means = {name: float(np.mean(values)) for name, values in finite.items() if values}
    if not means:
        return Best(None, False, {})
    leader = _leader(means, higher=bool(groups[next(iter(means))]["higher_is_better"].iloc[0]))
    others = [
        name
        for name, runs in groups.items()
        if name != leader and not (len(runs) and (runs["status"] == "diverged").all())
    ]
    made = {
        name: compare_runs(
            groups[leader], groups[name], result=result, level=level, allow_unequal=allow_unequal
        )
        for name in others
    }
    pairs = list(combinations(means, 2))
    alone = {pair: student(pairs_of(*(seeds[name] for name in pair))) for pair in pairs}
    by_pair = dict(zip(pairs, holm(list(alone.values()), tests=len(pairs)), strict=True))
    # Over the common seeds alone the leader need not be ahead, where one of them has more.
    ahead = [one.alone for one in made.values() if one.alone is not None and one.ahead]
    of_all = max(ahead, default=1.0) if len(ahead) == len(made) else 1.0
    for name, one in made.items():
        p = by_pair.get((leader, name), by_pair.get((name, leader)))
        made[name] = take_back(one, None if p is None else min(p, of_all), family=len(pairs))
    significant = bool(made) and all(one.outcome == BETTER for one in made.values())
    return Best(leader, significant, made)


def _leader(means: Mapping[str, float], *, higher: bool) -> str:
    """Name of the best mean; of those that are equal to it the first."""
    top = max(means.values()) if higher else min(means.values())
    return next(name for name, mean in means.items() if not subtract(mean, top))
