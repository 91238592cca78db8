"""Learning-rate schedules as factors on the base rate, functions of the training progress."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
"""Maps the index of a step (0 is the first) to the factor on the learning rate of that step."""


def constant(*, total_steps: int, steps_per_epoch: int) -> Schedule:
    """A factor of one throughout."""
    del total_steps, steps_per_epoch
    return lambda step: 1.0


def cosine(
    *,
    total_steps: int,
    steps_per_epoch: int,
    per: str = "epoch",
    horizon_epochs: int | None = None,
) -> Schedule:
    r"""Cosine annealing to zero, :math:`\tfrac12 (1 + \cos(\pi t / T))`.

    Args:
        total_steps: Horizon ``T`` of the schedule; it equals the budget.
        steps_per_epoch: Steps in one pass over the training data.
        per: ``"epoch"`` changes the factor at the start of each epoch, ``"step"`` at each step.
            A horizon within the first epoch is always stepped.
        horizon_epochs: The horizon as somebody else states it, for a check: annealing that ends
            before or after the training is another method.

    Returns:
        The factor of a step.

    Raises:
        ValueError: If ``per`` is neither, or ``horizon_epochs`` is not the budget.

    Reference:
        Loshchilov & Hutter, SGDR (2017), arXiv 1608.03983, eq. (5) with eta_min = 0.

    Example:
        >>> factor = cosine(total_steps=20, steps_per_epoch=10)
        >>> [round(factor(step), 3) for step in (0, 9, 10, 19)]
        [1.0, 1.0, 0.5, 0.5]
    """
    if per not in ("epoch", "step"):
        raise ValueError(f"Invalid per: {per!r}. Must be 'epoch' or 'step'.")
    if horizon_epochs is not None and horizon_epochs * steps_per_epoch != total_steps:
        raise ValueError(
            f"Invalid horizon_epochs: {horizon_epochs}. Must be the budget, "
            f"{total_steps / steps_per_epoch:g} epochs, or null."
        )
    stride = steps_per_epoch if per == "epoch" and total_steps > steps_per_epoch else 1

    def factor(step: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * (step // stride * stride) / total_steps))

    return factor
