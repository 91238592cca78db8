"""The best of several methods, where the seeds tell it apart from every other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.aggregate import LEVEL
from analysis.statistics.compare import BETTER, Comparison, compare_runs, corrected


@dataclass(frozen=True)
class Best:
    """The method with the best mean, against each other one.

    Attributes:
        leader: Its name; ``None`` where no run has a result.
        significant: Whether it is better than every other; only then is it *the* best.
        against: Its comparison with each other method, under Holm's correction for all of them.
    """

    leader: str | None
    significant: bool
    against: Mapping[str, Comparison]


def best(
    groups: Mapping[str, pd.DataFrame],
    *,
    result: str = "final",
    test: str = "sign_flip",
    level: float = LEVEL,
    generator: np.random.Generator | None = None,
    allow_unequal: bool = False,
) -> Best:
    """Compare the method with the best mean with all others of its block.

    A method whose every run diverged is beaten, and takes no part. One of which no run is done for
    another reason takes the leader its significance: what was never measured may be better.

    Args:
        groups: For each method its rows of the run-level frame, one a seed.
        result: ``final`` or ``best_test``.
        test: As for ``compare``.
        level: As for ``compare``.
        generator: As for ``compare``.
        allow_unequal: As for ``compare``.

    Raises:
        ValueError: If a group has a seed twice, or ``test`` is unknown.
    """
    means: dict[str, float] = {}
    for name, runs in groups.items():
        done = pd.to_numeric(runs.loc[runs["status"] == "done", result]).dropna()
        if len(done):
            higher = bool(runs["higher_is_better"].iloc[0])
            means[name] = float(done.mean()) if higher else -float(done.mean())
    if not means:
        return Best(None, False, {})
    leader = max(means, key=lambda name: means[name])
    others = [
        name
        for name, runs in groups.items()
        if name != leader and not (len(runs) and (runs["status"] == "diverged").all())
    ]
    made = corrected(
        [
            compare_runs(
                groups[leader],
                groups[name],
                result=result,
                test=test,
                level=level,
                generator=generator,
                allow_unequal=allow_unequal,
            )
            for name in others
        ]
    )
    significant = bool(made) and all(one.outcome == BETTER for one in made)
    return Best(leader, significant, dict(zip(others, made, strict=True)))
