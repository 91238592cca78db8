"""The arithmetic of a run: TF32, automatic mixed precision, and the scale of the loss."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class _Unaware:
    """An optimizer as a scaler sees one that knows nothing of loss scales."""

    param_groups: list[dict[str, Any]]
    step: Callable[[], object]


class Precision:
    """How forward and backward passes compute; parameters and their steps stay in float32.

    ``fp32`` and ``tf32`` set torch's switches for TensorFloat-32, which hold for the process.

    ``fp16`` has a ``GradScaler`` so that small gradients are not lost, and a method that can take
    its scale out of whatever else it reads. ``loss_scale`` is there to repeat a trainer that always
    has a scaler, as AdaFisher's (arXiv 2405.16397, released code) on a GPU: gradients are unscaled,
    and what a method takes from the backward pass beside them (AdaHessian's Hessian-vector product,
    AdaFisher's output gradients) stays scaled.

    Args:
        name: ``fp32`` (TF32 off, for convolutions as well), ``tf32``, or autocast to ``bf16`` or
            ``fp16``, the latter with a ``GradScaler``.
        device: Where the run trains.
        loss_scale: What a scaler begins with that no method knows of; it doubles every 2,000 steps
            without overflow, and halves at one, whose step is skipped. None: no such scaler.
    """

    def __init__(self, name: str, device: torch.device, *, loss_scale: float | None = None) -> None:
        self.name = name
        self._device = device.type
        self._dtype = _AUTOCAST.get(name)
        self._loss_scale = loss_scale
        self._scaler: torch.amp.GradScaler | None = None
        if loss_scale is not None:
            self._scaler = torch.amp.GradScaler(device.type, init_scale=float(loss_scale))
        elif name == "fp16":
            self._scaler = torch.amp.GradScaler(device.type)
        # torch's own default lets cuDNN round fp32 convolutions to TF32.
        is_tf32 = name == "tf32"
        torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = is_tf32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of a forward pass."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """Scale the loss that ``backward`` is called on."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def step(self, optimizer: Optimizer) -> None:
        """Take the optimizer's step on unscaled gradients, or none where they overflowed."""
        if self._scaler is None:
            optimizer.step()
            return
        if self._loss_scale is None:
            self._scaler.step(optimizer)
        else:
            self._scaler.step(_Unaware(optimizer.param_groups, optimizer.step))  # type: ignore[arg-type]
        self._scaler.update()

    def facts(self) -> dict[str, Any]:
        """Give what a record says of it."""
        return {
            "name": self.name,
            "autocast": None if self._dtype is None else str(self._dtype).removeprefix("torch."),
            "tf32": torch.backends.cudnn.allow_tf32,
            "loss_scaling": self._scaler is not None,
            "loss_scale": self._loss_scale,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss scale; empty without one."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state)
