"""Sums of squares over some axes, which are most of what the statistics cost.

They are as fast as the memory that they move. To square a tensor first would write it out once
more, into pages that the allocator gets and gives back each time; so on the CPU rows are folded
into a scratch buffer that stays in the cache, and sums over trailing axes are norms, which write
nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adafisher import native

_FOLD_ELEMENTS = 1 << 17  # half a MiB in float32, which stays in the second-level cache
_FEW_POSITIONS = 64  # over fewer, a norm costs more than to fold the channels with them

_of_thread = threading.local()


def factor_dtype(dtype: torch.dtype) -> torch.dtype:
    """Give the dtype of a tensor's factors: float64 stays, everything narrower becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def square_sum(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Sum the squares over ``dims``, accumulated in at least float32.

    Where the first axis in memory is summed, nothing of the size of ``x`` is allocated, unless
    ``x`` has gaps or repeats entries.

    Args:
        x: Any shape.
        dims: Axes to sum over, ascending; no axis gives the squares themselves.

    Returns:
        ``x`` squared without ``dims``.
    """
    if not dims:
        return x.to(factor_dtype(x.dtype)).square()
    if len(dims) == dims[-1] + 1 and native.takes(x):
        return native.column_squares(x, x.shape[len(dims) :])
    if x.device.type != "cpu" or not x.numel():
        return reduced_square_sum(x, dims)
    if x.is_contiguous():
        return _dense(x, list(dims))
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    dense = x.permute(order)
    if not dense.is_contiguous():
        return _dense(x.contiguous(), list(dims))
    kept = [axis for axis in order if axis not in dims]
    sums = _dense(dense, [place for place, axis in enumerate(order) if axis in dims])
    return sums.permute(sorted(range(len(kept)), key=kept.__getitem__))


def _dense(x: Tensor, dims: list[int]) -> Tensor:
    """Take ``square_sum`` of a tensor on the CPU that lies in memory as its shape says."""
    leading = next((place for place, axis in enumerate(dims) if place != axis), len(dims))
    if not leading:
        return reduced_square_sum(x, dims)
    shape = x.shape[leading:]
    rows, inner = x.view(-1, shape.numel()), [axis - leading for axis in dims[leading:]]
    if inner == list(range(1, len(shape))) and shape[1:].numel() >= _FEW_POSITIONS:
        return reduced_square_sum(rows.view(len(rows), shape[0], -1), (2,)).sum(0)
    sums = folded_square_sum(rows).view(shape)
    return sums.sum(inner) if inner else sums


def folded_square_sum(x: Tensor) -> Tensor:
    """Sum the squares over rows by folding them, a piece that fits the cache at a time.

    Args:
        x: ``[rows, columns]`` on the CPU, neither of them 0.

    Returns:
        ``[columns]``.
    """
    if native.takes(x):
        return native.column_squares(x, x.shape[1:])
    dtype, (count, columns) = factor_dtype(x.dtype), x.shape
    if columns > _FOLD_ELEMENTS:
        return torch.cat([folded_square_sum(part) for part in x.split(_FOLD_ELEMENTS, 1)])
    rows = min(count, _FOLD_ELEMENTS // columns)
    first, *others = x.split(rows)
    folded = _scratch(dtype)[: rows * columns].view(rows, columns)
    if x.dtype is dtype:
        torch.mul(first, first, out=folded)
    else:
        folded.copy_(first).square_()
    for part in others:
        part = part.to(dtype)
        folded[: len(part)].addcmul_(part, part)
    return folded.sum(0)


def reduced_square_sum(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Take ``square_sum`` as one reduction, which is what an accelerator does best."""
    return torch.linalg.vector_norm(x, dim=tuple(dims), dtype=factor_dtype(x.dtype)).square_()


def _scratch(dtype: torch.dtype) -> Tensor:
    """Give memory of this thread for ``_FOLD_ELEMENTS``, which the next call overwrites."""
    kept: dict[Any, Tensor] = vars(_of_thread)
    if dtype not in kept:
        kept[dtype] = torch.empty(_FOLD_ELEMENTS, dtype=dtype, device="cpu")
    return kept[dtype]
