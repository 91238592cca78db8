r"""The full Kronecker factors of one layer, of which the optimizer keeps the diagonals only.

With rows :math:`r = 1..R` (samples times positions), bias-augmented layer input or patch
:math:`h_r` and gradient of the loss at the layer's output :math:`s_r`,

.. math::
    H = \frac{1}{R} \sum_r h_r h_r^T, \quad S = \frac{1}{R} \sum_r s_r s_r^T, \qquad
    \bar H \leftarrow \gamma_1 \bar H + (1 - \gamma_2) H

from zeros, and :math:`\bar S` alike.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, section 3.2, equation (3), Appendix A.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.errors import UserError


class FullFactors:
    """Running averages of both factors in float64, collected by hooks.

    Attributes:
        activation: ``[d_in (+ 1), d_in (+ 1)]``; None before the first backward pass.
        grad: ``[d_out, d_out]``; None before the first backward pass.

    Args:
        module: Linear or two-dimensional convolution, called once a step.
        gammas: ``(gamma_1, gamma_2)`` of the running averages.
        update_interval: Averages are refreshed in the backward passes 0, ``update_interval``, ...

    Raises:
        UserError: If there are no such factors of ``module``.
    """

    def __init__(
        self, module: nn.Module, *, gammas: tuple[float, float], update_interval: int
    ) -> None:
        _check(module)
        self.activation: Tensor | None = None
        self.grad: Tensor | None = None
        self._gammas, self._interval, self._passes = gammas, update_interval, 0
        self._handle = module.register_forward_hook(self._watch)

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()

    def _watch(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if not output.requires_grad:
            return
        x = args[0].detach()

        def on_grad(grad: Tensor) -> None:
            wanted = self._passes % self._interval == 0
            self._passes += 1
            if wanted:
                self._average(input_rows(module, x), grad_rows(module, grad))

        output.register_hook(on_grad)

    @torch.no_grad()
    def _average(self, inputs: Tensor, grads: Tensor) -> None:
        self.activation = self._updated(self.activation, inputs.double())
        self.grad = self._updated(self.grad, grads.double())

    def _updated(self, average: Tensor | None, rows: Tensor) -> Tensor:
        estimate = rows.T @ rows / len(rows)
        if average is None:
            average = torch.zeros_like(estimate)
        return self._gammas[0] * average + (1.0 - self._gammas[1]) * estimate


def input_rows(module: nn.Module, x: Tensor) -> Tensor:
    """Take the bias-augmented inputs or patches of a layer.

    Args:
        module: Linear layer or convolution.
        x: Its input, ``[*rows, d_in]`` or ``[batch, channels, height, width]``.

    Returns:
        ``[rows, d_in (+ 1)]``.
    """
    if isinstance(module, nn.Conv2d):
        patches = F.unfold(
            x, module.kernel_size, module.dilation, _padding(module), module.stride
        )  # [batch, d_in, positions]
        rows = patches.transpose(1, 2).flatten(0, 1)
    else:
        rows = x.flatten(0, -2)
    return rows if module.bias is None else F.pad(rows, (0, 1), value=1.0)


def grad_rows(module: nn.Module, grad: Tensor) -> Tensor:
    """Take the gradients at the output of a layer, ``[rows, d_out]``."""
    if isinstance(module, nn.Conv2d):
        return grad.flatten(2).transpose(1, 2).flatten(0, 1)
    return grad.flatten(0, -2)


def _padding(module: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(module.padding, str)  # `_check` refuses it
    return module.padding


def _check(module: nn.Module) -> None:
    plain = isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
    if not plain:
        raise UserError(
            f"Invalid layer: {type(module).__name__}. Must be Linear, or Conv2d without groups and "
            "with numbers of zeros as its padding."
        )
