"""Stopping poor trials early: shorter runs first, of which the better half trains longer.

A rung is a whole run at a share of the budget, its schedule stretched to that share, because the
middle of a longer schedule says little of its end. So a rung costs its share once more for the
trials that go on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.errors import UserError
from experiments.tuning.space import Point
from experiments.tuning.trial_scores import Trial

PRUNERS = {"none": (), "median": (2,), "halving": (4, 2)}
"""By name, what the budget is divided by in each rung before the whole one."""

SCALABLE = ("epochs", "steps", "train_seconds")


def budgets(pruner: str, budget: Mapping[str, Any]) -> list[str]:
    """Give the overrides of each rung's budget; the last rung has none.

    Raises:
        UserError: If the budget cannot be divided.
    """
    amounts = [
        (key, value)
        for key, value in budget.items()
        if key in SCALABLE and isinstance(value, int | float)
    ]
    cuts = PRUNERS[pruner]
    if cuts and len(amounts) != 1:
        raise UserError(
            f"Invalid pruner: {pruner!r}. It needs a budget of {', '.join(SCALABLE)}; "
            f"this one has {', '.join(budget)}."
        )
    overrides = []
    for cut in cuts:
        ((key, amount),) = amounts
        if amount < cut:
            raise UserError(
                f"Invalid pruner: {pruner!r}. budget.{key}={amount} cannot be divided by {cut}."
            )
        overrides.append(
            f"budget.{key}={amount // cut if isinstance(amount, int) else amount / cut}"
        )
    return [*overrides, ""]


def climb(
    points: Sequence[Point],
    rungs: Sequence[str],
    evaluate: Callable[[Sequence[Point], str], Sequence[Trial]],
) -> list[Trial]:
    """Evaluate points rung by rung; after each, the better half of those with a value goes on.

    Args:
        points: The points of one cohort.
        rungs: What ``evaluate`` gets in each.
        evaluate: Maps points and a rung to trials, in the same order.

    Returns:
        One trial a point: of the last rung, or ``pruned``, or how it ended before.

    Reference:
        Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
        optimization", AISTATS 2016, figure 3 (successive halving).
    """
    results: dict[int, Trial] = {}
    alive = list(range(len(points)))
    for number, rung in enumerate(rungs):
        trials = evaluate([points[index] for index in alive], rung)
        results |= dict(zip(alive, trials, strict=True))
        if number + 1 == len(rungs):
            break
        valued = [index for index in alive if results[index].metric is not None]
        best = sorted(valued, key=lambda index: results[index].rank)[: math.ceil(len(valued) / 2)]
        for index in set(valued) - set(best):
            none = (None,) * len(results[index].scores)  # what it had was of a shorter run
            results[index] = replace(
                results[index], status="pruned", metric=None, loss=None, scores=none
            )
        alive = sorted(best)
        if not alive:
            break
    return [results[index] for index in range(len(points))]
