"""Is one method better than another? Five answers, and none that the seeds do not carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.statistics.effort import effort_of, insufficient
from analysis.statistics.paired import holm, pairs_of, student
from analysis.statistics.power import seeds_needed
from analysis.statistics.summary import LEVEL, moments
from analysis.statistics.timing import timed_apart

BETTER = "better"
WORSE = "worse"
INCONCLUSIVE = "inconclusive"
UNEQUAL = "unequal tuning effort"
OUTCOMES = (BETTER, WORSE, INCONCLUSIVE, UNEQUAL)
NO_SPREAD = "all differences are equal"


@dataclass(frozen=True)
class Comparison:
    """One method against another, over the seeds that both have.

    Attributes:
        outcome: One of ``OUTCOMES``; of the first method.
        statistic: What ``difference`` is.
        n: Seeds that both have.
        difference: First minus second; ``None`` for n = 0.
        std: Sample standard deviation of the paired differences; ``None`` for n < 2.
        low: Lower end of the Student-t interval of their mean; ``None`` for n < 2, and where all
            differences are equal (``equality``), as these tell no spread.
        high: Its upper end.
        level: Of the interval, and one minus the size of the test.
        p: p-value of the paired t-test, corrected where ``family`` > 1; ``None`` as for ``low``.
        alone: The same, not corrected.
        family: Tests that p is corrected for.
        more_seeds: Seeds still needed to find a difference of this size and spread with a power of
            80 %: of these two methods alone as long as their own test does not find it, then at
            the level divided by ``family``. ``None`` where no number below 10,000 does, or where
            it cannot be told, as there is no spread.
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
    alone: float | None
    more_seeds: int | None = None
    reason: str = ""
    higher_is_better: bool = True
    level: float = LEVEL
    family: int = 1
    statistic: str = "mean paired difference"

    @property
    def seeds(self) -> str:
        """Say how many seeds in all a comparison of its own takes; empty where that is not known.

        Never how many more: who adds them to those that decided nothing, and looks again, calls
        equal methods different more often than the level says.
        """
        if not self.more_seeds:
            return ""
        return f"{'about' if self.n > 1 else 'at least'} {self.n + self.more_seeds} seeds in all"

    @property
    def ahead(self) -> bool:
        """Whether the first method is the better one by its mean."""
        gain = self.difference or 0.0
        return gain > 0 if self.higher_is_better else gain < 0

    def __str__(self) -> str:
        """Say it whole, as a cell's tooltip does."""
        parts = [self.outcome]
        if self.outcome == INCONCLUSIVE and self.seeds:
            parts[0] += f" ({self.seeds})"
        if self.reason:
            parts.append(self.reason)
        if self.difference is not None:
            parts.append(f"{self.statistic} {self.difference:+.3g}, n={self.n}")
        if self.low is not None and self.high is not None:
            parts.append(f"{100 * self.level:g} % Student t {self.low:+.3g} to {self.high:+.3g}")
        if self.p is not None:
            corrected = f", corrected for {self.family} tests" if self.family > 1 else ""
            parts.append(f"p={self.p:.3g} (paired t-test{corrected})")
        return "; ".join(parts)


def compare(
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    *,
    higher_is_better: bool,
    level: float = LEVEL,
) -> Comparison:
    """Compare two methods, both chosen beforehand, by the results of their seeds.

    Of methods that were chosen by these results see ``best``.

    Args:
        ours: Result of each seed.
        theirs: Likewise, of the method compared with.
        higher_is_better: Direction of the result.
        level: One minus the size of the test.
    """
    pairs = pairs_of(ours, theirs)
    n, mean, std, low, high = (float(value) for value in moments(pairs.differences, level=level))
    p = student(pairs)
    made = Comparison(
        outcome=INCONCLUSIVE,
        n=int(n),
        difference=mean if n else None,
        std=None if n < 2 else std if pairs.spread else 0.0,
        low=low if pairs.spread else None,
        high=high if pairs.spread else None,
        p=p,
        alone=p,
        higher_is_better=higher_is_better,
        level=level,
    )
    if p is None or p > 1 - level:
        reason = NO_SPREAD if n > 1 and not pairs.spread else ""
        return replace(made, reason=reason, more_seeds=_more(made))
    return replace(made, outcome=BETTER if made.ahead else WORSE, more_seeds=0)


def compare_runs(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    *,
    result: str = "final",
    level: float = LEVEL,
    allow_unequal: bool = False,
) -> Comparison:
    """Compare two groups of runs of one block, each with one run a seed.

    A method of which a run diverged, or ended without a finite result, is never called better: the
    seeds that are left are not all. Nor is any where the time that both had was
    measured on different machines or with different numbers of threads (``timing``).

    Args:
        ours: Rows of the run-level frame.
        theirs: Likewise.
        result: ``final`` or ``best_test``.
        level: As for ``compare``.
        allow_unequal: Whether to call a method better though the other was tuned with less effort.

    Raises:
        ValueError: If a group has a seed twice.
    """
    made = compare(
        by_seed(ours, result),
        by_seed(theirs, result),
        higher_is_better=bool(pd.concat([ours, theirs])["higher_is_better"].iloc[0]),
        level=level,
    )
    if apart := timed_apart(ours, theirs):
        return replace(made, outcome=INCONCLUSIVE, reason=apart, more_seeds=None)
    first, second = (ours, theirs) if made.ahead else (theirs, ours)
    less = insufficient(effort_of(first), effort_of(second))
    if made.n > 1 and less and not allow_unequal:
        return replace(made, outcome=UNEQUAL, reason=less, more_seeds=_more(made))
    winner = {BETTER: ours, WORSE: theirs}.get(made.outcome)
    lost = "" if winner is None else _lost(winner, result)
    if not lost:
        return made
    return replace(made, outcome=INCONCLUSIVE, reason=lost, more_seeds=None)


def by_seed(runs: pd.DataFrame, result: str) -> dict[int, float]:
    """Give the result of each seed of a group that is done; NaN where there is none.

    Raises:
        ValueError: If a seed is there twice.
    """
    done = runs[runs["status"] == "done"]
    if done["seed"].duplicated().any():
        raise ValueError("A group has a seed twice: compare one configuration at a time.")
    values = pd.to_numeric(done[result]).to_numpy(dtype=np.float64)
    return dict(zip((int(seed) for seed in done["seed"]), values.tolist(), strict=True))


def take_back(made: Comparison, p: float | None, *, family: int) -> Comparison:
    """Decide anew by a corrected p-value, which can only take a verdict back.

    Args:
        made: Of ``compare`` or ``compare_runs``.
        p: Its p-value, corrected.
        family: Tests that it is corrected for.
    """
    if p is None:
        return made
    made = replace(made, p=p, family=family)
    if made.outcome not in (BETTER, WORSE) or p <= 1 - made.level:
        return made
    return replace(made, outcome=INCONCLUSIVE, more_seeds=_more(made))


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Decide a family of comparisons anew, by p-values with Holm's correction.

    Args:
        comparisons: Of methods that were chosen beforehand.
    """
    adjusted = holm([one.p for one in comparisons])
    family = sum(p is not None for p in adjusted)
    return [take_back(one, p, family=family) for one, p in zip(comparisons, adjusted, strict=True)]


def _more(made: Comparison) -> int | None:
    """Seeds still needed; without a test the two that it takes."""
    if made.n < 2:
        return 2 - made.n
    if made.difference is None or not made.std or made.alone is None:
        return None
    size = 1 - made.level
    level = 1 - (size / made.family if made.alone <= size else size)
    needed = seeds_needed(made.difference, made.std, level=level)
    return None if needed is None else max(1, needed - made.n)


def _lost(runs: pd.DataFrame, result: str) -> str:
    """Say what became of the runs that blew up; empty if none did."""
    counts = {
        "diverged": int((runs["status"] == "diverged").sum()),
        "not finite": sum(not math.isfinite(value) for value in by_seed(runs, result).values()),
    }
    return ", ".join(f"{name} {count}/{len(runs)}" for name, count in counts.items() if count)
