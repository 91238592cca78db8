"""Which form of the step each parameter takes: native, compiled or plain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from adafisher.execution.fused import FusedStep, Matrices, as_matrices
from adafisher.execution.native_step import NativeStep
from adafisher.execution.plain_step import PlainStep
from adafisher.execution.step import Update, pack_scalars
from adafisher.native import serves

_SMALL_ELEMENTS = 1 << 14


@dataclass
class Stepper:
    """Takes the steps.

    Attributes:
        foreach: How many parameters the plain step takes at once: all (True), one (False), or as
            many as fit into the cache (None).
        fused: Whether steps are taken in one pass over memory: on the CPU by the native library,
            and elsewhere compiled, on CUDA (None), everywhere (True) or nowhere (False).
        plain_step: What takes those that no other form does.
    """

    foreach: bool | None = None
    fused: bool | None = None
    plain_step: PlainStep = field(init=False)
    _native_step: NativeStep = field(default_factory=NativeStep)
    _fused_step: FusedStep = field(default_factory=FusedStep)

    def __post_init__(self) -> None:
        """Know no parameter yet."""
        self.plain_step = PlainStep(self.foreach)

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
        if self.fused is not False and not self.foreach:
            updates = self._native_step(updates)
        plain: list[Update] = []
        fused: dict[Any, list[tuple[Update, Matrices]]] = {}
        for update in updates:
            if matrices := self._matrices(update):
                key = update.param.device, update.param.dtype
                fused.setdefault(key, []).append((update, matrices))
            else:
                plain.append(update)
        for pairs in fused.values():
            scalars = [pack_scalars(update) for update, _ in pairs]
            if not self._fused_step([matrices for _, matrices in pairs], scalars):
                plain += [update for update, _ in pairs]
        self.plain_step(plain)

    def _matrices(self, update: Update) -> Matrices | None:
        """Give what the compiled step takes, or None where it is not wanted or not possible.

        A small parameter is not worth a kernel of its own.
        """
        param, grad, exp_avg, terms = update[:4]
        wanted = param.is_cuda if self.fused is None else self.fused
        is_small = self.foreach is None and param.numel() <= _SMALL_ELEMENTS
        if not wanted or is_small or self.foreach or len(terms) != 1:
            return None
        return as_matrices(param, grad, exp_avg, *terms[0])
