"""The scale of the loss in mixed precision, which the factors must not depend on.

``grad_diag`` grows with the square of the scale. Min-Max removes a constant scale, but the running
average mixes estimates of different steps, between which a ``GradScaler`` changes it. So each
estimate is divided by the square of the scale that its rows had. Where that comes from:

* ``scaler.step(optimizer)`` hands it over (``_step_supports_amp_scaling``, torch's protocol for
  fused optimizers): the optimizer then unscales the gradients, and skips a step that overflowed.
* After ``scaler.unscale_(optimizer)`` the scaler hands nothing over, and from gradients that may
  have been clipped the scale cannot be recovered. It is then asked for: ``loss_scale=scaler``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Scale = float | Tensor


class LossScale:
    """Where the scale of the pooled rows is read from.

    Attributes:
        is_function: Whether the user's function is asked. Unscaling the gradients and skipping
            steps is then the caller's business, as frameworks want that clip in between.
    """

    def __init__(self, source: Any) -> None:
        """Check the source.

        Args:
            source: None, a number, an object with ``get_scale()``, or a function.

        Raises:
            ValueError: It is none of these.
        """
        is_number = isinstance(source, int | float) and not isinstance(source, bool)
        if is_number and not 0 < source < float("inf"):
            raise ValueError(f"Invalid loss_scale: {source!r}. Must be a finite number > 0.")
        self.is_function = callable(source)
        if not (source is None or is_number or self.is_function or hasattr(source, "get_scale")):
            raise ValueError(
                f"Invalid loss_scale: {source!r}. Must be a number, a GradScaler, a function "
                "that returns the scale, or None."
            )
        self._source = source

    def take(self, optimizer: torch.optim.Optimizer, *, has_rows: bool) -> Scale | None:
        """Read the scale of the pooled rows, and unscale gradients that a scaler has left to us.

        ``GradScaler.step`` sets ``found_inf``, and ``grad_scale`` unless gradients are unscaled.

        Args:
            optimizer: Optimizer that is about to step.
            has_rows: Whether any are pooled, here or by other ranks; without, a scaler's own number
                is not waited for.

        Returns:
            The scale, 1 without rows unless it was handed over; None if gradients overflowed, so
            that the step is skipped.

        Raises:
            RuntimeError: The scale is unknown.
        """
        found_inf: Tensor | None = getattr(optimizer, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return None
        handed_over: Tensor | None = getattr(optimizer, "grad_scale", None)
        if handed_over is not None:
            unscale_((p for group in optimizer.param_groups for p in group["params"]), handed_over)
            return handed_over
        return self._read(found_inf is not None) if has_rows else 1.0

    def _read(self, after_unscale: bool) -> Scale:
        """Ask the source, as no scaler has handed the scale over."""
        if self._source is None:
            if after_unscale:
                raise RuntimeError(
                    "AdaFisher must know the loss scale after GradScaler.unscale_, which hands "
                    "none over: build the optimizer with loss_scale=scaler."
                )
            return 1.0
        if self.is_function:
            return float(self._source())
        return float(
            self._source.get_scale() if hasattr(self._source, "get_scale") else self._source
        )


@torch.no_grad()
def unscale_(params: Iterable[Tensor], scale: Tensor) -> None:
    """Divide the gradients by the scale, in place and rounded as ``GradScaler.unscale_`` does."""
    inverse = scale.double().reciprocal().float()
    for param in params:
        if param.grad is not None:
            param.grad.mul_(inverse.to(param.grad.device))


def divide(grad_diag: Tensor, scale: Scale) -> Tensor:
    """Give ``grad_diag`` as it is at scale 1."""
    if isinstance(scale, Tensor):
        return grad_diag / scale.to(grad_diag).square()
    return grad_diag if scale == 1.0 else grad_diag / scale**2
