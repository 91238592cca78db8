"""Which form of the step each parameter takes: native, plain in blocks, batched or compiled.

On the CPU a large parameter is taken in blocks, so that its momentum and its denominators are still
in the cache when they are needed; small ones go through ``torch._foreach``, because the calls cost
more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from adafisher.execution.fused import FusedStep, Matrices, as_matrices
from adafisher.execution.native_step import NativeStep
from adafisher.execution.placement import Placement
from adafisher.execution.step import Update, batched_step_, pack_scalars, plain_step_
from adafisher.fisher import CurvatureTerm
from adafisher.native import serves
from adafisher.squares import factor_dtype

_BLOCK_ELEMENTS = 1 << 19  # 2 MiB in float32: fewer calls than 1 MiB, and still within the cache
_SMALL_ELEMENTS = 1 << 14  # below, a batched call costs less than the parameter's own
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass
class Stepper:
    """Takes the steps, and owns the scratch memory that they reuse.

    Attributes:
        foreach: Whether parameters are batched: the small ones (None), all (True), none (False).
        fused: Whether steps are taken in one pass over memory: on the CPU by the native library,
            and elsewhere compiled, on CUDA (None), everywhere (True) or nowhere (False).
        scratch: A buffer for every device and dtype.
    """

    foreach: bool | None = None
    fused: bool | None = None
    scratch: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict)
    _blocks: dict[int, _Blocks] = field(default_factory=dict)
    _native_step: NativeStep = field(default_factory=NativeStep)
    _fused_step: FusedStep = field(default_factory=FusedStep)

    def form(self, param: Tensor) -> str:
        """Name the form that parameters like this one are stepped in."""
        if self.foreach:
            return "foreach"
        if self.fused is not False and serves(param):
            return "native"
        compiles = param.is_cuda if self.fused is None else self.fused
        return "compiled" if compiles and self._fused_step.failure is None else "mixed"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out scratch memory and compiled code, which belong to the process."""
        return {"foreach": self.foreach, "fused": self.fused}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without either."""
        self.__init__(**state)  # type: ignore[misc]

    def run(self, updates: Iterable[Update]) -> None:
        """Step every parameter.

        Args:
            updates: Their steps, in any order.
        """
        batches: dict[Any, list[Update]] = {}
        fused: dict[Any, list[tuple[Update, Matrices]]] = {}
        if self.fused is not False and not self.foreach:
            updates = self._native_step(updates)
        for update in updates:
            param = update.param
            if not param.numel():  # a shard may be empty
                continue
            if self._is_batched(update):
                key = (update.hyper, bool(update.terms), param.device, param.dtype)
                batches.setdefault(key, []).append(update)
            elif matrices := self._matrices(update):
                fused.setdefault((param.device, param.dtype), []).append((update, matrices))
            else:
                self._step_blocks(update)
        for batch in batches.values():
            batched_step_(batch)
        for pairs in fused.values():
            scalars = [pack_scalars(update) for update, _ in pairs]
            if not self._fused_step([matrices for _, matrices in pairs], scalars):
                for update, _ in pairs:
                    self._step_blocks(update)

    def _is_batched(self, update: Update) -> bool:
        if self.foreach is False or len(update.terms) > 1:
            return False
        return self.foreach is True or update.param.numel() <= _SMALL_ELEMENTS

    def _matrices(self, update: Update) -> Matrices | None:
        """Give what the compiled step takes, or None where it is not wanted or not possible."""
        param, grad, exp_avg, terms = update[:4]
        wanted = param.is_cuda if self.fused is None else self.fused
        if not wanted or len(terms) != 1:
            return None
        return as_matrices(param, grad, exp_avg, *terms[0])

    def _step_blocks(self, update: Update) -> None:
        """Step one parameter, a block of rows at a time."""
        blocks = self._blocks.get(id(update.param))
        if blocks is None or not blocks.is_of(update):
            blocks = self._blocks[id(update.param)] = _Blocks(update)
        buffer = self._buffer(blocks) if update.terms else update.param
        for piece, grad in zip(blocks.pieces, blocks.cut(update.grad), strict=True):
            own = Update(
                piece.param, grad, piece.exp_avg, piece.terms, update.step_size, update.hyper
            )
            plain_step_(own, piece.damping, buffer)

    def _buffer(self, blocks: _Blocks) -> Tensor:
        """Give memory for the denominators of a block, one for each device and dtype."""
        buffer = self.scratch.get(blocks.kind)
        if buffer is None or buffer.numel() < blocks.scratch_elements:
            device, dtype = blocks.kind
            buffer = torch.empty(blocks.scratch_elements, device=device, dtype=dtype)
            self.scratch[blocks.kind] = buffer
        return buffer


class _Piece(NamedTuple):
    """A block of a parameter, with what it is stepped by; see ``plain_step_``."""

    param: Tensor
    exp_avg: Tensor
    terms: list[CurvatureTerm]
    damping: Tensor | None


class _Blocks(Placement):
    """A parameter cut into blocks of rows.

    Attributes:
        pieces: The blocks.
        kind: Device and dtype of the denominators.
        scratch_elements: Entries that a block spans in memory.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update)
        terms = update.terms
        self._groups = None
        if terms and terms[0][0].dim() > update.param.dim():
            self._groups = terms[0][0].shape[:2]
        param, exp_avg = self._grouped(update.param), self._grouped(update.exp_avg)
        self._is_copied, terms = _laid_out(param, terms)
        self._damping = update.hyper.damping
        self._rows, self._whole = _block_rows(param), param
        # Rows of the damping, as a scalar operand keeps ``addcmul`` from vectorising on the CPU.
        dampings = [torch.full_like(b, self._damping) for _, b in terms[:1]]
        flat = [param, exp_avg, *(t for term in terms for t in term), *dampings]
        self.pieces = [
            _Piece(p, m, _pairs(operands[: 2 * len(terms)]), operands[-1] if terms else None)
            for p, m, *operands in zip(*(self._split(t) for t in flat), strict=True)
        ]
        self.kind = param.device, factor_dtype(param.dtype)
        extents = zip(self.pieces[0].param.shape, param.stride(), strict=True)
        self.scratch_elements = 1 + sum((size - 1) * stride for size, stride in extents if size)

    def is_of(self, update: Update) -> bool:
        """Tell whether another update is cut alike, and by terms that follow theirs."""
        return (
            not self._is_copied and self._damping == update.hyper.damping and super().is_of(update)
        )

    def cut(self, grad: Tensor) -> Sequence[Tensor]:
        """Cut the gradient into the same blocks."""
        return self._split(self._grouped(grad))

    def _grouped(self, x: Tensor) -> Tensor:
        return x if self._groups is None else x.unflatten(0, self._groups)

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        """Cut along the first axis; what broadcasts along it stands in each block."""
        whole, rows = self._whole, self._rows
        if whole.dim() == 0 or rows >= whole.shape[0]:
            return (x,)
        if x.shape[0] == 1:
            return (x,) * -(-whole.shape[0] // rows)
        return cast(Sequence[Tensor], x.split(rows))


def _laid_out(param: Tensor, terms: list[CurvatureTerm]) -> tuple[bool, list[CurvatureTerm]]:
    """Give the terms as they lie best in memory, and whether these are copies."""
    layout = _CHANNELS_LAST.get(param.dim())
    is_dense = layout is not None and param.is_contiguous(memory_format=layout)
    if layout is None or not is_dense or param.is_contiguous() or not terms:
        return False, terms
    return True, [(a, b.contiguous(memory_format=layout)) for a, b in terms]


def _block_rows(param: Tensor) -> int:
    """Choose the rows of a block. An accelerator takes all of them: there a launch costs more."""
    if param.dim() == 0:
        return 1
    if param.device.type != "cpu":
        return max(1, param.shape[0])
    return max(1, min(param.shape[0], _BLOCK_ELEMENTS * param.shape[0] // max(1, param.numel())))


def _pairs(flat: Sequence[Tensor]) -> list[CurvatureTerm]:
    return list(zip(flat[::2], flat[1::2], strict=True))
