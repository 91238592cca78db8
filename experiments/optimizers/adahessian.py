"""AdaHessian: Adam whose second moment is that of a Hessian diagonal."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from experiments import seeding
from experiments.optimizers.transform import check_number


class AdaHessian(pytorch_optimizer.AdaHessian):
    r"""AdaHessian on an estimate of the Hessian diagonal that is averaged over kernel positions.

    With one Rademacher vector :math:`v` a step,

    .. math::
        D = \operatorname{avg} |H v|, \quad
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        s \leftarrow \beta_2 s + (1 - \beta_2) D^2, \quad
        \theta \leftarrow \theta - \alpha \Bigl(
            \frac{m / (1 - \beta_1^t)}{(s / (1 - \beta_2^t))^{k/2} + \epsilon}
            + \kappa \theta \Bigr),

    where the average runs over the positions of each convolution kernel and leaves every other
    parameter alone. A parameter without a gradient has an estimate of zero and does not move.

    The gradients must carry their graph: ``loss.backward(create_graph=True)``, on a model without
    fused attention and without a gradient scaler, which would multiply the estimate. Set them to
    ``None`` after the step; they hold the graph.

    The library's own estimate does not average over kernels, and draws from torch's global
    generator. Ours draws from one that depends on the seed and on the number of the step alone, so
    that a restored run goes on with the same vectors.

    Args:
        model: Model to train.
        lr: Learning rate; alpha.
        betas: Decay of the gradient's and of the squared diagonal's mean; beta_1, beta_2.
        eps: Added to the denominator; epsilon.
        weight_decay: Decoupled weight decay; kappa.
        hessian_power: Exponent of the root mean square of the diagonal; k, in (0, 1].
        seed: Seed of the Rademacher vectors.
        foreach: Whether a call steps many parameters; ``None``, the library's default, as True.
        params: Torch-style parameter groups; all parameters of ``model`` by default.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Example:
        >>> from experiments.engine.step import (
        ...     backward,
        ... )  # silences torch's warning of the cycle
        >>> model = nn.Linear(3, 2)
        >>> optimizer = AdaHessian(model, lr=0.15)
        >>> backward(model(torch.ones(4, 3)).square().mean(), create_graph=True)
        >>> optimizer.step()
        >>> optimizer.zero_grad(set_to_none=True)

    Reference:
        Yao et al., 2021, arXiv 2006.00719, Algorithm 1 and section 3 (spatial averaging).
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        seed: int = 0,
        foreach: bool | None = None,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | None = None,
    ) -> None:
        check_number("lr", lr, at_least=0)
        check_number("eps", eps, at_least=0)
        check_number("weight_decay", weight_decay, at_least=0)
        check_number("hessian_power", hessian_power, above=0)
        beta1, beta2 = betas
        super().__init__(
            model.parameters() if params is None else params,
            lr=lr,
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
            weight_decouple=True,
            hessian_power=hessian_power,
            foreach=foreach,
        )
        self.seed = seed
        self._kernels = {
            id(module.weight) for module in model.modules() if isinstance(module, _ConvNd)
        }

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None
    ) -> Tensor | None:
        """Estimates the diagonal and steps.

        Args:
            closure: Clears the gradients, computes the loss, calls
                ``backward(create_graph=True)`` and returns the loss.

        Returns:
            The loss of the closure, or ``None`` without one.

        Raises:
            RuntimeError: If no gradient carries its graph.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        super().step(hessian=self.diagonals())
        for state in self.state.values():
            del state["hessian"]  # of no use any more, and as large as the parameters
        return loss

    def diagonals(self) -> list[Tensor]:
        """Estimates the Hessian diagonal from the gradients, and frees their graph.

        Returns:
            One non-negative tensor a parameter, in the order of the groups, shaped like it.

        Raises:
            RuntimeError: If no gradient carries its graph.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        used = [p for p in params if p.grad is not None]
        # A gradient that depends on no parameter has no graph, and a Hessian row of zeros.
        curved = [p for p in used if p.grad.requires_grad]
        if used and not curved:
            raise RuntimeError("AdaHessian needs loss.backward(create_graph=True).")
        vectors = self._rademacher(curved)
        products = torch.autograd.grad(
            [p.grad for p in curved],
            used,
            grad_outputs=vectors,
            allow_unused=True,
            materialize_grads=True,
        )
        found = {id(p): self._averaged(p, hv) for p, hv in zip(used, products, strict=True)}
        return [found[id(p)] if id(p) in found else torch.zeros_like(p) for p in params]

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state with the ``seed``; the number of the step is in the groups."""
        return super().state_dict() | {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a ``state_dict()``."""
        super().load_state_dict(state_dict)
        self.seed = state_dict["seed"]

    def _averaged(self, param: Tensor, product: Tensor) -> Tensor:
        size = product.abs()
        if id(param) not in self._kernels:
            return size
        return size.mean(dim=tuple(range(2, size.ndim)), keepdim=True).expand_as(size)

    def _rademacher(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Draw a vector of signs for every parameter, on the device where it is used."""
        step = self.param_groups[0].get("step", 0)
        seed = seeding.derive(self.seed, "rademacher", step)
        generators = {
            device: torch.Generator(device).manual_seed(seed)
            for device in dict.fromkeys(p.device for p in params)
        }
        return [
            torch.empty_like(p).bernoulli_(0.5, generator=generators[p.device]).mul_(2).sub_(1)
            for p in params
        ]
