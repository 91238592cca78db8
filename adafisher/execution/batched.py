"""The functions of ``fisher`` over the factors of all layers at once.

A refresh touches many vectors, each so short that a call costs more than its arithmetic. They are
laid end to end, a segment each, and the numbers are the same as one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from adafisher.fisher import min_max_between


def min_max_all(
    factors: Sequence[Tensor], eps: float = 0.0, constant_factor: str = "ones"
) -> list[Tensor]:
    """Take ``fisher.min_max`` of each factor.

    Args:
        factors: Non-negative factors, of any shapes, devices and dtypes.
        eps: Added to each range.
        constant_factor: What a constant factor becomes.

    Returns:
        Factors with entries in [0, 1], shaped as they were, as views of common memory.
    """
    result = list(factors)
    for (device, _), members in _kinds(factors).items():
        chosen = [factors[i] for i in members]
        flat, lengths, segment = _join(chosen, device)
        low, high = (
            torch.segment_reduce(flat, reduce, lengths=lengths, unsafe=True)
            for reduce in ("min", "max")
        )
        scaled = min_max_between(flat, low[segment], high[segment], eps, constant_factor)
        pieces = scaled.split([x.numel() for x in chosen])
        for i, piece in zip(members, pieces, strict=True):
            result[i] = piece.view(factors[i].shape)
    return result


def all_finite(estimates: Sequence[tuple[Tensor, Tensor]]) -> list[bool]:
    """Tell whether both factors of each estimate are finite; each device is waited for once."""
    factors = [x for estimate in estimates for x in estimate]
    finite = [True] * len(factors)
    for (device, _), members in _kinds(factors).items():
        flat, lengths, _ = _join([factors[i] for i in members], device)
        flags = torch.isfinite(flat).to(torch.float32)
        lowest = torch.segment_reduce(flags, "min", lengths=lengths, unsafe=True)
        for i, flag in zip(members, lowest.tolist(), strict=True):
            finite[i] = flag != 0.0
    return [a and b for a, b in zip(finite[::2], finite[1::2], strict=True)]


def _kinds(tensors: Sequence[Tensor]) -> dict[tuple[torch.device, torch.dtype], list[int]]:
    """Give the positions of the tensors of each device and dtype."""
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, x in enumerate(tensors):
        kinds.setdefault((x.device, x.dtype), []).append(i)
    return kinds


def _join(tensors: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lay tensors end to end; give their lengths, and for every entry its tensor's number."""
    lengths, segment = _segments(tuple(x.numel() for x in tensors), device)
    return torch.cat([x.reshape(-1) for x in tensors]), lengths, segment


@lru_cache(maxsize=16)
def _segments(lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Keep both from one refresh to the next, as an accelerator would wait for the copy."""
    counts = torch.tensor(lengths, device=device)
    return counts, torch.repeat_interleave(counts)
