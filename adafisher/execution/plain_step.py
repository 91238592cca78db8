"""The plain step: torch's own calls, over as many parameters at once as stay in the cache.

A call costs more than the arithmetic of a small parameter, and a pass over a large one costs a read
of memory. So parameters are taken in chunks: small ones together, large ones cut into blocks of
rows, and of each chunk momentum and denominators are still in the cache when they are needed. What
is the same at every step, the views above all, is made once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from adafisher.execution.placement import Placement
from adafisher.execution.step import Denominator, Update, plain_step_
from adafisher.fisher import CurvatureTerm
from adafisher.squares import factor_dtype

_CHUNK_ELEMENTS = 1 << 19  # 2 MiB in float32: fewer calls than 1 MiB, and still within the cache
_ALIGNED = 16  # elements, as vector instructions like it
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class PlainStep:
    """Takes steps, and remembers how the parameters lie in memory.

    Attributes:
        scratch: A buffer for denominators, for every device and dtype.
    """

    def __init__(self, foreach: bool | None = None) -> None:
        """Choose how many parameters are taken at once.

        Args:
            foreach: All (True), one (False), or as many as fit into the cache (None).
        """
        self._limit = {True: math.inf, False: 0, None: _CHUNK_ELEMENTS}[foreach]
        self._blocks: dict[int, _Blocks] = {}
        self._plans: dict[int, _Plan] = {}
        self.scratch: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __call__(self, updates: Iterable[Update]) -> None:
        """Take the steps; those that share one object of hyperparameters are taken together.

        Args:
            updates: Steps of different parameters.
        """
        batches: dict[Any, list[Update]] = {}
        for update in updates:
            param = update.param
            if param.numel():  # a shard may be empty
                key = (id(update.hyper), bool(update.terms), param.device, param.dtype)
                batches.setdefault(key, []).append(update)
        for batch in batches.values():
            self._take(batch)

    def _take(self, batch: Sequence[Update]) -> None:
        """Step parameters that share hyperparameters, device and dtype."""
        blocks = [self._cut(update) for update in batch]
        plan = self._plans.get(id(batch[0].param))
        if plan is None or plan.blocks != blocks:
            plan = _Plan(blocks, self._limit, self.scratch)
            self._plans[id(batch[0].param)] = plan
        grads: list[Tensor] = []
        step_sizes: list[float] = []
        for own, update in zip(blocks, batch, strict=True):
            pieces = own.follow(update.grad)
            grads += pieces
            step_sizes += [update.step_size] * len(pieces)
        for chunk in plan.chunks:
            at = chunk.at
            plain_step_(*chunk.operands, grads[at], step_sizes[at], batch[0].hyper)

    def _cut(self, update: Update) -> _Blocks:
        known = self._blocks.get(id(update.param))
        if known is None or not known.is_of(update):
            known = self._blocks[id(update.param)] = _Blocks(update)
        return known


class _Piece(NamedTuple):
    """A block of a parameter, with what it is stepped by."""

    param: Tensor
    exp_avg: Tensor
    terms: list[CurvatureTerm]
    damping: Tensor | None


class _Blocks(Placement):
    """A parameter cut into blocks of rows.

    Attributes:
        pieces: The blocks.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update)
        terms = update.terms
        self._groups = None
        if terms and terms[0][0].dim() > update.param.dim():
            self._groups = terms[0][0].shape[:2]
        param, exp_avg = self._grouped(update.param), self._grouped(update.exp_avg)
        self._copies: list[tuple[Tensor, Tensor]] = []
        terms = self._laid_out(param, terms)
        self._damping = update.hyper.damping
        self._rows, self._whole = _block_rows(param), param
        # Rows of the damping, as a scalar operand keeps ``addcmul`` from vectorising on the CPU.
        dampings = [torch.full_like(b, self._damping) for _, b in terms[:1]]
        flat = [param, exp_avg, *(t for term in terms for t in term), *dampings]
        self.pieces = [
            _Piece(p, m, _pairs(operands[: 2 * len(terms)]), operands[-1] if terms else None)
            for p, m, *operands in zip(*(self._split(t) for t in flat), strict=True)
        ]

    def is_of(self, update: Update) -> bool:
        """Tell whether another update is cut alike."""
        return self._damping == update.hyper.damping and super().is_of(update)

    def follow(self, grad: Tensor) -> Sequence[Tensor]:
        """Take over the terms as they are now, and cut the gradient into the same blocks."""
        for own, term in self._copies:
            own.copy_(term)
        return self._split(self._grouped(grad))

    def _grouped(self, x: Tensor) -> Tensor:
        return x if self._groups is None else x.unflatten(0, self._groups)

    def _laid_out(self, param: Tensor, terms: list[CurvatureTerm]) -> list[CurvatureTerm]:
        """Give the terms as they lie best in memory, by copies where they lie otherwise."""
        layout = _CHANNELS_LAST.get(param.dim())
        is_dense = layout is not None and param.is_contiguous(memory_format=layout)
        if layout is None or not is_dense or param.is_contiguous():
            return terms
        flat = [t for term in terms for t in term]
        copies = [torch.empty_like(t, memory_format=layout) for t in flat]
        self._copies = list(zip(copies, flat, strict=True))
        return _pairs(copies)

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        """Cut along the first axis; what broadcasts along it stands in each block."""
        whole, rows = self._whole, self._rows
        if whole.dim() == 0 or rows >= whole.shape[0]:
            return (x,)
        if x.shape[0] == 1:
            return (x,) * -(-whole.shape[0] // rows)
        return cast(Sequence[Tensor], x.split(rows))


class _Chunk(NamedTuple):
    """Blocks that are stepped at once: which of the batch, and operands of ``plain_step_``."""

    at: slice
    operands: tuple[list[Tensor], list[Tensor], list[Denominator]]


class _Plan:
    """The parameters of a batch in chunks, with memory for the denominators of one chunk.

    Attributes:
        blocks: Of the parameters, in their order.
        chunks: The same in theirs.
    """

    def __init__(
        self,
        blocks: list[_Blocks],
        limit: float,
        scratch: dict[tuple[torch.device, torch.dtype], Tensor],
    ) -> None:
        self.blocks = blocks
        pieces = [piece for own in blocks for piece in own.pieces]
        starts, room = [0], 0
        for i, piece in enumerate(pieces):
            room += _span(piece.param)
            if i and room > limit:
                starts.append(i)
                room = _span(piece.param)
        stops = [*starts[1:], len(pieces)]
        slices = [slice(*ends) for ends in zip(starts, stops, strict=True)]
        buffer = None
        if pieces[0].damping is not None:
            most = max(sum(_span(piece.param) for piece in pieces[at]) for at in slices)
            kind = pieces[0].param.device, factor_dtype(pieces[0].param.dtype)
            buffer = scratch.get(kind)
            if buffer is None or buffer.numel() < most:
                buffer = scratch[kind] = torch.empty(most, device=kind[0], dtype=kind[1])
        self.chunks = [_Chunk(at, _operands(pieces[at], buffer)) for at in slices]


def _operands(
    pieces: Sequence[_Piece], buffer: Tensor | None
) -> tuple[list[Tensor], list[Tensor], list[Denominator]]:
    """Lay out what ``plain_step_`` takes besides gradients and numbers."""
    denominators: list[Denominator] = []
    start = 0
    for param, _, terms, damping in pieces:
        if buffer is None or damping is None:
            break
        fisher_diag = buffer.as_strided(param.shape, param.stride(), start)
        denominators.append(Denominator(terms, damping, fisher_diag))
        start += _span(param)
    return [piece.param for piece in pieces], [piece.exp_avg for piece in pieces], denominators


def _span(x: Tensor) -> int:
    """Count the entries that a tensor with these strides spans in memory, rounded up."""
    extents = zip(x.shape, x.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in extents)
    return -(-span // _ALIGNED) * _ALIGNED


def _block_rows(param: Tensor) -> int:
    """Choose the rows of a block. An accelerator takes all of them: there a launch costs more."""
    if param.dim() == 0:
        return 1
    if param.device.type != "cpu":
        return max(1, param.shape[0])
    return max(1, min(param.shape[0], _CHUNK_ELEMENTS * param.shape[0] // max(1, param.numel())))


def _pairs(flat: Sequence[Tensor]) -> list[CurvatureTerm]:
    return list(zip(flat[::2], flat[1::2], strict=True))
