"""Learning-rate schedules as factors on the base rate, functions of the training progress.

Progress is counted as the budget is, from 0 to its ``horizon``: in steps, or in seconds where the
training time ends the run. Then a clock is behind every learning rate: two runs of one config agree
as far as their clocks do, not bit for bit; a resumed run goes on at the progress of its checkpoint.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Maps the progress before a step (0 at the first) to the factor on its learning rate."""


def constant(*, horizon: float, epoch: float | None) -> Schedule:
    """Keep a factor of one throughout."""
    del horizon, epoch
    return lambda progress: 1.0


def cosine(
    *,
    horizon: float,
    epoch: float | None,
    per: str = "epoch",
    horizon_epochs: int | None = None,
) -> Schedule:
    r"""Cosine annealing to zero, :math:`\tfrac12 (1 + \cos(\pi t / T))`.

    Args:
        horizon: The budget, where annealing ends: ``T``.
        epoch: Length of one pass over the training data in the same unit; None where it is not
            known, as in seconds.
        per: ``"epoch"`` changes the factor at the start of each epoch, ``"step"`` at each step.
            A horizon within the first epoch, or without epochs, is always stepped.
        horizon_epochs: ``T`` in epochs where it is not the budget: then the training stops before
            the rate is zero.

    Returns:
        The factor at a progress.

    Raises:
        ValueError: If ``per`` is neither, or ``horizon_epochs`` is less than the budget, or the
            budget is none of epochs.

    Reference:
        Loshchilov & Hutter, SGDR (2017), arXiv 1608.03983, eq. (5) with eta_min = 0.

    Example:
        >>> factor = cosine(horizon=20, epoch=10)
        >>> [round(factor(step), 3) for step in (0, 9, 10, 19)]
        [1.0, 1.0, 0.5, 0.5]
    """
    if per not in ("epoch", "step"):
        raise ValueError(f"Invalid per: {per!r}. Must be 'epoch' or 'step'.")
    if horizon_epochs is not None:
        horizon = _stated(horizon_epochs, horizon=horizon, epoch=epoch)
    stride = epoch if per == "epoch" and epoch is not None and horizon > epoch else None

    def factor(progress: float) -> float:
        at = progress if stride is None else progress // stride * stride
        return 0.5 * (1.0 + math.cos(math.pi * min(at, horizon) / horizon))

    return factor


def _stated(epochs: int, *, horizon: float, epoch: float | None) -> float:
    """Compute the horizon of a number of epochs."""
    if epoch is None:
        raise ValueError(
            f"Invalid horizon_epochs: {epochs}. A budget in seconds has no epochs: must be null."
        )
    is_number = isinstance(epochs, int | float) and not isinstance(epochs, bool)
    if not is_number or epochs * epoch < horizon:
        raise ValueError(
            f"Invalid horizon_epochs: {epochs}. Must be at least the budget, "
            f"{horizon / epoch:g} epochs, or null."
        )
    return epochs * epoch
