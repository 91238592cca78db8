"""K-FAC: Kronecker-factored Fisher blocks of Linear and Conv2d layers."""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from experiments.optimizers.kronecker import (
    damped_inverses,
    factor_sums,
    precondition,
    precondition_bias,
    sampled_gradient,
)
from experiments.optimizers.layers import Layer, find_layers, watch_layers
from experiments.optimizers.transform import (
    GradientTransform,
    check_count,
    check_number,
    copied,
    loaded,
)

log = logging.getLogger(__name__)

FISHERS = ("mc", "empirical")


class _Use(NamedTuple):
    """One call of a layer in a forward pass."""

    layer: Layer
    inputs: Tensor
    edge: GradientEdge


@dataclass
class _Pool:
    """Sums over the rows of one step, all calls and micro-batches together."""

    input_sum: Tensor  # [groups, d_in, d_in]
    output_sum: Tensor  # [groups, d_out, d_out]
    rows: int


class KFACPreconditioner(GradientTransform):
    r"""K-FAC's transform.

    With N loss rows (images, or tokens of a language model), layer inputs a and gradients g of the
    *summed* loss at the layer's output, both at all R positions of all rows,

    .. math::
        A = \frac{1}{N R} \sum a a^T, \quad B = \frac{1}{N} \sum g g^T, \quad
        \hat G = (B + \sqrt\lambda / \pi \, I)^{-1} \, G \, (A + \pi \sqrt\lambda I)^{-1},

    for Linear and Conv2d alike (the authors' ASDL does not divide A by R in a Linear layer that is
    applied to R positions of one loss row, as in a vision transformer; we keep one rule).

    - Biases are preconditioned by B alone, as in the authors' library: no augmented input.
    - A grouped convolution has one pair of factors for each group.
    - All calls of a layer in a step, and all accumulated micro-batches, are pooled.
    - Weights shared by several modules (a head tied to an embedding) are left alone, like norm
      layers, embeddings, free parameters and layers with a factor above ``max_dimension``:
      ``left_alone`` names them with the reason, and they keep their raw gradient.
    - A layer without a gradient is skipped; without new rows at a refresh it keeps its factors.

    ``fisher="mc"`` samples one label a row from the model's softmax and goes backward through the
    graph of the ordinary forward pass in ``observe``: no second forward pass, so BatchNorm sees
    the batch once. ``fisher="empirical"`` reads the ordinary backward pass, whose loss must be the
    mean over the observed rows (of all micro-batches together); its ``observe`` counts the rows.

    Args:
        model: Model whose gradients are transformed.
        fisher: Labels of the Fisher matrix: ``"mc"`` (sampled) or ``"empirical"``.
        damping: Damping of the product of the factors; lambda.
        interval: Steps between two refreshes; the first step refreshes. Hooks rest in between.
        ema_decay: Weight of the old factors in a running average; ``None`` for none.
        max_dimension: Largest factor; one of d costs a ``[d, d]`` matrix and O(d^3) time.
        seed: Seed of the sampled labels, which come from a generator of their own.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Martens and Grosse, 2015, arXiv 1503.05671; Grosse and Martens, 2016, arXiv 1602.01407.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fisher: str = "mc",
        damping: float = 1e-3,
        interval: int = 10,
        ema_decay: float | None = None,
        max_dimension: int = 8192,
        seed: int = 0,
    ) -> None:
        if fisher not in FISHERS:
            raise ValueError(f"Invalid fisher: {fisher!r}. Must be one of {', '.join(FISHERS)}.")
        check_number("damping", damping, above=0)
        check_count("interval", interval)
        if ema_decay is not None:
            check_number("ema_decay", ema_decay, at_least=0, below=1)
        check_count("max_dimension", max_dimension)
        self.fisher = fisher
        self.damping = damping
        self.interval = interval
        self.ema_decay = ema_decay
        self.step = 0
        self.skipped_refreshes = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._layers, self.left_alone = find_layers(model, max_dimension)
        if self.left_alone:
            log.debug("K-FAC leaves the gradient as it is: %s", self.left_alone)
        self._inverses: dict[str, list[Tensor]] = {}  # A's, B's
        self._running: dict[str, list[Tensor]] = {}  # A's, B's
        self._pools: dict[str, _Pool] = {}
        self._uses: list[_Use] = []
        self._loss_rows = 0
        self._hooks = watch_layers(self._layers, self._record)

    @property
    def _refreshing(self) -> bool:
        return self.step % self.interval == 0

    def observe(self, logits: Tensor) -> None:
        """Counts the loss rows of a refresh step and, for ``"mc"``, gathers the factors.

        Args:
            logits: The rows that the loss averages over, ``[rows, classes]``, with their graph,
                which is retained. Rows without a label (padding) do not belong here.
        """
        if not (self._refreshing and logits.requires_grad):
            return
        uses, self._uses = self._uses, []
        self._loss_rows += logits[..., 0].numel()
        if self.fisher == "empirical" or not uses:
            return
        grads = torch.autograd.grad(
            logits,
            [use.edge for use in uses],
            grad_outputs=sampled_gradient(logits.detach(), self._generator),
            retain_graph=True,
            allow_unused=True,
        )
        for use, grad in zip(uses, grads, strict=True):
            # Unused: a forward pass whose output did not go into these logits.
            if grad is not None:
                self._pool(use.layer, use.inputs, grad)

    @torch.no_grad()
    def update(self) -> None:
        """Refreshes the inverses when due and preconditions the gradients.

        Raises:
            RuntimeError: If ``observe`` was not called in a refresh step.
        """
        if self._refreshing:
            moving = any(layer.module.weight.grad is not None for layer in self._layers.values())
            if moving and self._loss_rows == 0:
                raise RuntimeError("K-FAC needs observe(logits) before loss.backward().")
            for name, pool in self._pools.items():
                self._refresh(name, pool)
        for name, (input_inverse, output_inverse) in self._inverses.items():
            layer = self._layers[name]
            grad = layer.module.weight.grad
            if grad is not None:
                grad.copy_(precondition(grad, input_inverse, output_inverse))
            if layer.bias is not None and layer.bias.grad is not None:
                layer.bias.grad.copy_(precondition_bias(layer.bias.grad, output_inverse))
        self._forget_step()
        self.step += 1

    def _record(self, name: str, inputs: Tensor, output: Tensor) -> None:
        layer = self._layers[name]
        weight = layer.module.weight
        if not (self._refreshing and output.requires_grad and weight.requires_grad):
            return
        inputs = inputs.detach()
        if self.fisher == "mc":
            # An edge, not the output: an in-place activation would turn the tensor into its own.
            self._uses.append(_Use(layer, inputs, get_gradient_edge(output)))
        else:
            output.register_hook(lambda grad: self._pool(layer, inputs, grad))

    def _pool(self, layer: Layer, inputs: Tensor, grad: Tensor) -> None:
        input_sum, output_sum, rows = factor_sums(layer.module, inputs, grad)
        pool = self._pools.setdefault(
            layer.name, _Pool(torch.zeros_like(input_sum), torch.zeros_like(output_sum), 0)
        )
        pool.input_sum += input_sum
        pool.output_sum += output_sum
        pool.rows += rows

    def _refresh(self, name: str, pool: _Pool) -> None:
        # The empirical gradients are those of the mean loss: N times smaller, so N^2 in the square.
        scale = 1 / self._loss_rows if self.fisher == "mc" else self._loss_rows
        factors = [pool.input_sum / pool.rows, pool.output_sum * scale]
        if not all(bool(factor.isfinite().all()) for factor in factors):
            self.skipped_refreshes += 1
            return
        if self.ema_decay is not None:
            old = self._running.get(name, factors)
            new_weight = 1 - self.ema_decay
            factors = [o.lerp(n, new_weight) for o, n in zip(old, factors, strict=True)]
            self._running[name] = factors
        inverses = damped_inverses(factors[0], factors[1], self.damping)
        if inverses is None:
            self.skipped_refreshes += 1
        else:
            self._inverses[name] = list(inverses)

    def _forget_step(self) -> None:
        self._pools.clear()
        self._uses.clear()
        self._loss_rows = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns a snapshot, without what an unfinished step has gathered (and ``.grad``)."""
        return {
            "step": self.step,
            "skipped_refreshes": self.skipped_refreshes,
            "generator": self._generator.get_state(),
            "inverses": copied(self._inverses),
            "running": copied(self._running),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copies a snapshot into the state; one of another model is a ``ValueError``."""
        weights = {name: layer.module.weight for name, layer in self._layers.items()}
        self._inverses = loaded(state_dict["inverses"], weights)
        self._running = loaded(state_dict["running"], weights)
        # A checkpoint read with map_location has moved the generator's state as well.
        self._generator.set_state(state_dict["generator"].cpu())
        self.step = state_dict["step"]
        self.skipped_refreshes = state_dict["skipped_refreshes"]
        self._forget_step()

    def close(self) -> None:
        """Removes the hooks from the model and drops what the current step gathered."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget_step()
