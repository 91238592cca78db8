"""Eigenbases of Kronecker factors, and second moments of per-example gradients in them.

A basis is ``[groups, d, k]`` with orthonormal columns. With k < d the rest of the space is where a
factor is zero: columns of zeros stand for further directions of that kind.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.optimizers.inverses import Factor
from experiments.optimizers.kronecker_factors import PATCH_ELEMENTS, input_rows, output_rows
from experiments.optimizers.symmetric import gram


class LayerCall(NamedTuple):
    """One call of a layer; the first axis of both tensors counts the examples.

    Attributes:
        inputs: Input of the layer.
        grad: Gradient at its output.
    """

    inputs: Tensor
    grad: Tensor


def eigenbasis(factor: Factor) -> Tensor | None:
    r"""Orthonormal eigenvectors of each matrix of a factor, with a retry in float64.

    For a factor in rows, :math:`A = X^T X`, those of its range alone, from the smaller problem
    :math:`X X^T = Q \Sigma Q^T`: the columns :math:`X^T Q \Sigma^{-1/2}`.

    Args:
        factor: Symmetric positive semi-definite matrices, ``[groups, d, d]``.

    Returns:
        The basis, ``[groups, d, k]``, or ``None`` if no decomposition converged.
    """
    tensor = factor.tensor
    for dtype in dict.fromkeys((tensor.dtype, torch.float64)):
        wide = tensor.to(dtype)
        try:
            values, vectors = torch.linalg.eigh(gram(wide.mT) if factor.is_rows else wide)
        except torch.linalg.LinAlgError:
            continue
        if factor.is_rows:
            # Below this an eigenvalue is rounding, and its direction would not be orthonormal.
            floor = values.amax(-1, keepdim=True) * len(values[0]) * torch.finfo(dtype).eps
            scale = torch.where(values > floor, values, torch.inf).rsqrt()
            vectors = wide.mT @ (vectors * scale.unsqueeze(-2))
        found = vectors.to(tensor.dtype)
        if bool(found.isfinite().all()):
            return found
    return None


def second_moments(
    layer: nn.Linear | nn.Conv2d,
    forwards: Sequence[Sequence[LayerCall]],
    input_basis: Tensor,
    output_basis: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Squares of the per-example gradients in a Kronecker basis, summed over the examples.

    With the gradient :math:`G_n = \sum_r g_{nr} a_{nr}^T` of example n, over positions and calls,

    .. math::
        S = \sum_n (U_B^T G_n U_A)^{\circ 2}, \quad s = \sum_n (U_B^T \sum_r g_{nr})^{\circ 2}

    Args:
        layer: The layer.
        forwards: For each forward pass its calls of the layer, all with the same examples.
        input_basis: Basis of the input factor; U_A, ``[groups, d_in, k_in]``.
        output_basis: Basis of the output factor; U_B, ``[groups, d_out, k_out]``.

    Returns:
        Those of the weight; S, ``[groups, k_out, k_in]``, and of the bias; s, ``[groups, k_out]``.

    Reference:
        George et al., 2018, arXiv 1806.03884, equations 8 and 11.
    """
    groups, _, k_in = input_basis.shape
    k_out = output_basis.shape[-1]
    weight_sum = input_basis.new_zeros(groups, k_out, k_in)
    bias_sum = input_basis.new_zeros(groups, k_out)
    for calls in forwards:
        calls = [_with_examples(layer, call) for call in calls]
        examples = len(calls[0].grad)
        positions = sum(call.grad[0].numel() for call in calls) // (groups * output_basis.shape[1])
        largest = groups * max(k_in * k_out, positions * input_basis.shape[1])
        chunk = max(1, PATCH_ELEMENTS // largest)
        for start in range(0, examples, chunk):
            part = slice(start, start + chunk)
            sides = [_projected(layer, call, part, input_basis, output_basis) for call in calls]
            inputs = torch.cat([side[0] for side in sides], dim=2)
            outputs = torch.cat([side[1] for side in sides], dim=2)
            if inputs.shape[2] == 1:
                weight_sum += outputs[:, :, 0].square().mT @ inputs[:, :, 0].square()
            else:
                weight_sum += (outputs.mT @ inputs).square_().sum(1)
            bias_sum += outputs.sum(2).square().sum(1)
    return weight_sum, bias_sum


def rescale(
    matrices: Tensor, moments: Tensor, input_basis: Tensor, output_basis: Tensor, damping: float
) -> Tensor:
    r"""Divides gradients by damped second moments in a Kronecker basis.

    .. math::
        U_B \left[(U_B^T G U_A) \oslash (S + \lambda)\right] U_A^T

    Outside a basis that does not span the space, S is zero: there it is :math:`G / \lambda`.

    Args:
        matrices: Gradients; G, ``[groups, d_out, d_in]``.
        moments: Second moments; S, ``[groups, k_out, k_in]``.
        input_basis: U_A, ``[groups, d_in, k_in]``.
        output_basis: U_B, ``[groups, d_out, k_out]``.
        damping: lambda.

    Returns:
        ``[groups, d_out, d_in]``.
    """
    inside = output_basis.mT @ matrices @ input_basis
    spans = all(basis.shape[-1] == basis.shape[-2] for basis in (input_basis, output_basis))
    if spans:
        return output_basis @ (inside / (moments + damping)) @ input_basis.mT
    excess = inside * (1 / (moments + damping) - 1 / damping)
    return matrices / damping + output_basis @ excess @ input_basis.mT


def _with_examples(layer: nn.Linear | nn.Conv2d, call: LayerCall) -> LayerCall:
    axes = 2 if isinstance(layer, nn.Linear) else 4
    return call if call.inputs.ndim >= axes else LayerCall(*(side.unsqueeze(0) for side in call))


def _projected(
    layer: nn.Linear | nn.Conv2d,
    call: LayerCall,
    part: slice,
    input_basis: Tensor,
    output_basis: Tensor,
) -> tuple[Tensor, Tensor]:
    """Rows of some examples in both bases, ``[groups, examples, positions, k]``."""
    inputs, grad = (side[part].to(input_basis.dtype) for side in call)
    rows = torch.cat([some @ input_basis for some in input_rows(layer, inputs)], dim=1)
    outputs = output_rows(layer, grad) @ output_basis
    shape = (len(grad), -1)
    return rows.unflatten(1, shape), outputs.unflatten(1, shape)
