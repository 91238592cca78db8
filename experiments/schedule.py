"""Learning-rate schedules as factors on the base rate, functions of the training progress.

Progress is counted as the budget is, from 0 to its ``horizon``: in steps, or in seconds where the
training time ends the run. Then a clock is behind every learning rate: two runs of one config agree
as far as their clocks do, not bit for bit; a resumed run goes on at the progress of its checkpoint.
Each takes a linear warm-up in front, ``warmup_fraction`` of the budget, and begins at its end.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Maps the progress before a step (0 at the first) to the factor on its learning rate."""

DECAYS: dict[str, Schedule] = {
    "linear": lambda part: 1.0 - part,
    "one_minus_sqrt": lambda part: 1.0 - math.sqrt(part),
}
"""How the rate falls at the end of ``warmup_stable_decay``, by the part of the fall that is over.

Linearly as in Zhai et al., Scaling vision transformers (2022), arXiv 2106.04560; the other one is
of Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations (2024),
arXiv 2405.18392.
"""


def constant(*, horizon: float, epoch: float | None, warmup_fraction: float = 0.0) -> Schedule:
    """Keep a factor of one throughout.

    Args:
        horizon: The budget.
        epoch: As for ``cosine``.
        warmup_fraction: As for ``cosine``.
    """
    return _after_warm_up(
        lambda progress: 1.0, _warm_up(warmup_fraction, horizon), counts_steps=epoch is not None
    )


def cosine(
    *,
    horizon: float,
    epoch: float | None,
    per: str = "epoch",
    horizon_epochs: int | None = None,
    warmup_fraction: float = 0.0,
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
        warmup_fraction: Part of the budget over which the rate first rises linearly: its n-th step
            has n times the rate of the first one, and the last one has the factor 1. By a clock the
            first step has a thousandth.

    Returns:
        The factor at a progress.

    Raises:
        ValueError: If ``per`` is neither, or ``horizon_epochs`` is less than the budget, or the
            budget is none of epochs, or ``warmup_fraction`` not in [0, 1).

    Reference:
        Loshchilov & Hutter, SGDR (2017), arXiv 1608.03983, eq. (5) with eta_min = 0.

    Example:
        >>> factor = cosine(horizon=20, epoch=10)
        >>> [round(factor(step), 3) for step in (0, 9, 10, 19)]
        [1.0, 1.0, 0.5, 0.5]
    """
    if per not in ("epoch", "step"):
        raise ValueError(f"Invalid per: {per!r}. Must be 'epoch' or 'step'.")
    warm_up = _warm_up(warmup_fraction, horizon)
    if horizon_epochs is not None:
        horizon = _stated(horizon_epochs, horizon=horizon, epoch=epoch)
    stride = epoch if per == "epoch" and epoch is not None and horizon > epoch else None
    length = horizon - warm_up

    def factor(progress: float) -> float:
        at = progress if stride is None else progress // stride * stride
        return 0.5 * (1.0 + math.cos(math.pi * min(at, length) / length))

    return _after_warm_up(factor, warm_up, counts_steps=epoch is not None)


def linear(*, horizon: float, epoch: float | None, warmup_fraction: float = 0.0) -> Schedule:
    r"""Fall linearly to zero, :math:`1 - t / T`.

    Args:
        horizon: The budget, at whose end the rate is zero.
        epoch: As for ``cosine``.
        warmup_fraction: As for ``cosine``.

    Raises:
        ValueError: If ``warmup_fraction`` is not in [0, 1).

    Reference:
        Defazio et al., Optimal linear decay learning rate schedules and further refinements (2023),
        arXiv 2310.07831.

    Example:
        >>> factor = linear(horizon=5, epoch=5, warmup_fraction=0.4)
        >>> [round(factor(step), 3) for step in range(5)]
        [0.5, 1.0, 1.0, 0.667, 0.333]
    """
    warm_up = _warm_up(warmup_fraction, horizon)
    length = horizon - warm_up
    return _after_warm_up(
        lambda progress: 1.0 - min(progress, length) / length,
        warm_up,
        counts_steps=epoch is not None,
    )


def warmup_stable_decay(
    *,
    horizon: float,
    epoch: float | None,
    warmup_fraction: float = 0.0,
    decay_fraction: float = 0.2,
    decay: str = "linear",
) -> Schedule:
    """Warm up, keep the rate, and let it fall to zero over the last part of the budget.

    Args:
        horizon: The budget, at whose end the rate is zero.
        epoch: As for ``cosine``.
        warmup_fraction: As for ``cosine``.
        decay_fraction: Part of the budget over which the rate falls.
        decay: How it falls: one of ``DECAYS``.

    Raises:
        ValueError: If a value is none that is allowed, or the two parts are more than the budget.

    Reference:
        Hu et al., MiniCPM (2024), arXiv 2404.06395, section 4, whose fall is exponential.
    """
    if decay not in DECAYS:
        raise ValueError(f"Invalid decay: {decay!r}. Must be one of: {', '.join(DECAYS)}.")
    warm_up = _warm_up(warmup_fraction, horizon)
    if not _is_number(decay_fraction) or not 0 < decay_fraction <= 1 - warmup_fraction:
        raise ValueError(
            f"Invalid decay_fraction: {decay_fraction}. Must be > 0 and, with the warm-up, <= 1."
        )
    length = decay_fraction * horizon
    stable = horizon - warm_up - length

    def factor(progress: float) -> float:
        return DECAYS[decay](min(max(progress - stable, 0.0) / length, 1.0))

    return _after_warm_up(factor, warm_up, counts_steps=epoch is not None)


def inverse_sqrt(*, horizon: float, epoch: float | None, warmup_fraction: float = 0.1) -> Schedule:
    r"""Warm up over :math:`w`, then fall by :math:`\sqrt{w / t}`.

    Args:
        horizon: The budget, of which the warm-up is a part.
        epoch: As for ``cosine``.
        warmup_fraction: As for ``cosine``, but > 0: its length is the scale of the fall.

    Raises:
        ValueError: If ``warmup_fraction`` is not in (0, 1).

    Reference:
        Vaswani et al., Attention is all you need (2017), arXiv 1706.03762, eq. (3), divided by its
        largest value.
    """
    warm_up = _warm_up(warmup_fraction, horizon)
    if not warm_up > 0:
        raise ValueError(
            f"Invalid warmup_fraction: {warmup_fraction}. Must be > 0 with inverse_sqrt, which "
            "falls on the scale of its warm-up."
        )
    return _after_warm_up(
        lambda progress: math.sqrt(warm_up / (warm_up + progress)),
        warm_up,
        counts_steps=epoch is not None,
    )


def _warm_up(fraction: float, horizon: float) -> float:
    """Compute the length of a warm-up in the unit of the budget."""
    if not _is_number(fraction) or not 0 <= fraction < 1:
        raise ValueError(f"Invalid warmup_fraction: {fraction}. Must be >= 0 and < 1.")
    return fraction * horizon


def _after_warm_up(factor: Schedule, warm_up: float, *, counts_steps: bool) -> Schedule:
    """Put a linear warm-up in front of a schedule, which begins at its end.

    Args:
        factor: The schedule, of the progress since the end of the warm-up.
        warm_up: Its length; 0: none.
        counts_steps: Whether the progress is one of steps.
    """
    if not warm_up:
        return factor
    # A first rate of zero is no step at all, and methods divide by their rate.
    first = 1.0 if counts_steps else warm_up / 1000

    def warmed(progress: float) -> float:
        if progress < warm_up:
            return min(1.0, (progress + first) / warm_up)
        return factor(progress - warm_up)

    return warmed


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stated(epochs: int, *, horizon: float, epoch: float | None) -> float:
    """Compute the horizon of a number of epochs."""
    if epoch is None:
        raise ValueError(
            f"Invalid horizon_epochs: {epochs}. A budget in seconds has no epochs: must be null."
        )
    if not _is_number(epochs) or epochs * epoch < horizon:
        raise ValueError(
            f"Invalid horizon_epochs: {epochs}. Must be at least the budget, "
            f"{horizon / epoch:g} epochs, or null."
        )
    return epochs * epoch
