"""The rule that every method is tuned by: one hyperparameter, first coarsely, then finely.

The coarse values are evenly spaced over the logarithm of the space, its two ends among them. The
fine ones lie on both sides of the best of these, as many on either, and divide the way to each of
its neighbours evenly; where the best is the first or the last, its missing neighbour is one coarse
step further out, beyond the space. So ``TRIALS`` values are known but for the choice in the middle,
which depends on the recorded trials of the first stage and on nothing else. Where it is asked for,
as many trials again follow around the best, within a coarse step of it, none of which is a
repetition: for the method of two that lost, before their results are compared.

Further hyperparameters are searched one after another by the same rule, each with as many trials,
while all others stay at the best so far (a coordinate pass). On a linear scale the space is closed:
at an end all fine values lie on its inner side.
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


def check(space: Space, trials: int) -> None:
    """Check that a grid can be laid over each dimension of the space.

    Args:
        space: What is searched, one dimension after another.
        trials: Of each dimension.

    Raises:
        UserError: If there are too few trials, or a dimension has no grid of so many.
    """
    others = f"sampler={'|'.join(SAMPLERS)}"
    if trials < LEAST:
        raise UserError(
            f"Invalid trials: {trials}. Must be >= {LEAST} with sampler=grid, which has two "
            f"stages; {others} takes fewer."
        )
    if not space[0].log or any(one.whole or one.choices for one in space):
        searched = "; ".join(one.describe() for one in space)
        raise UserError(
            "Invalid sampler: 'grid'. It searches one hyperparameter after another, the first on a "
            "log scale and none of whole numbers or choices; the space is: "
            f"{searched}. Take {others}."
        )
    first, second = shares(trials)
    for dimension in space:
        values = coarse(dimension, first)
        for best in range(first):
            found = [*values, *fine(dimension, first, best, second)]
            if len(set(found)) < len(found):
                raise UserError(
                    f"Invalid optimizer.suite.search.{dimension.key}: {dimension.low} to "
                    f"{dimension.high}. It is too narrow for {trials} values of three digits; "
                    f"{others} takes it."
                )


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
    steps = [step for step in range(-half, half + 1) if step]
    if not dimension.log and best in (0, coarse_count - 1):
        steps = [step if best == 0 else step - count - 1 for step in range(1, count + 1)]
        half = count
    parts = (half + 1) * (coarse_count - 1)  # of the width of the space
    centre = best * (half + 1)
    return [_value(dimension, (centre + step) / parts) for step in steps]


def around(dimension: Dimension, trials: int, best: float, *, nth: int = 1) -> list[float]:
    """Choose as many values again, ascending, on both sides of the best of two stages.

    Their distances from it are whole parts of a coarse step, of a kind that has none in common with
    those of the fine values, nor with those of an earlier time.

    Args:
        dimension: What is searched.
        trials: Values of both stages together; an even number.
        best: The best of them.
        nth: Which time it is.
    """
    first, second = shares(trials)
    half = trials // 2
    kinds = [second // 2 + 1]
    for parts in itertools.count(half + 1):
        if all(math.gcd(parts, other) == 1 for other in kinds):
            kinds.append(parts)
        if len(kinds) > nth:
            break
    centre = dimension.position(best)
    steps = [step for step in range(-half, half + 1) if step]
    return [_value(dimension, centre + step / parts / (first - 1)) for step in steps]


def complete(
    folder: Path,
    space: Space,
    trials: int,
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
    *,
    again: int = 0,
    held: Point | None = None,
) -> list[Trial]:
    """Evaluate both stages of every dimension.

    Args:
        folder: Where the study is locked.
        space: What is searched, one dimension after another.
        trials: Of each dimension.
        evaluate: Maps points to trials, in the same order; what it has done before it only reads.
        again: How often as many trials again follow around the best of the first dimension.
        held: What the dimensions are at before their turn.

    Returns:
        The trials, in the order of the stages.

    Raises:
        UserError: If the space has no such grid, a trial was interrupted on its own, or no coarse
            one has a value.
    """
    check(space, trials)
    found: list[Trial] = []
    with locked(folder):
        for dimension in space:
            best = choose(found).point if found else held or {}
            found += _both(
                dimension, trials, best, evaluate, label="" if not found else dimension.key
            )
        dimension = space[0]
        for nth in range(1, again + 1):
            best = choose(found).point
            values = around(dimension, trials, float(best[dimension.key]), nth=nth)
            found += _stage(AGAIN, dimension, values, best, evaluate)
    return found


def _both(
    dimension: Dimension,
    trials: int,
    held: Point,
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
    *,
    label: str,
) -> list[Trial]:
    """Evaluate both stages of one dimension, the others held."""
    first, second = shares(trials)
    coarse_stage, fine_stage = (f"{name} {label}".strip() for name in (COARSE, FINE))
    found = _stage(coarse_stage, dimension, coarse(dimension, first), held, evaluate)
    best = found.index(choose(found))
    values = fine(dimension, first, best, second)
    return found + _stage(fine_stage, dimension, values, held, evaluate)


def _stage(
    name: str,
    dimension: Dimension,
    values: Sequence[float],
    held: Point,
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
) -> list[Trial]:
    trials = evaluate([{**held, dimension.key: value} for value in values])
    check_finished(trials)
    return [replace(trial, stage=name) for trial in trials]


def _value(dimension: Dimension, position: float) -> float:
    """Give the value at a position in units of the space, maybe beyond it; three digits."""
    low, high = dimension.low, dimension.high
    value = low * (high / low) ** position if dimension.log else low + (high - low) * position
    return float(f"{value:.3g}")
