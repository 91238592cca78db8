"""Kronecker factors from the rows of a step, and their damped inverses.

A factor is a stack of ``groups`` symmetric matrices ``[groups, d, d]``. One of at most d / 2 rows
stays rows, ``[groups, rows, d]``: that is less memory than a packed triangle, and both the inverse
and its products are cheaper by the Woodbury identity, which is exact.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.optimizers.symmetric import gram, pack, unpack

# Smallest damping of one factor, as in ASDL: a split may leave one of the two with nothing.
MIN_DAMPING = 1e-7


class Factor(NamedTuple):
    r"""The matrices themselves, or rows X with the matrices :math:`X^T X`.

    Attributes:
        tensor: ``[groups, d, d]`` or ``[groups, rows, d]``.
        is_rows: Whether it is rows.
    """

    tensor: Tensor
    is_rows: bool

    def mean_eigenvalue(self) -> Tensor:
        """Trace over d of each matrix, ``[groups]``."""
        if self.is_rows:
            return self.tensor.square().sum((1, 2)) / self.tensor.shape[-1]
        return self.tensor.diagonal(dim1=-2, dim2=-1).mean(-1)

    def is_finite(self) -> bool:
        """Tell whether all numbers are; a sum of outer products is bounded by its diagonal."""
        numbers = self.tensor if self.is_rows else self.tensor.diagonal(dim1=-2, dim2=-1)
        return bool(numbers.isfinite().all())


class RowSum:
    r"""Sum of :math:`x x^T` over rows that come in parts: the rows, then from d / 2 on the matrix.

    Args:
        keeps_rows: Whether few rows may stay rows; otherwise the sum is the matrix at once.
    """

    def __init__(self, *, keeps_rows: bool) -> None:
        self.count = 0
        self._keeps_rows = keeps_rows
        self._rows: list[Tensor] = []
        self._matrix: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Take rows in.

        Args:
            rows: ``[groups, rows, d]``.
        """
        self.count += rows.shape[1]
        if self._keeps_rows and 2 * self.count <= rows.shape[-1]:
            # A copy: the caller may use the memory of its inputs again before the step.
            self._rows.append(rows.clone())
            return
        for part in (*self._rows, rows):
            new = gram(part)
            self._matrix = new if self._matrix is None else self._matrix.add_(new)
        self._rows.clear()

    def factor(self, scale: float) -> Factor:
        """Return the sum times a number."""
        if self._matrix is None:
            return Factor(torch.cat(self._rows, dim=1) * scale**0.5, is_rows=True)
        return Factor(self._matrix * scale, is_rows=False)

    def matrix(self) -> Tensor | None:
        """Return the sum as matrices, ``[groups, d, d]``; ``None`` without rows."""
        if self._rows:
            return gram(torch.cat(self._rows, dim=1))
        return self._matrix


class Inverse(NamedTuple):
    r"""Damped inverses of a factor, :math:`(A + \delta I)^{-1}`, at most half of the memory of A.

    Attributes:
        tensor: The inverses packed, ``[groups, d (d + 1) / 2]``; or, of a factor in rows,
            W ``[groups, rows, d]`` with the inverses :math:`(I - W^T W) / \delta`.
        damping: delta, ``[groups]``.
    """

    tensor: Tensor
    damping: Tensor

    def times(self, *matrices: Tensor) -> list[Tensor]:
        """Multiplies the inverses by matrices, each ``[groups, d, *]``."""
        if self.tensor.ndim == 2:
            inverse = unpack(self.tensor, matrices[0].shape[-2])
            return [inverse @ each for each in matrices]
        damping = self.damping.view(-1, 1, 1)
        return [(each - self.tensor.mT @ (self.tensor @ each)) / damping for each in matrices]

    def after(self, matrices: Tensor) -> Tensor:
        """Multiplies matrices, ``[groups, *, d]``, by the inverses."""
        if self.tensor.ndim == 2:
            return matrices @ unpack(self.tensor, matrices.shape[-1])
        part = (matrices @ self.tensor.mT) @ self.tensor
        return (matrices - part) / self.damping.view(-1, 1, 1)


def invert_pair(
    input_factor: Factor, output_factor: Factor, damping: float
) -> tuple[Inverse, Inverse] | None:
    r"""Inverts both factors with the damping split between them.

    .. math::
        \pi = \sqrt{\frac{\mathrm{tr}(A) / d_{in}}{\mathrm{tr}(B) / d_{out}}}, \quad
        (A + \pi \sqrt\lambda I)^{-1}, \quad (B + \sqrt\lambda / \pi \, I)^{-1}

    Where one of the traces is zero, both factors get :math:`\lambda` itself.

    Args:
        input_factor: Factor of the input; A.
        output_factor: Factor of the output gradient; B.
        damping: Damping of the product; lambda.

    Returns:
        Inverses of A and B, or ``None`` if one of them could not be inverted.

    Reference:
        Martens and Grosse, 2015, arXiv 1503.05671, section 6.3.
    """
    ratio = (input_factor.mean_eigenvalue() / output_factor.mean_eigenvalue()).sqrt()
    split = (ratio > 0) & ratio.isfinite()
    root = damping**0.5
    whole = torch.full_like(ratio, damping)
    input_damping = torch.where(split, (root * ratio).clamp(min=MIN_DAMPING), whole)
    output_damping = torch.where(split, (root / ratio).clamp(min=MIN_DAMPING), whole)
    input_inverse = invert(input_factor, input_damping)
    output_inverse = invert(output_factor, output_damping)
    if input_inverse is None or output_inverse is None:
        return None
    return input_inverse, output_inverse


def invert(factor: Factor, damping: Tensor) -> Inverse | None:
    r"""Damped inverse by Cholesky, with retries in float64 and then with more damping.

    Of a factor in rows, :math:`A = X^T X`, it is by Woodbury

    .. math::
        (X^T X + \delta I)^{-1} = \frac1\delta (I - W^T W), \quad
        W = L^{-1} X, \quad L L^T = X X^T + \delta I

    Args:
        factor: Symmetric positive semi-definite matrices.
        damping: What is added to each diagonal; delta, ``[groups]``.

    Returns:
        The inverses, or ``None`` if every try failed.
    """
    tensor = factor.tensor
    for lower, used in _cholesky(gram(tensor.mT) if factor.is_rows else tensor, damping):
        if factor.is_rows:
            solved = torch.linalg.solve_triangular(lower, tensor.to(lower.dtype), upper=False)
        else:
            solved = torch.cholesky_inverse(lower)
        found = Factor(solved.to(tensor.dtype), factor.is_rows)
        if found.is_finite():
            return Inverse(found.tensor if found.is_rows else pack(found.tensor), used)
    return None


def _cholesky(matrices: Tensor, damping: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Factorisations that worked, each with the damping it took."""
    # A factor summed in float32 has eigenvalues down to about -1e-7 of the largest, which the
    # damping may not lift above zero in any precision: hence the tries with more of it.
    tries = ((matrices.dtype, 1), *((torch.float64, scale) for scale in (1, 10, 100)))
    for dtype, scale in tries:
        damped = matrices.to(dtype, copy=True)
        damped.diagonal(dim1=-2, dim2=-1).add_((scale * damping.to(dtype)).unsqueeze(-1))
        lower, info = torch.linalg.cholesky_ex(damped)
        if bool((info == 0).all()):
            yield lower, scale * damping


def precondition(
    weight_grads: Sequence[Tensor],
    bias_grads: Sequence[Tensor],
    input_inverses: Sequence[Inverse],
    output_inverses: Sequence[Inverse],
) -> None:
    r"""Replace gradients of like layers: :math:`B^{-1} G A^{-1}`, and :math:`B^{-1} g` of biases.

    Args:
        weight_grads: Gradient of each weight; G, ``[groups * d_out, ...]`` with ``d_in`` elements
            in a row.
        bias_grads: Gradient of each bias; g, ``[groups * d_out]``. Empty if the layers have none.
        input_inverses: Inverse of A of each layer.
        output_inverses: Inverse of B of each layer.
    """
    inputs, outputs = _stacked(input_inverses), _stacked(output_inverses)
    groups = len(input_inverses[0].tensor)
    sides = [_rows_of(grads, groups, inputs.tensor.dtype) for grads in (weight_grads, bias_grads)]
    sides[0] = [inputs.after(matrices) for matrices in sides[0]]
    parts = iter(outputs.times(*sides[0], *sides[1]))
    for grads in (weight_grads, bias_grads):
        if grads:
            for grad, part in zip(grads, next(parts).split(groups), strict=True):
                grad.copy_(part.reshape(grad.shape))


def _rows_of(grads: Sequence[Tensor], groups: int, dtype: torch.dtype) -> list[Tensor]:
    """All gradients as one stack ``[layers * groups, d_out, *]``; nothing of none."""
    rows = [grad.reshape(groups, len(grad) // groups, -1).to(dtype) for grad in grads]
    return [torch.cat(rows)] if len(rows) > 1 else rows


def _stacked(inverses: Sequence[Inverse]) -> Inverse:
    if len(inverses) == 1:
        return inverses[0]
    return Inverse(*(torch.cat(parts) for parts in zip(*inverses, strict=True)))
