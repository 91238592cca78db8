"""The step in three forms, one under another, and ``F`` for whoever reads it.

All three compute, of a parameter ``theta`` with gradient ``g``,

    m <- beta m + (1 - beta) (g + coupled theta)                             # m
    F = mean_i left_i * right_i + damping, or 1 without a term               # F
    theta <- (1 - shrink) theta - step_size m / F                            # theta

in place, and agree up to rounding; the same three comments stand in each. ``plain_step_`` takes one
parameter, ``batched_step_`` many small ones at once, ``fused_step_`` is what ``fused`` compiles.

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


def plain_step_(update: Update, damping: Tensor | None, scratch: Tensor) -> None:
    """Step one parameter or a block of it; nothing of its size is allocated.

    Args:
        update: What to step.
        damping: ``hyper.damping``, shaped as the right side of the first term: the CPU adds a row
            at full speed, and one number at a seventh of that. None without terms.
        scratch: Buffer that holds a tensor of the parameter's shape and strides.
    """
    param, grad, exp_avg, terms, step_size, hyper = update
    # m
    if hyper.maximize:
        exp_avg.mul_(hyper.beta).add_(grad, alpha=hyper.beta - 1.0)
    else:
        exp_avg.lerp_(grad, 1.0 - hyper.beta)
    if hyper.coupled_decay:
        exp_avg.add_(param, alpha=(1.0 - hyper.beta) * hyper.coupled_decay)
    # F
    if damping is not None:
        fisher_diag = scratch.as_strided(param.shape, param.stride())
        weight = 1.0 / len(terms)
        (left, right), *others = terms
        torch.addcmul(damping, left, right, value=weight, out=fisher_diag)
        for left, right in others:
            fisher_diag.addcmul_(left, right, value=weight)
    # theta
    if hyper.shrink:
        param.mul_(1.0 - hyper.shrink)
    if damping is None:
        param.add_(exp_avg, alpha=-step_size)
    else:
        param.addcdiv_(exp_avg, fisher_diag, value=-step_size)


def batched_step_(updates: Sequence[Update]) -> None:
    """Step parameters that share hyperparameters, device and dtype.

    The denominators of the whole batch are held at once.

    Args:
        updates: With one term each, or all without.
    """
    hyper, terms = updates[0].hyper, updates[0].terms
    params, grads = [u.param for u in updates], [u.grad for u in updates]
    exp_avgs, step_sizes = [u.exp_avg for u in updates], [-u.step_size for u in updates]
    # m
    if hyper.maximize:
        torch._foreach_mul_(exp_avgs, hyper.beta)
        torch._foreach_add_(exp_avgs, grads, alpha=hyper.beta - 1.0)
    else:
        torch._foreach_lerp_(exp_avgs, grads, 1.0 - hyper.beta)
    if hyper.coupled_decay:
        torch._foreach_add_(exp_avgs, params, alpha=(1.0 - hyper.beta) * hyper.coupled_decay)
    # F
    if terms:
        lefts, rights = zip(*(u.terms[0] for u in updates), strict=True)
        products = torch._foreach_mul(lefts, rights)
        torch._foreach_add_(products, hyper.damping)
        fisher_diags = [f.view(p.shape) for f, p in zip(products, params, strict=True)]
    # theta
    if hyper.shrink:
        torch._foreach_mul_(params, 1.0 - hyper.shrink)
    if not terms:
        torch._foreach_add_(params, torch._foreach_mul(exp_avgs, step_sizes))
    else:
        torch._foreach_addcdiv_(params, exp_avgs, fisher_diags, step_sizes)


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
