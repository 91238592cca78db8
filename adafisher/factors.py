"""Kronecker-factor statistics of each layer kind: pure functions of tensors.

Format. The empirical Fisher of a layer is approximated by ``diag(H) kron diag(S)``. With rows
``r = 1..R`` (samples times positions), layer input ``h_r`` and gradient of the loss at the layer's
output ``s_r``,

    H = (1/R) sum_r h_r * h_r    ``activation_diag``    S = (1/R) sum_r s_r * s_r    ``grad_diag``

The functions return the *sums* over rows, because the rows of several calls and micro-batches are
pooled before the division. Half-precision tensors are squared in float32.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, section 3.2, Proposition 3.1 and
Appendix A.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adafisher import native
from adafisher.squares import factor_dtype, square_sum

_FEW_MEETINGS = 1 << 17  # a product of one matrix of so many entries costs less than two products
_Axis = Any  # of `_axis_meetings` or `_transposed_meetings`


def linear_activation_sum(x: Tensor, *, bias: bool) -> Tensor:
    """Sum the squared, bias-augmented input of a linear layer over its rows.

    Args:
        x: Layer input, ``[*rows, d_in]``.
        bias: Whether the layer has a bias: the input is then augmented by a 1.

    Returns:
        ``[1, d_in (+ 1)]``, the last entry belongs to the bias.
    """
    if x.layout is not torch.strided:
        sums, count = sparse_square_sum(x), x.shape[:-1].numel()
        return _augment(sums.unsqueeze(0), count if bias else None)
    if native.takes(x):
        return native.column_squares(x, (1, x.shape[-1] + bias), counted=bias)
    rows = x.reshape(-1, x.shape[-1])
    return _augment(square_sum(rows, (0,)).unsqueeze(0), rows.shape[0] if bias else None)


def sparse_square_sum(x: Tensor) -> Tensor:
    """Sum the squares over all axes but the last; only the entries that are there count.

    Args:
        x: ``[*rows, d]`` in any sparse layout.

    Returns:
        ``[d]``, dense.
    """
    x = x.to_sparse_coo().coalesce()
    squares = x.values().to(factor_dtype(x.dtype)).square()
    if x.dense_dim():  # the last axis is one of the dense ones
        return squares.sum(list(range(squares.dim() - 1)))
    return squares.new_zeros(x.shape[-1]).index_add_(0, x.indices()[-1], squares)


def conv_activation_sum(
    x: Tensor,
    output_size: Sequence[int],
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    bias: bool,
) -> Tensor:
    """Sum the squared, bias-augmented patches of a convolution, without forming them.

    The rows are the patches at every sample and output position, zero padding included. As the
    square of a sum over patches needs no cross terms on the diagonal, the batch is summed first,

        H_sum[c, k] = sum_t M[c, stride * t + dilation * k],    M = sum_b pad(x_b) * pad(x_b),

    an axis at a time.

    Args:
        x: Layer input, ``[batch, channels, *spatial]``, any number of spatial axes.
        output_size: Spatial size of the layer's output.
        kernel_size: Kernel size, one number an axis.
        stride: Stride, one number an axis.
        padding: Padding before and after, one pair an axis.
        dilation: Dilation, one number an axis.
        groups: Number of groups of the convolution.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        bias: Whether the layer has a bias: every patch is then augmented by a 1.

    Returns:
        ``[groups, channels / groups * prod(kernel_size) (+ 1)]``, in the order of the weight's
        trailing axes.
    """
    axes = zip(x.shape[2:], output_size, kernel_size, stride, dilation, padding, strict=True)
    met = _met(square_sum(x, (0,)), _meetings(tuple(axes), padding_mode, x.device))
    rows = x.shape[0] * math.prod(output_size)
    return _augment(met.reshape(groups, -1), rows if bias else None)


def conv_transpose_activation_sum(
    x: Tensor,
    output_size: Sequence[int],
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    bias: bool,
) -> Tensor:
    """Sum the squared, bias-augmented patches of a transposed convolution.

    It is the convolution, by the flipped kernel, of the input with ``stride - 1`` zeros stuffed
    between its entries. The rows are the patches of that at every sample and output position, so
    the kernel's entry ``k`` meets the input at ``i`` where ``stride * i + dilation * k - padding``
    is an output position,

        H_sum[c, k] = sum_i M[c, i] [0 <= stride * i + dilation * k - padding < output_size]

    with ``M = sum_b x_b * x_b``, an axis at a time.

    Args:
        x: Layer input, ``[batch, channels, *spatial]``, any number of spatial axes.
        output_size: Spatial size of the layer's output.
        kernel_size: Kernel size, one number an axis.
        stride: Stride, one number an axis.
        padding: Padding that is cut off the output, one number an axis.
        dilation: Dilation, one number an axis.
        groups: Number of groups.
        bias: Whether the layer has a bias: every patch is then augmented by a 1.

    Returns:
        ``[groups, channels / groups * prod(kernel_size) (+ 1)]``, the kernel not flipped.
    """
    axes = zip(x.shape[2:], output_size, kernel_size, stride, dilation, padding, strict=True)
    met = _met(square_sum(x, (0,)), _meetings(tuple(axes), "transposed", x.device))
    rows = x.shape[0] * math.prod(output_size)
    return _augment(met.reshape(groups, -1), rows if bias else None)


def _met(energy: Tensor, meetings: Sequence[Tensor]) -> Tensor:
    """Sum ``M`` over the positions that each entry of the kernel meets.

    In float64, which autocast leaves alone and which no lower precision of matrix products is for.

    Args:
        energy: ``M``, ``[channels, *spatial]``.
        meetings: Of ``_meetings``.

    Returns:
        ``[channels, *kernel_size]``, or with its trailing axes in one.
    """
    met = energy.reshape(len(energy), *map(len, meetings)).to(meetings[0].dtype)
    for axis in range(met.dim() - 1, 0, -1):
        met = (met.movedim(axis, -1) @ meetings[axis - 1]).movedim(-1, axis)
    return met.to(energy.dtype)


@lru_cache(maxsize=256)
def _meetings(axes: tuple[_Axis, ...], mode: str, device: torch.device) -> list[Tensor]:
    """Count for how many outputs an entry of the kernel meets a place, ``[size, kernel]`` an axis.

    Args:
        axes: Size, outputs, kernel size, stride, dilation and padding of each axis.
        mode: The padding mode, or ``transposed``.
        device: Where to.

    Returns:
        A matrix an axis; where they are small a single one, of all places and all entries.
    """
    counts = [
        _transposed_meetings(*axis, device=device)
        if mode == "transposed"
        else _axis_meetings(*axis, mode=mode, device=device)
        for axis in axes
    ]
    if math.prod(x.numel() for x in counts) <= _FEW_MEETINGS:
        return [reduce(torch.kron, counts)]
    return counts


def _axis_meetings(
    size: int,
    outputs: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: tuple[int, int],
    *,
    mode: str,
    device: torch.device,
) -> Tensor:
    places = torch.arange(1.0, size + 1, device=device).view(1, 1, size)  # 0 is the zeros' place
    read = F.pad(places, padding, mode="constant" if mode == "zeros" else mode).flatten().long()
    read = read.unfold(0, stride * (outputs - 1) + 1, dilation)[:kernel, ::stride]
    counts = torch.zeros(kernel, size + 1, dtype=_wide(device), device=device)
    counts.scatter_add_(1, read, torch.ones_like(read, dtype=counts.dtype))
    return torch.empty(size, kernel, dtype=counts.dtype, device=device).copy_(counts[:, 1:].T)


def _transposed_meetings(
    size: int,
    outputs: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: int,
    *,
    device: torch.device,
) -> Tensor:
    places = torch.arange(size, device=device)[:, None]
    reached = stride * places + dilation * torch.arange(kernel, device=device) - padding
    return ((reached >= 0) & (reached < outputs)).to(_wide(device))


def _wide(device: torch.device) -> torch.dtype:
    """Give the widest dtype of a device: Apple's has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def token_counts(
    tokens: Tensor, num_embeddings: int, padding_idx: int | None, dtype: torch.dtype
) -> Tensor:
    """Sum the squared one-hot vectors of the tokens, which is how often each occurs.

    Args:
        tokens: Integers of any shape.
        num_embeddings: Size of the vocabulary.
        padding_idx: Token whose vector is constant: its one-hot vector is zero.
        dtype: Dtype of the result.

    Returns:
        ``[1, num_embeddings]``.
    """
    flat = tokens.reshape(-1)
    counts = torch.zeros(num_embeddings, dtype=dtype, device=tokens.device)
    counts.index_add_(0, flat, torch.ones(flat.shape, dtype=dtype, device=tokens.device))
    if padding_idx is not None:
        counts[padding_idx] = 0.0
    return counts.unsqueeze(0)


def bag_square_counts(
    tokens: Tensor,
    offsets: Tensor | None,
    *,
    num_embeddings: int,
    padding_idx: int | None,
    token_weights: Tensor | None,
    mean: bool,
    include_last_offset: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Sum the squared inputs of bags of embeddings, each a weighted count of its tokens.

        y_b = sum_v h_bv E_v,    h_bv = sum_{i in b} c_i [token_i = v]

    with ``c_i`` the token's weight, 1 without any, over the tokens of the bag if it is a mean. A
    token that occurs twice in a bag counts four times there.

    Args:
        tokens: Integers, ``[bags, tokens]``, or ``[tokens]`` cut up by ``offsets``.
        offsets: First token of each bag, ``[bags]``.
        num_embeddings: Size of the vocabulary.
        padding_idx: Token that counts in no bag.
        token_weights: ``c``, shaped as ``tokens``.
        mean: Whether a bag is the mean of its tokens.
        include_last_offset: Whether ``offsets`` ends with the number of tokens.
        dtype: Dtype of the result.

    Returns:
        ``[1, num_embeddings]``.
    """
    flat = tokens.reshape(-1)
    if tokens.dim() == 2:
        bags = torch.arange(tokens.shape[0], device=tokens.device)
        bag_of = bags.repeat_interleave(tokens.shape[1])
    else:
        assert offsets is not None
        starts = offsets[:-1] if include_last_offset else offsets
        positions = torch.arange(flat.numel(), device=tokens.device)
        bag_of = torch.searchsorted(starts.contiguous(), positions, right=True) - 1
        bags = starts
    counts = torch.ones(flat.shape, dtype=dtype, device=tokens.device)
    if token_weights is not None:
        counts = token_weights.reshape(-1).to(dtype)
    if padding_idx is not None:
        counts = counts * (flat != padding_idx)
    if mean:
        sizes = counts.new_zeros(bags.shape[0]).index_add_(0, bag_of, counts)
        counts = counts / sizes[bag_of].clamp(min=1.0)
    pairs, place = torch.unique(bag_of * num_embeddings + flat, return_inverse=True)
    squares = counts.new_zeros(pairs.shape).index_add_(0, place, counts).square()
    sums = counts.new_zeros(num_embeddings)
    return sums.index_add_(0, pairs % num_embeddings, squares).unsqueeze(0)


def channel_square_sum(x: Tensor) -> Tensor:
    """Sum the squares of each channel over the rows.

    Args:
        x: ``[batch, channels, *spatial]``, or ``[batch, channels]``.

    Returns:
        ``[channels]``.
    """
    return square_sum(x, [axis for axis in range(x.dim()) if axis != 1])


def trailing_square_sum(x: Tensor, trailing: int) -> Tensor:
    """Sum the squares of each element of the last ``trailing`` axes over the rows.

    Args:
        x: ``[*rows, *features]``.
        trailing: Number of feature axes.

    Returns:
        ``[*features]``.
    """
    return square_sum(x, range(x.dim() - trailing))


def two_vector_activation_sum(x: Tensor) -> Tensor:
    """Sum a norm layer's input per index of axis 1, as the released code does.

        a_c = (1 / T^2) sum_{b, t} h_{b, c, t},    T the product of the axes after axis 1

    Args:
        x: Layer input, ``[batch, channels, *positions]``. For a layer norm on ``[batch, tokens,
            features]`` axis 1 is the tokens: the released code does not tell the two apart.

    Returns:
        ``a``, ``[channels]``.
    """
    x = x.to(factor_dtype(x.dtype))
    positions = x[0, 0].numel() if x.shape[0] else 1
    return x.sum([axis for axis in range(x.dim()) if axis != 1]) / positions**2


def two_vector_factors(
    activation_sum: Tensor, grad_sum: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """Form the factors of a norm layer as the released code does: sum first, then square.

        H = [sum_c a_c^2, C] / B^2    (scale, shift)        S_c = (sum_{b, t} s_{b, c, t})^2 / B

    Args:
        activation_sum: ``a`` of ``two_vector_activation_sum``, ``[C]``.
        grad_sum: Sum of the output gradient over batch and positions, ``[*features]``.
        samples: ``B``.

    Returns:
        ``H``, ``[2]``, and ``S``, ``[*features]``.
    """
    energy = activation_sum.square().sum()
    count = torch.full_like(energy, activation_sum.numel())
    return torch.stack([energy, count]) / samples**2, grad_sum.square() / samples


def _augment(sums: Tensor, rows: int | None) -> Tensor:
    """Append the row sum of the constant 1, which is the number of rows, to each group."""
    return sums if rows is None else F.pad(sums, (0, 1), value=float(rows))
