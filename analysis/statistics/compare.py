"""Is one method better than another? Five answers, and none that the seeds do not carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.aggregate import LEVEL, moments
from analysis.statistics.effort import effort_of, unequal
from analysis.statistics.paired import (
    SIGN_FLIP,
    PairedTest,
    holm,
    paired_differences,
    sign_flip,
    student,
)
from analysis.statistics.power import seeds_needed

BETTER = "better"
WORSE = "worse"
INCONCLUSIVE = "inconclusive"
UNEQUAL = "unequal tuning effort"
OUTCOMES = (BETTER, WORSE, INCONCLUSIVE, UNEQUAL)
TESTS = ("sign_flip", "student")


@dataclass(frozen=True)
class Comparison:
    """One method against another, over the seeds that both have.

    Attributes:
        outcome: One of ``OUTCOMES``; of the first method.
        statistic: What ``difference`` is.
        n: Seeds that both have.
        difference: First minus second; ``None`` for n = 0.
        std: Sample standard deviation of the paired differences; ``None`` for n < 2.
        low: Lower end of the Student-t interval of their mean; ``None`` for n < 2.
        high: Its upper end.
        level: Of the interval, and one minus the size of the test.
        test: The test that decided.
        p: Its p-value, corrected where ``family`` > 1; ``None`` for n < 2.
        family: Tests that p is corrected for by Holm's step-down.
        more_seeds: Seeds still needed to find a difference of this size and spread with a power of
            80 %, at the level divided by ``family``; ``None`` where no number below 10,000 does,
            or where it cannot be told.
        reason: What keeps the outcome from being ``better`` or ``worse``.
        higher_is_better: Direction of the metric.
    """

    outcome: str
    n: int
    difference: float | None
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    test: str
    more_seeds: int | None
    reason: str = ""
    higher_is_better: bool = True
    level: float = LEVEL
    family: int = 1
    statistic: str = "mean paired difference"

    def __str__(self) -> str:
        """Say it whole, as a cell's tooltip does."""
        parts = [self.outcome]
        if self.outcome == INCONCLUSIVE and self.more_seeds:
            parts[0] += f" ({self.more_seeds} more seed{'' if self.more_seeds == 1 else 's'})"
        if self.reason:
            parts.append(self.reason)
        if self.difference is not None:
            parts.append(f"{self.statistic} {self.difference:+.3g}, n={self.n}")
        if self.low is not None and self.high is not None:
            parts.append(f"{100 * self.level:g} % Student t {self.low:+.3g} to {self.high:+.3g}")
        if self.p is not None:
            corrected = f", Holm's correction for {self.family}" if self.family > 1 else ""
            parts.append(f"p={self.p:.3g} ({self.test}{corrected})")
        return "; ".join(parts)


def compare(
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    *,
    higher_is_better: bool,
    test: str = "sign_flip",
    level: float = LEVEL,
    generator: np.random.Generator | None = None,
    unequal_effort: str = "",
    allow_unequal: bool = False,
) -> Comparison:
    """Compare two methods by the results of their seeds.

    Args:
        ours: Result of each seed.
        theirs: Likewise, of the method compared with.
        higher_is_better: Direction of the result.
        test: One of ``TESTS``.
        level: One minus the size of the test.
        generator: For ``sign_flip`` beyond 16 seeds.
        unequal_effort: Why the tuning efforts are not equal; empty where they are.
        allow_unequal: Whether to call a method better all the same.

    Raises:
        ValueError: If ``test`` is unknown.
    """
    if test not in TESTS:
        raise ValueError(f"Invalid test: {test}. Must be one of: {', '.join(TESTS)}.")
    _, differences = paired_differences(ours, theirs)
    n, mean, std, low, high = (float(value) for value in moments(differences, level=level))
    decided: PairedTest = (
        student(differences) if test == "student" else sign_flip(differences, generator=generator)
    )
    made = Comparison(
        outcome=INCONCLUSIVE,
        n=int(n),
        difference=mean if n else None,
        std=std if n > 1 else None,
        low=low if n > 1 else None,
        high=high if n > 1 else None,
        p=decided.p,
        test=decided.test,
        more_seeds=None,
        reason="" if allow_unequal else unequal_effort,
        higher_is_better=higher_is_better,
        level=level,
    )
    return _decided(made)


def compare_runs(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    *,
    result: str = "final",
    test: str = "sign_flip",
    level: float = LEVEL,
    generator: np.random.Generator | None = None,
    allow_unequal: bool = False,
) -> Comparison:
    """Compare two groups of runs of one block, each with one run a seed.

    A method of which a run diverged is never called better: the seeds that are left are not all.

    Args:
        ours: Rows of the run-level frame.
        theirs: Likewise.
        result: ``final`` or ``best_test``.
        test: As for ``compare``.
        level: As for ``compare``.
        generator: As for ``compare``.
        allow_unequal: Whether to call a method better under unequal tuning effort.

    Raises:
        ValueError: If a group has a seed twice, or ``test`` is unknown.
    """
    made = compare(
        _by_seed(ours, result),
        _by_seed(theirs, result),
        higher_is_better=bool(pd.concat([ours, theirs])["higher_is_better"].iloc[0]),
        test=test,
        level=level,
        generator=generator,
        unequal_effort=unequal(effort_of(ours), effort_of(theirs)),
        allow_unequal=allow_unequal,
    )
    winner = {BETTER: ours, WORSE: theirs}.get(made.outcome)
    diverged = 0 if winner is None else int((winner["status"] == "diverged").sum())
    if winner is None or not diverged:
        return made
    return replace(
        made, outcome=INCONCLUSIVE, reason=f"diverged {diverged}/{len(winner)}", more_seeds=None
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Decide a family of comparisons anew, by p-values with Holm's correction."""
    adjusted = holm([one.p for one in comparisons])
    family = sum(p is not None for p in adjusted)
    return [
        one
        if p is None
        else _decided(replace(one, p=p, family=family), settled=one.outcome == INCONCLUSIVE)
        for one, p in zip(comparisons, adjusted, strict=True)
    ]


def _decided(made: Comparison, *, settled: bool = False) -> Comparison:
    """Give the outcome; one that is ``settled`` as inconclusive remains so."""
    made = replace(made, more_seeds=_more(made))
    if made.n < 2 or settled:
        return replace(made, outcome=INCONCLUSIVE)
    if made.reason:
        return replace(made, outcome=UNEQUAL)
    if made.p is None or made.difference is None or made.p > 1 - made.level:
        return replace(made, outcome=INCONCLUSIVE)
    ahead = (made.difference > 0) == made.higher_is_better
    return replace(made, outcome=BETTER if ahead else WORSE, more_seeds=0)


def _more(made: Comparison) -> int | None:
    """Seeds still needed; at least those with which the test can find anything at all."""
    size = (1 - made.level) / made.family
    fewest = 2
    while made.test.startswith(SIGN_FLIP) and 2.0 / 2**fewest > size:
        fewest += 1
    if made.difference is None or not made.std:
        return max(1, fewest - made.n)
    needed = seeds_needed(made.difference, made.std, level=1 - size)
    return None if needed is None else max(1, max(needed, fewest) - made.n)


def _by_seed(runs: pd.DataFrame, result: str) -> dict[int, float]:
    done = runs[runs["status"] == "done"]
    if done["seed"].duplicated().any():
        raise ValueError("A group has a seed twice: compare one configuration at a time.")
    values = pd.to_numeric(done[result]).to_numpy(dtype=np.float64)
    return dict(zip((int(seed) for seed in done["seed"]), values.tolist(), strict=True))
