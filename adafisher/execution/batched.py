"""The functions of ``fisher`` over the factors of all layers at once.

A refresh touches many vectors, each so short that a call costs more than its arithmetic. They are
laid end to end, a segment each, and the numbers are the same as one at a time; ``Flat`` keeps them
there from one refresh to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from adafisher.execution.scaling import Scale, divide
from adafisher.fisher import min_max_between, one, update_average_
from adafisher.layers.layer import Layer
from adafisher.layers.rule import Factors


class Flat:
    """Running averages of layers of one device and dtype, end to end, and their Min-Max.

    Attributes:
        layers: Layers whose averages are views of ``averages`` from here on.
        averages: ``H`` and ``S`` of each layer in turn, ``[entries]``.
        normalised: Min-Max of each factor, ``[entries]``, in the same memory at every refresh.
        factors: Min-Max of ``H`` and ``S`` of each layer, views of ``normalised``.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Lay the averages out; every layer has some."""
        self.layers = list(layers)
        factors = [x for layer in layers for x in layer.averages() or ()]
        self._shapes = [x.shape for x in factors]
        self.averages, self._lengths, self._segment = _join(factors, factors[0].device)
        self.normalised = torch.empty_like(self.averages)
        self.factors = self._pairs(self.normalised)
        self._divisors: tuple[Sequence[float], Tensor] | None = None
        pairs = self._pairs(self.averages)
        self._places = [x.data_ptr() for pair in pairs for x in pair]
        for layer, averages in zip(layers, pairs, strict=True):
            layer.activation_diag, layer.grad_diag = averages

    def holds(self, layers: Sequence[Layer]) -> bool:
        """Tell whether it is of these layers, and their averages lie where they were laid."""
        return self.layers == layers and self._places == [
            x.data_ptr() for layer in layers for x in layer.averages() or ()
        ]

    def owns(self, x: Tensor) -> bool:
        """Tell whether a tensor stays right: a view of ``normalised``, or the constant 1."""
        return _memory(x) in (_memory(self.normalised), _memory(one(x.dtype, x.device)))

    def average(
        self,
        sums: Sequence[Tensor],
        divisors: Sequence[float],
        scale: Scale,
        gammas: tuple[float, float],
    ) -> bool:
        """Take estimates of all layers into the averages, if every entry is finite.

        Args:
            sums: ``H`` and ``S`` of each layer in turn, up to the divisors.
            divisors: What they are to be divided by.
            scale: Loss scale, by whose square ``S`` is to be divided too.
            gammas: See ``update_average_``.

        Returns:
            Whether they were taken; the averages are as before where not.
        """
        average = self.averages
        if [x.shape for x in sums] != self._shapes or any(
            x.dtype is not average.dtype or x.device != average.device for x in sums
        ):
            return False
        if self._divisors is None or self._divisors[0] != divisors:
            each = torch.tensor(divisors, dtype=average.dtype, device=average.device)
            self._divisors = divisors, each[self._segment]
        estimates = torch.cat([x.reshape(-1) for x in sums]).div_(self._divisors[1])
        if isinstance(scale, Tensor) or scale != 1.0:
            is_grad = self._segment % 2 == 1
            estimates = torch.where(is_grad, divide(estimates, scale), estimates)
        if not bool(torch.isfinite(estimates.sum())):
            return False
        update_average_(average, estimates, gammas)
        return True

    def normalise(self, eps: float, constant_factor: str) -> None:
        """Take Min-Max of the averages."""
        _min_max(
            self.averages, self._lengths, self._segment, eps, constant_factor, out=self.normalised
        )

    def _pairs(self, flat: Tensor) -> list[Factors]:
        pieces = flat.split([shape.numel() for shape in self._shapes])
        views = [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))


def lay_out(layers: Sequence[Layer]) -> list[Flat]:
    """Lay out the averages of layers, those of each device and dtype together."""
    firsts = [averages[0] for layer in layers if (averages := layer.averages())]
    return [Flat([layers[i] for i in members]) for members in _kinds(firsts).values()]


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
        scaled = _min_max(*_join(chosen, device), eps, constant_factor)
        pieces = scaled.split([x.numel() for x in chosen])
        for i, piece in zip(members, pieces, strict=True):
            result[i] = piece.view(factors[i].shape)
    return result


def _min_max(
    flat: Tensor,
    lengths: Tensor,
    segment: Tensor,
    eps: float,
    constant_factor: str,
    out: Tensor | None = None,
) -> Tensor:
    low, high = (
        torch.segment_reduce(flat, reduce, lengths=lengths, unsafe=True)
        for reduce in ("min", "max")
    )
    return min_max_between(flat, low, high, eps, constant_factor, segment=segment, out=out)


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


def _memory(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


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
