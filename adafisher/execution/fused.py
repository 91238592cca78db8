"""The step in one pass over memory, by ``torch.compile``: five accesses a parameter.

One function serves every parameter: it sees matrices of any size and its hyperparameters as a
tensor, so that neither a new shape nor a new learning rate compiles it again. Where it cannot be
compiled, the plain step is taken instead, and said so once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor

from adafisher.execution.step import SCALARS, fused_step_
from adafisher.squares import factor_dtype

Matrices = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

CALL_SIZE = 8  # matrices of a call; what is missing is filled up
_ARGUMENTS = 5
_MIN_SIDE = 2  # sides of 0 and 1 are constants to the compiler, and would compile it again


def as_matrices(
    param: Tensor, grad: Tensor, exp_avg: Tensor, left: Tensor, right: Tensor
) -> Matrices | None:
    """View the arguments of ``fused_step_`` as matrices, or give None where they are none.

    Args:
        param: Any shape whose first axis is that of ``left``.
        grad: Same shape.
        exp_avg: Same shape.
        left: ``[rows, 1, ...]``.
        right: ``[1, ...]``, broadcasts to the trailing axes.
    """
    shape = param.shape
    if len(shape) < 2 or left.dim() != len(shape) or right.shape != (1, *shape[1:]):
        return None
    if not param.is_contiguous():
        # Axes in the order in which they lie in memory, so that channels_last is a matrix too.
        strides = param.stride()
        order = [0, *sorted(range(1, len(shape)), key=lambda axis: -strides[axis])]
        param, grad, exp_avg, right = (t.permute(order) for t in (param, grad, exp_avg, right))
    rows, columns = shape[0], shape[1:].numel()
    dtype = factor_dtype(param.dtype)
    for t in (param, grad, exp_avg):
        if t.dtype is not dtype or not t.is_contiguous():
            return None
    if not left.dtype is right.dtype is dtype or min(rows, columns) < _MIN_SIDE:
        return None
    # Detached, as the compiler tells views of one base from views of another.
    return (
        param.view(rows, columns).detach(),
        grad.view(rows, columns).detach(),
        exp_avg.view(rows, columns).detach(),
        left.reshape(rows, 1).detach(),
        right.reshape(1, columns).detach(),
    )


def fused_steps_(scalars: Tensor, *matrices: Tensor) -> None:
    """Step several matrices, as a call costs as much as a small matrix.

    Args:
        scalars: ``[count, len(SCALARS)]``.
        matrices: Five for each, of ``as_matrices``.
    """
    for i, own in enumerate(scalars.unbind()):
        param, grad, exp_avg, left, right = matrices[_ARGUMENTS * i : _ARGUMENTS * (i + 1)]
        fused_step_(param, grad, exp_avg, left, right, own)


@cache
@torch.no_grad()
def _compiled(device: torch.device, dtype: torch.dtype) -> Callable[..., None]:
    """Compile the steps, and try them on zeros, so that a failure leaves no half step."""
    steps = cast(Callable[..., None], torch.compile(fused_steps_, dynamic=True, fullgraph=True))
    matrices: list[Tensor] = []
    # No two sides are equal, or the compiler takes them for one; and they are large, as it
    # decides on threads by them.
    for i in range(CALL_SIZE):
        matrices += _zeros(256 + 2 * i, 1025 + 2 * i, device, dtype)
    steps(torch.ones(CALL_SIZE, len(SCALARS), device=device, dtype=dtype), *matrices)
    return steps


class FusedStep:
    """The compiled step, or none where it does not compile.

    Attributes:
        failure: Why the plain step is taken instead, None while nothing failed.
    """

    def __init__(self) -> None:
        """Compile nothing yet."""
        self.failure: str | None = None

    def __call__(self, matrices: Sequence[Matrices], scalars: Sequence[tuple[float, ...]]) -> bool:
        """Take the steps of matrices of one device and dtype.

        Args:
            matrices: Of ``as_matrices``.
            scalars: ``SCALARS`` of each.

        Returns:
            False if they were not taken, because they cannot be compiled. The first time, this
            warns.
        """
        if self.failure is not None:
            return False
        device, dtype = matrices[0][0].device, matrices[0][0].dtype
        try:
            steps = _compiled(device, dtype)
        except Exception as error:  # compilers' errors have no type in common
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            self.failure = f"{type(error).__name__}: {reason}"
            warnings.warn(
                "The fused step does not compile here, the plain one is taken instead: "
                + self.failure,
                stacklevel=2,
            )
            return False
        missing = -len(matrices) % CALL_SIZE
        tensors = [t for each in matrices for t in each]
        tensors += _fill(device, dtype)[: _ARGUMENTS * missing]
        rows = [*scalars, *[(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)] * missing]
        for i in range(0, len(rows), CALL_SIZE):
            packed = torch.tensor(rows[i : i + CALL_SIZE], device=device, dtype=dtype)
            steps(packed, *tensors[_ARGUMENTS * i : _ARGUMENTS * (i + CALL_SIZE)])
        return True


@cache
def _fill(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Fill a call up with matrices; each its own, as the compiler tells repeated ones apart."""
    return [t for _ in range(CALL_SIZE) for t in _zeros(_MIN_SIDE, _MIN_SIDE, device, dtype)]


def _zeros(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Make the five matrices of an empty step."""
    shapes = [(rows, columns)] * 3 + [(rows, 1), (1, columns)]
    return [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
