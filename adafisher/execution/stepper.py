"""Which form of the step each parameter takes: plain, a block at a time, batched or compiled.

On the CPU a large parameter is taken in blocks, so that its momentum and its denominators are still
in the cache when they are needed; small ones go through ``torch._foreach``, because the calls cost
more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from adafisher.execution.fused import FusedStep, Matrices, as_matrices
from adafisher.execution.step import Update, batched_step_, pack_scalars, plain_step_
from adafisher.factors import factor_dtype
from adafisher.fisher import CurvatureTerm

_BLOCK_ELEMENTS = 1 << 19  # 2 MiB in float32: fewer calls than 1 MiB, and still within the cache
_SMALL_ELEMENTS = 1 << 14  # below, a batched call costs less than the parameter's own
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass
class Stepper:
    """Takes the steps, and owns the scratch memory that they reuse.

    Attributes:
        foreach: Whether parameters are batched: the small ones (None), all (True), none (False).
        fused: Whether the others take the compiled step: on CUDA (None), always or never.
        scratch: A buffer for every device and dtype.
    """

    foreach: bool | None = None
    fused: bool | None = None
    scratch: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict)
    _fused_step: FusedStep = field(default_factory=FusedStep)

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
        param, grad, exp_avg, terms = _rows(update)
        rows = _block_rows(param)
        buffer = self._buffer(param, rows) if terms else param
        # Rows of the damping, as a scalar operand keeps ``addcmul`` from vectorising on the CPU.
        dampings = [torch.full_like(b, update.hyper.damping) for _, b in terms[:1]]
        flat = [t for term in terms for t in term] + dampings
        pieces = zip(*(_split(t, rows, param) for t in (param, grad, exp_avg, *flat)), strict=True)
        for p, g, m, *operands in pieces:
            plain_step_(
                Update(p, g, m, _pairs(operands[: 2 * len(terms)]), update.step_size, update.hyper),
                operands[-1] if terms else None,
                buffer,
            )

    def _buffer(self, param: Tensor, rows: int) -> Tensor:
        """Give memory for the denominators of a block, one for each device and dtype."""
        key = (param.device, factor_dtype(param.dtype))
        block = param[:rows] if param.dim() else param
        extents = zip(block.shape, block.stride(), strict=True)
        needed = 1 + sum((size - 1) * stride for size, stride in extents if size)
        buffer = self.scratch.get(key)
        if buffer is None or buffer.numel() < needed:
            buffer = self.scratch[key] = torch.empty(needed, device=key[0], dtype=key[1])
        return buffer


def _rows(update: Update) -> tuple[Tensor, Tensor, Tensor, list[CurvatureTerm]]:
    """Give the tensors of an update, in the grouped view if its terms have that."""
    param, grad, exp_avg, terms = update[:4]
    if not terms:
        return param, grad, exp_avg, terms
    left = terms[0][0]
    if left.dim() > param.dim():
        shape = left.shape[:2]
        return (
            param.unflatten(0, shape),
            grad.unflatten(0, shape),
            exp_avg.unflatten(0, shape),
            terms,
        )
    layout = _CHANNELS_LAST.get(param.dim())
    is_dense = layout is not None and param.is_contiguous(memory_format=layout)
    if layout is not None and is_dense and not param.is_contiguous():
        terms = [(a, b.contiguous(memory_format=layout)) for a, b in terms]
    return param, grad, exp_avg, terms


def _block_rows(param: Tensor) -> int:
    """Choose the rows of a block. An accelerator takes all of them: there a launch costs more."""
    if param.dim() == 0:
        return 1
    if param.device.type != "cpu":
        return max(1, param.shape[0])
    return max(1, min(param.shape[0], _BLOCK_ELEMENTS * param.shape[0] // max(1, param.numel())))


def _split(x: Tensor, rows: int, param: Tensor) -> Sequence[Tensor]:
    """Cut blocks of ``rows`` along the first axis; what broadcasts along it stands in each."""
    if param.dim() == 0 or rows >= param.shape[0]:
        return (x,)
    if x.shape[0] == 1:
        return (x,) * -(-param.shape[0] // rows)
    return cast(Sequence[Tensor], x.split(rows))


def _pairs(flat: Sequence[Tensor]) -> list[CurvatureTerm]:
    return list(zip(flat[::2], flat[1::2], strict=True))
