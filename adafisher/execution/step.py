"""The step in two forms, one under another, and ``F`` for whoever reads it.

Both compute, of a parameter ``theta`` with gradient ``g``,

    m <- beta m + (1 - beta) (g + coupled theta)                             # m
    F = mean_i left_i * right_i + damping, or 1 without a term               # F
    theta <- (1 - shrink) theta - step_size m / F                            # theta

in place, and agree up to rounding; the same three comments stand in each. ``plain_step_`` takes
many parameters at once, ``fused_step_`` is what ``fused`` compiles.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, equation (4) and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adafisher.fisher import CurvatureTerm
from adafisher.squares import factor_dtype


class Hyperparameters(NamedTuple):
    """Numbers of a step; parameters with equal ones can be stepped together.

    Attributes:
        beta: Decay of the momentum.
        coupled_decay: Weight decay that is added to the gradient.
        shrink: Decoupled weight decay, ``lr * weight_decay``.
        damping: ``lambda`` of equation (4).
        maximize: Take ``-g`` instead of ``g``.
    """

    beta: float
    coupled_decay: float
    shrink: float
    damping: float
    maximize: bool


class Update(NamedTuple):
    """The step of one parameter.

    Attributes:
        param: Parameter ``theta``, changed in place.
        grad: Gradient ``g``, same shape.
        exp_avg: ``m``, raw (no bias correction), same shape, changed in place.
        terms: One pair for every layer that the parameter belongs to; without any ``F`` is 1.
        step_size: Learning rate over the bias correction.
        hyper: The group's hyperparameters.
    """

    param: Tensor
    grad: Tensor
    exp_avg: Tensor
    terms: list[CurvatureTerm]
    step_size: float
    hyper: Hyperparameters


class Denominator(NamedTuple):
    """What ``F`` of a parameter, or of a block of it, is formed of.

    Attributes:
        terms: As in ``Update``, at least one.
        damping: ``hyper.damping``, shaped as the right side of the first term: the CPU adds a row
            at full speed, and one number at a seventh of that.
        fisher_diag: Where ``F`` is formed, shaped and laid out as the parameter.
    """

    terms: list[CurvatureTerm]
    damping: Tensor
    fisher_diag: Tensor


def plain_step_(
    params: list[Tensor],
    exp_avgs: list[Tensor],
    denominators: Sequence[Denominator],
    grads: list[Tensor],
    step_sizes: Sequence[float],
    hyper: Hyperparameters,
) -> None:
    """Step parameters that share hyperparameters, device and dtype; nothing large is allocated.

    Args:
        params: ``theta``, any shapes.
        exp_avgs: ``m`` of each.
        denominators: Of each, or none at all where ``F`` is 1.
        grads: ``g`` of each.
        step_sizes: Of each, see ``Update``.
        hyper: Of all.
    """
    # m
    if hyper.maximize:
        torch._foreach_mul_(exp_avgs, hyper.beta)
        torch._foreach_add_(exp_avgs, grads, alpha=hyper.beta - 1.0)
    else:
        torch._foreach_lerp_(exp_avgs, grads, 1.0 - hyper.beta)
    if hyper.coupled_decay:
        torch._foreach_add_(exp_avgs, params, alpha=(1.0 - hyper.beta) * hyper.coupled_decay)
    # F
    for terms, damping, fisher_diag in denominators:
        weight = 1.0 / len(terms)
        (left, right), *others = terms
        torch.addcmul(damping, left, right, value=weight, out=fisher_diag)
        for left, right in others:
            fisher_diag.addcmul_(left, right, value=weight)
    # theta
    if hyper.shrink:
        torch._foreach_mul_(params, 1.0 - hyper.shrink)
    if denominators:
        fisher_diags = [denominator.fisher_diag for denominator in denominators]
        torch._foreach_addcdiv_(params, exp_avgs, fisher_diags, [-size for size in step_sizes])
    else:
        for param, exp_avg, step_size in zip(params, exp_avgs, step_sizes, strict=True):
            param.add_(exp_avg, alpha=-step_size)


SCALARS = ("beta", "coupled_decay", "keep", "sign", "step_size", "damping")


def fused_step_(
    param: Tensor, grad: Tensor, exp_avg: Tensor, left: Tensor, right: Tensor, scalars: Tensor
) -> None:
    """Step a matrix with one term; compiled, it is one pass over memory.

    Args:
        param: ``theta``, ``[rows, columns]``.
        grad: ``g``, ``[rows, columns]``.
        exp_avg: ``m``, ``[rows, columns]``.
        left: ``[rows, 1]``.
        right: ``[1, columns]``.
        scalars: ``SCALARS``, one entry each, see ``pack_scalars``.
    """
    beta, coupled, keep, sign, step_size, damping = scalars.unbind()
    # m
    direction = sign * grad + coupled * param
    momentum = exp_avg + (1.0 - beta) * (direction - exp_avg)
    exp_avg.copy_(momentum)
    # F
    fisher_diag = left * right + damping
    # theta
    param.copy_(keep * param - step_size * momentum / fisher_diag)


def pack_scalars(update: Update) -> tuple[float, ...]:
    """Give the ``SCALARS`` of an update; ``sign`` is -1 to ascend, ``keep`` is ``1 - shrink``."""
    hyper = update.hyper
    keep, sign = 1.0 - hyper.shrink, -1.0 if hyper.maximize else 1.0
    return hyper.beta, hyper.coupled_decay, keep, sign, update.step_size, hyper.damping


@torch.no_grad()
def form_fisher_diag(param: Tensor, terms: Sequence[CurvatureTerm], *, damping: float) -> Tensor:
    """Form ``F = mean_i left_i * right_i + damping`` to be read, for statistics and by users.

    Args:
        param: Parameter, any shape.
        terms: One pair for every layer that it belongs to, at least one.
        damping: Added to the diagonal.

    Returns:
        The diagonal, shaped as ``param``.
    """
    shape = param.shape
    if terms[0][0].dim() > param.dim():
        shape = param.unflatten(0, terms[0][0].shape[:2]).shape
    fisher_diag = torch.zeros(shape, dtype=factor_dtype(param.dtype), device=param.device)
    for left, right in terms:
        fisher_diag.addcmul_(left, right)
    return fisher_diag.div_(len(terms)).add_(damping).view(param.shape)
