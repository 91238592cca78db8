"""The steps that the native library takes: of contiguous float32 on the CPU, all in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from adafisher.execution.placement import Placement
from adafisher.execution.step import Hyperparameters, Update
from adafisher.fisher import CurvatureTerm
from adafisher.native import Step, library, serves, threads


class NativeStep:
    """Takes steps, and remembers how the parameters lie in memory."""

    def __init__(self) -> None:
        """Know no parameter yet."""
        self._known: dict[int, _Parameter] = {}

    def __call__(self, updates: Iterable[Update]) -> list[Update]:
        """Take the steps that the library can take, and give the others.

        Args:
            updates: Steps of different parameters.
        """
        loaded, known = library(), self._known
        if loaded is None:
            return list(updates)
        others: list[Update] = []
        addresses: list[int] = []
        taken: list[Tensor] = []
        elements = 0
        for update in updates:
            if not update.param.is_cpu:
                others.append(update)
                continue
            found = known.get(id(update.param))
            if found is None or not found.is_of(update):
                found = known[id(update.param)] = _Parameter(update)
            if found.take(update):
                addresses += found.addresses
                taken.append(update.param)
                elements += found.elements
            else:
                others.append(update)
        if addresses:
            pointers = (ctypes.c_void_p * len(addresses))(*addresses)
            loaded.step_all(pointers, len(addresses), threads(elements))
            # As after any change in place: a graph of before the step must not be gone through.
            torch.autograd.graph.increment_version(taken)
        return others


class _Parameter(Placement):
    """A parameter as the library sees it: one ``Step``, or one for each group of a convolution.

    Attributes:
        addresses: Of the steps; none where the library does not take it.
        elements: Entries of the parameter.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update)
        param = update.param
        self._steps = _steps(param, update.exp_avg, update.terms)
        self._offsets = [step.param - param.data_ptr() for step in self._steps]
        self._hyper: Hyperparameters | None = None
        self.addresses = [ctypes.addressof(step) for step in self._steps]
        self.elements = param.numel()

    def take(self, update: Update) -> bool:
        """Take the gradient and the numbers, if the library can have them."""
        grad, step_size, hyper = update.grad, update.step_size, update.hyper
        if not self._steps or not (
            type(grad) is Tensor
            and grad.dtype is torch.float32
            and grad.is_cpu
            and grad.is_contiguous()
        ):
            return False
        start = grad.data_ptr()
        for step, offset in zip(self._steps, self._offsets, strict=True):
            step.grad, step.step_size = start + offset, step_size
        if hyper != self._hyper:
            self._hyper = hyper
            for step in self._steps:
                step.weight, step.coupled = 1.0 - hyper.beta, hyper.coupled_decay
                step.keep, step.damping = 1.0 - hyper.shrink, hyper.damping
                step.sign = -1.0 if hyper.maximize else 1.0
        return True


def _steps(param: Tensor, exp_avg: Tensor, terms: Sequence[CurvatureTerm]) -> list[Step]:
    """Lay out the steps of a parameter; none where the library does not take it."""
    tensors = [param, exp_avg, *(t for term in terms for t in term)]
    is_dense = param.is_contiguous() and exp_avg.is_contiguous() and param.numel() > 0
    if len(terms) > 1 or not is_dense or not all(serves(t) for t in tensors):
        return []
    rows = len(param) if param.dim() > 1 else 1
    if not terms:
        return [_step(param, exp_avg, rows)]
    left, right = terms[0]
    parts = [(param, exp_avg, left, right)]
    if left.dim() > param.dim():  # the grouped view
        rows, groups = left.shape[:2].numel(), left.shape[:2]
        param, exp_avg = param.unflatten(0, groups), exp_avg.unflatten(0, groups)
        parts = [(param, exp_avg, left, right)]
        if _matrices(param.shape, rows, left, right) is None:
            rows = groups[1] if param.dim() > 2 else 1
            parts = list(zip(param, exp_avg, left, right, strict=True))
    steps: list[Step] = []
    for own, momentum, *term in parts:
        operands = _matrices(own.shape, rows, *term)
        if operands is None:
            return []
        steps.append(_step(own, momentum, rows, *operands))
    return steps


def _matrices(shape: torch.Size, rows: int, left: Tensor, right: Tensor) -> CurvatureTerm | None:
    """View the two of a term as ``[rows, columns]``, or give None where they lie otherwise."""
    try:
        a, b = (t.expand(shape).view(rows, -1) for t in (left, right))
    except RuntimeError:
        return None
    # The library is fast where the left one is constant along a row.
    return (b, a) if a.stride(1) == 1 and b.stride(1) == 0 else (a, b)


def _step(param: Tensor, exp_avg: Tensor, rows: int, *operands: Tensor) -> Step:
    step = Step(param=param.data_ptr(), exp_avg=exp_avg.data_ptr())
    step.rows, step.columns = rows, param.numel() // rows
    for side, operand in zip(("left", "right"), operands, strict=False):
        setattr(step, side, operand.data_ptr())
        setattr(step, f"{side}_row", operand.stride(0))
        setattr(step, f"{side}_column", operand.stride(1))
    return step
