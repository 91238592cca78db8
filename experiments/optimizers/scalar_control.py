"""Momentum whose only adaptivity is one number a step: a preconditioner without its shape."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.optimizers.transform import check_number


class ScalarControl(Optimizer):
    r"""SGD with momentum, its step size multiplied by a given number at each step.

    .. math::
        m_t = \beta m_{t-1} + (1 - \beta) g_t, \quad
        \theta_t = \theta_{t-1} - \eta_t s_t \, m_t / (1 - \beta^t)

    With ``decay="coupled"``, :math:`\kappa \theta` is added to the gradient; with
    ``decay="decoupled"``, :math:`\eta_t \kappa \theta` is subtracted from the parameter.

    Args:
        params: Parameters to train, or torch-style groups.
        lr: Learning rate; eta.
        scales: ``[steps]``, the number of each step; s.
        momentum: Decay of the momentum; beta.
        weight_decay: kappa.
        decay: ``"coupled"`` or ``"decoupled"``.

    Raises:
        ValueError: If a hyperparameter is out of range, or a step is taken beyond ``scales``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        scales: Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decay: str = "coupled",
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("momentum", momentum, at_least=0, below=1)
        check_number("weight_decay", weight_decay, at_least=0)
        if decay not in DECAYS:
            raise ValueError(f"Invalid decay: {decay!r}. Must be one of: {', '.join(DECAYS)}.")
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "decay": decay}
        super().__init__(params, defaults)
        self._scales = scales.tolist()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                state.setdefault("step", torch.zeros(()))
                state.setdefault("exp_avg", torch.zeros_like(param))
                taken = int(state["step"])
                if taken >= len(self._scales):
                    raise ValueError(f"Invalid step: {taken + 1}. Must be <= {len(self._scales)}.")
                state["step"] += 1
                direction = momentum_direction(
                    state["exp_avg"], param, param.grad, taken + 1, group
                )
                if group["decay"] == "decoupled":
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                param.sub_(direction, alpha=group["lr"] * self._scales[taken])
        return loss


DECAYS = ("coupled", "decoupled")


def momentum_direction(
    exp_avg: Tensor, param: Tensor, grad: Tensor, step: int, group: dict[str, Any]
) -> Tensor:
    """Update ``exp_avg`` in place and return it without its bias.

    Args:
        exp_avg: Running mean of the gradient, of the shape of ``param``.
        param: Parameter before the step.
        grad: Its gradient.
        step: Number of this step, from 1.
        group: ``momentum``, ``weight_decay`` and ``decay``.
    """
    beta = group["momentum"]
    if group["decay"] == "coupled" and group["weight_decay"]:
        grad = grad.add(param, alpha=group["weight_decay"])
    exp_avg.lerp_(grad, 1 - beta)
    return exp_avg / (1 - beta**step)
