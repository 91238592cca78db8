"""The rule that every method is tuned by: one hyperparameter, first coarsely, then finely.

The coarse values are evenly spaced over the logarithm of the space, its two ends among them. The
fine ones lie on both sides of the best of these, as many on either, and divide the way to each of
its neighbours evenly; where the best is the first or the last, its missing neighbour is one coarse
step further out, beyond the space. So ``TRIALS`` values are known but for the choice in the middle,
which depends on the recorded trials of the first stage and on nothing else. Where it is asked for,
as many trials again follow around the best, within a coarse step of it, none of which is a
repetition: for the method of two that lost, before their results are compared.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.errors import UserError
from experiments.tuning.optuna_trials import SAMPLERS, locked
from experiments.tuning.space import Dimension, Point, Space
from experiments.tuning.trial_scores import Trial, check_finished, choose

LEAST = 4
"""Trials of the smallest grid: the two ends, and one value on either side of the better one."""

COARSE = "coarse"
FINE = "fine"
AGAIN = "again"


def shares(trials: int) -> tuple[int, int]:
    """Split the trials into coarse and fine ones: by half, with the fine ones an even number.

    Example:
        >>> [shares(trials) for trials in (4, 8, 10, 16)]
        [(2, 2), (4, 4), (6, 4), (8, 8)]
    """
    fine = 2 * (trials // 4)
    return trials - fine, fine


def check(space: Space, trials: int) -> Dimension:
    """Check that a grid can be laid over the space, and return its dimension.

    Args:
        space: What is searched.
        trials: All together.

    Raises:
        UserError: If there are too few trials, or the space has no grid of so many.
    """
    others = f"sampler={'|'.join(SAMPLERS)}"
    if trials < LEAST:
        raise UserError(
            f"Invalid trials: {trials}. Must be >= {LEAST} with sampler=grid, which has two "
            f"stages; {others} takes fewer."
        )
    dimension = space[0]
    if len(space) > 1 or not dimension.log or dimension.whole:
        searched = "; ".join(one.describe() for one in space)
        raise UserError(
            "Invalid sampler: 'grid'. It searches one hyperparameter on a log scale that is no "
            f"whole number; the space is: {searched}. Take {others}."
        )
    first, second = shares(trials)
    values = coarse(dimension, first)
    for best in range(first):
        found = [*values, *fine(dimension, first, best, second)]
        if len(set(found)) < len(found):
            raise UserError(
                f"Invalid optimizer.suite.search.{dimension.key}: {dimension.low} to "
                f"{dimension.high}. It is too narrow for {trials} values of three digits; "
                f"{others} takes it."
            )
    return dimension


def coarse(dimension: Dimension, count: int) -> list[float]:
    """Choose the values of the first stage, ascending; at least two.

    Args:
        dimension: What is searched.
        count: How many.
    """
    inner = [_value(dimension, index / (count - 1)) for index in range(1, count - 1)]
    return [float(dimension.low), *inner, float(dimension.high)]


def fine(dimension: Dimension, coarse_count: int, best: int, count: int) -> list[float]:
    """Choose the values of the second stage, ascending.

    Args:
        dimension: What is searched.
        coarse_count: Values of the first stage.
        best: Index of the best of these.
        count: How many; an even number.
    """
    half = count // 2
    parts = (half + 1) * (coarse_count - 1)  # of the width of the space
    centre = best * (half + 1)
    steps = [step for step in range(-half, half + 1) if step]
    return [_value(dimension, (centre + step) / parts) for step in steps]


def around(dimension: Dimension, trials: int, best: float) -> list[float]:
    """Choose as many values again, ascending, on both sides of the best of two stages.

    Their distances from it are whole parts of a coarse step, of a kind that has none in common with
    those of the fine values.

    Args:
        dimension: What is searched.
        trials: Values of both stages together; an even number.
        best: The best of them.
    """
    first, second = shares(trials)
    half = trials // 2
    parts = next(n for n in itertools.count(half + 1) if math.gcd(n, second // 2 + 1) == 1)
    centre = dimension.position(best)
    steps = [step for step in range(-half, half + 1) if step]
    return [_value(dimension, centre + step / parts / (first - 1)) for step in steps]


def complete(
    folder: Path,
    space: Space,
    trials: int,
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
    *,
    again: bool = False,
) -> list[Trial]:
    """Evaluate both stages.

    Args:
        folder: Where the study is locked.
        space: What is searched.
        trials: All together.
        evaluate: Maps points to trials, in the same order; what it has done before it only reads.
        again: Whether as many trials again follow around the best.

    Returns:
        The trials, the coarse ones first.

    Raises:
        UserError: If the space has no such grid, a trial was interrupted on its own, or no coarse
            one has a value.
    """
    dimension = check(space, trials)
    first, second = shares(trials)
    with locked(folder):
        found = _stage(COARSE, dimension, coarse(dimension, first), evaluate)
        best = found.index(choose(found))
        found += _stage(FINE, dimension, fine(dimension, first, best, second), evaluate)
        if again:
            centre = float(choose(found).point[dimension.key])
            found += _stage(AGAIN, dimension, around(dimension, trials, centre), evaluate)
        return found


def _stage(
    name: str,
    dimension: Dimension,
    values: Sequence[float],
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
) -> list[Trial]:
    trials = evaluate([{dimension.key: value} for value in values])
    check_finished(trials)
    return [replace(trial, stage=name) for trial in trials]


def _value(dimension: Dimension, position: float) -> float:
    """Give the value at a position in units of the space, maybe beyond it; three digits."""
    low, high = dimension.low, dimension.high
    return float(f"{low * (high / low) ** position:.3g}")
