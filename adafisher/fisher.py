"""Running averages, Min-Max and the terms of the diagonal Fisher: pure functions of tensors.

Format: a factor is a vector, or ``[groups, d]``; a curvature term is a pair of tensors that
broadcast against each other to the (grouped view of the) parameter.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, equations (3) and (4), Algorithm 1.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

CurvatureTerm = tuple[Tensor, Tensor]

CONSTANT_FACTORS = ("ones", "zeros")
_CONSTANT_ULPS = 16


def min_max(x: Tensor, eps: float = 0.0, constant_factor: str = "ones") -> Tensor:
    """Normalise by Min-Max over all entries.

        x' = (x - min x) / (max x - min x + eps)

    The paper leaves a constant factor undefined (0/0); here it becomes ones, so that it leaves the
    other factor as it is. Constant means ``max - min <= 16 * machine epsilon * max``. The released
    code takes the formula as it stands, whose eps makes zeros of it.

    Args:
        x: Non-negative factor, any shape.
        eps: Added to the range; 1e-6 in the released code, 0 in the paper.
        constant_factor: One of ``CONSTANT_FACTORS``: what a constant factor becomes.

    Returns:
        Entries in [0, 1], shaped as ``x``.
    """
    return min_max_between(x, *torch.aminmax(x), eps, constant_factor)


def min_max_between(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    eps: float,
    constant_factor: str,
    *,
    segment: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Take ``min_max`` with the extremes given.

    Args:
        x: Non-negative, any shape.
        low: Minimum, or those of several factors that lie end to end in ``x``.
        high: Maximum, in the same way.
        eps: Added to the range.
        constant_factor: What a constant factor becomes.
        segment: For each entry of ``x`` which factor it is of; None where there is but one.
        out: Memory for the result, shaped as ``x``.
    """

    def each(extreme: Tensor) -> Tensor:
        return extreme if segment is None else extreme[segment]

    spread = high - low
    scaled = torch.sub(x, each(low), out=out).div_(each(spread + eps))
    if constant_factor == "zeros" and eps > 0.0:
        return scaled
    constant = spread <= _CONSTANT_ULPS * torch.finfo(x.dtype).eps * high
    return scaled.masked_fill_(each(constant), float(constant_factor == "ones"))


@cache
def one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Give the constant 1 of a dtype and device, always the same tensor; not to be changed."""
    return torch.ones((), dtype=dtype, device=device)


def update_average_(average: Tensor, estimate: Tensor, gammas: tuple[float, float]) -> Tensor:
    """Update a running average in place: ``gamma_1 * average + (1 - gamma_2) * estimate``.

    The two coefficients need not sum to one: Min-Max removes the scale.

    Args:
        average: Old factor, changed in place.
        estimate: Factor of this step's rows, same shape.
        gammas: ``(gamma_1, gamma_2)``.

    Returns:
        ``average``.
    """
    return average.mul_(gammas[0]).add_(estimate, alpha=1.0 - gammas[1])


def join_terms(terms: list[CurvatureTerm]) -> list[CurvatureTerm]:
    """Give the terms of one parameter one layout: if several, none is grouped.

    Args:
        terms: Pairs that broadcast to the parameter or to its grouped view.

    Returns:
        The same products, in one layout.
    """
    if len(terms) < 2:
        return terms
    dims = min(left.dim() for left, _ in terms)
    return [(a, b) if a.dim() == dims else _ungroup(a, b) for a, b in terms]


def _ungroup(left: Tensor, right: Tensor) -> CurvatureTerm:
    return left.flatten(0, 1), right.expand(-1, left.shape[1], *right.shape[2:]).flatten(0, 1)
