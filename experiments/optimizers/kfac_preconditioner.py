"""K-FAC: Kronecker-factored Fisher blocks of Linear and Conv2d layers."""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from experiments.likelihood import LOGITS, Likelihood
from experiments.optimizers import sampled_labels
from experiments.optimizers.collective import refuse_sharded, share_of_rank, world_size
from experiments.optimizers.inverses import Factor, Inverse, invert_pair, precondition
from experiments.optimizers.left_alone import TransformCoverage, coverage_of
from experiments.optimizers.pools import Pools
from experiments.optimizers.preconditioned_layers import (
    PreconditionedLayer,
    find_layers,
    watch_layers,
)
from experiments.optimizers.sampled_labels import rows_and_draws, sampled_gradient
from experiments.optimizers.symmetric import pack, stack_length, unpack
from experiments.optimizers.transform import (
    GradientTransform,
    check_choice,
    check_count,
    check_number,
    copied,
    loaded,
    report_kept,
)

FISHERS = ("mc", "empirical")
POSITIONS = ("mean", "sum")


class _Use(NamedTuple):
    """One call of a layer in a forward pass."""

    layer: PreconditionedLayer
    inputs: Tensor
    edge: GradientEdge
    forward: int  # which forward pass of the step


class KFACPreconditioner(GradientTransform):
    r"""K-FAC's transform.

    With N loss rows (images, or tokens of a language model), layer inputs a and gradients g of the
    *summed* loss at the layer's output, both at all R positions of all rows,

    .. math::
        A = \frac{1}{N R} \sum a a^T, \quad B = \frac{1}{N} \sum g g^T, \quad
        \hat G = (B + \sqrt\lambda / \pi \, I)^{-1} \, G \, (A + \pi \sqrt\lambda I)^{-1},

    for Linear and Conv2d alike. With ``positions="sum"`` A of a Linear layer is not divided by R,
    as in ASDL, the library of the AdaFisher authors: that matters where a layer is applied to many
    positions of one loss row, as in a vision transformer.

    - Biases are preconditioned by B alone, as in the authors' library: no augmented input.
    - A grouped convolution has one pair of factors for each group.
    - All calls of a layer in a step, and all accumulated micro-batches, are pooled.
    - Weights shared by several modules (a head tied to an embedding) are left alone, like norm
      layers, embeddings, free parameters and layers with a factor above ``max_dimension``:
      ``left_alone`` names them with the reason, and they keep their raw gradient.
    - A layer without a gradient is skipped; without new rows at a refresh it keeps its factors.
      So does a layer whose factors are not finite or cannot be inverted: it is counted and logged.

    ``fisher="mc"`` samples one label a row from the model's softmax, or from another likelihood
    that ``observe`` is told of, and goes backward through the graph of the ordinary forward pass
    there: no second forward pass, so BatchNorm sees the batch once. ``fisher="empirical"`` reads
    the ordinary backward pass, whose loss must be the mean over the observed rows (of all
    micro-batches together); its ``observe`` counts the rows.

    Under ``torch.distributed`` the factors are those of the rows of all processes: sums and counts
    are added up in a refresh. Gradients must be averaged before ``update``, as
    ``DistributedDataParallel`` does; ``observe`` must then be called on every process. Labels are
    drawn for the rows in order of rank, so the ranks draw what one process would draw.

    Args:
        model: Model whose gradients are transformed.
        fisher: Labels of the Fisher matrix: ``"mc"`` (sampled) or ``"empirical"``.
        damping: Damping of the product of the factors; lambda.
        interval: Steps between two refreshes; the first step refreshes. Hooks rest in between.
        ema_decay: Weight of the old factors in a running average; ``None`` for none.
        max_dimension: Largest factor; ``None`` for no limit. One of d from r rows costs a
            ``[d, d]`` matrix and O(d^3) time; of at most d / 2 rows ``[r, d]`` and O(r^2 d).
        positions: Whether A of a Linear layer is the ``"mean"`` or the ``"sum"`` over the positions
            of a loss row.
        seed: Seed of the sampled labels, which come from a generator of their own.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Martens and Grosse, 2015, arXiv 1503.05671; Grosse and Martens, 2016, arXiv 1602.01407.
    """

    method = "K-FAC"

    def __init__(
        self,
        model: nn.Module,
        *,
        fisher: str = "mc",
        damping: float = 1e-3,
        interval: int = 10,
        ema_decay: float | None = None,
        max_dimension: int | None = 8192,
        positions: str = "mean",
        seed: int = 0,
    ) -> None:
        check_choice("positions", positions, POSITIONS)
        check_choice("fisher", fisher, FISHERS)
        check_number("damping", damping, above=0)
        check_count("interval", interval)
        if ema_decay is not None:
            check_number("ema_decay", ema_decay, at_least=0, below=1)
        if max_dimension is not None:
            check_count("max_dimension", max_dimension)
        self.fisher = fisher
        self.positions = positions
        self.damping = damping
        self.interval = interval
        self.ema_decay = ema_decay
        self.step = 0
        self.skipped_refreshes = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._layers, self.left_alone = find_layers(model, max_dimension)
        self._coverage = coverage_of(model, self.left_alone)
        self._preconditioners: dict[str, list[Tensor]] = {}  # what applies to each layer
        self._running: dict[str, list[Tensor]] = {}  # A's and B's packed
        # A running average has no rows.
        self._pools = Pools(self._layers, keeps_rows=ema_decay is None)
        self._uses: list[_Use] = []
        self._loss_rows = 0
        self._forward = 0  # forward passes of the step that were observed
        self._hooks = watch_layers(self._layers, self._record)

    def coverage(self) -> TransformCoverage:
        """Says which parameters have factors, and why not the others."""
        return self._coverage

    @property
    def _refreshing(self) -> bool:
        return self.step % self.interval == 0

    def check_likelihood(self, likelihood: Likelihood | None) -> None:
        """Raise ``ValueError`` if labels are to be sampled of a likelihood of which none can be."""
        if self.fisher == "mc":
            sampled_labels.check(self.method, likelihood)

    def observe(
        self, logits: Tensor, *, likelihood: Likelihood | None = LOGITS, terms: int | None = None
    ) -> None:
        """Count the loss rows of a refresh step and, for ``"mc"``, gather the factors.

        Args:
            logits: The rows that the loss averages over, ``[rows, classes]``, with their graph,
                which is retained. Rows without a label (padding) do not belong here. Of another
                likelihood the model's output, ``[rows, ...]``.
            likelihood: What the loss of the model's output is the negative log of.
            terms: What the loss divides its sum by, where that is not the number of rows.

        Raises:
            RuntimeError: If the logits come from inside ``torch.func`` (vmap, grad).
        """
        if torch._C._functorch.is_functorch_wrapped_tensor(logits):
            raise RuntimeError(
                f"{self.method} cannot see layers inside torch.func transforms (vmap, grad): call "
                "the model itself and observe its output."
            )
        if not (self._refreshing and logits.requires_grad):
            return
        uses, self._uses = self._uses, []
        rows, draws = rows_and_draws(logits, likelihood)
        self._loss_rows += rows if terms is None else terms
        self._forward += 1
        if self.fisher == "empirical" or not uses:
            return
        before, after = share_of_rank(rows, logits.device)
        torch.rand(before * draws, generator=self._generator, dtype=torch.float64)
        sampled = sampled_gradient(logits.detach(), self._generator, likelihood or LOGITS)
        torch.rand(after * draws, generator=self._generator, dtype=torch.float64)
        grads = torch.autograd.grad(
            logits,
            [use.edge for use in uses],
            grad_outputs=sampled,
            retain_graph=True,
            allow_unused=True,
        )
        for use, grad in zip(uses, grads, strict=True):
            # Unused: a forward pass whose output did not go into these logits.
            if grad is not None:
                self._pool(use.layer, use.inputs, grad, use.forward)

    @torch.no_grad()
    def update(self) -> None:
        """Refresh the preconditioners when due and apply them to the gradients.

        Raises:
            RuntimeError: If ``observe`` was not called in a refresh step.
        """
        if self._refreshing:
            self._refresh()
        self._precondition()
        self._forget_step()
        self.step += 1

    def _record(self, name: str, inputs: Tensor, output: Tensor) -> None:
        layer = self._layers[name]
        weight = layer.module.weight
        if not (self._refreshing and output.requires_grad and weight.requires_grad):
            return
        inputs, forward = inputs.detach(), self._forward
        if self.fisher == "mc":
            # An edge, not the output: an in-place activation would turn the tensor into its own.
            self._uses.append(_Use(layer, inputs, get_gradient_edge(output), forward))
        else:
            output.register_hook(lambda grad: self._pool(layer, inputs, grad, forward))

    def _pool(self, layer: PreconditionedLayer, inputs: Tensor, grad: Tensor, forward: int) -> None:
        self._pools.add(layer, inputs, grad)

    def _refresh(self) -> None:
        refuse_sharded(self.method, [layer.module.weight for layer in self._layers.values()])
        moving = sum(layer.module.weight.grad is not None for layer in self._layers.values())
        (loss_rows, moving), rows = self._pools.totals(self._loss_rows, moving)
        if moving and loss_rows == 0:
            raise RuntimeError(f"{self.method} needs observe(logits) before loss.backward().")
        if loss_rows == 0:
            return
        # Empirical gradients are of the mean over a process's rows, and the processes are averaged;
        # B is that of the summed loss.
        unit = 1.0 if self.fisher == "mc" else loss_rows / world_size()
        output_scale = unit**2 / loss_rows
        kept = [
            layer.name
            for layer, factors in self._pools.factors(self._divisors(rows, loss_rows), output_scale)
            if not self._refresh_layer(layer, factors, output_scale)
        ]
        if kept:
            self.skipped_refreshes += len(kept)
            report_kept(self.method, self.step, kept, self.skipped_refreshes)

    def _divisors(self, rows: list[int], loss_rows: int) -> list[int]:
        """Find what A of each layer is divided by; 0 where there are no rows."""
        if self.positions == "mean":
            return rows
        return [
            loss_rows if count and isinstance(layer.module, nn.Linear) else count
            for layer, count in zip(self._layers.values(), rows, strict=True)
        ]

    def _refresh_layer(
        self, layer: PreconditionedLayer, factors: tuple[Factor, Factor], output_scale: float
    ) -> bool:
        """Take new factors in; ``False`` if they were of no use."""
        if not all(factor.is_finite() for factor in factors):
            return False
        if self.ema_decay is not None:
            factors = self._average(layer.name, factors)
        return self._decompose(layer, factors, output_scale)

    def _average(self, name: str, factors: tuple[Factor, Factor]) -> tuple[Factor, Factor]:
        assert self.ema_decay is not None
        new = [pack(factor.tensor) for factor in factors]
        old = self._running.get(name, new)
        average = [o.lerp(n, 1 - self.ema_decay) for o, n in zip(old, new, strict=True)]
        self._running[name] = average
        sizes = [factor.tensor.shape[-1] for factor in factors]
        first, second = (
            Factor(unpack(packed, size), is_rows=False)
            for packed, size in zip(average, sizes, strict=True)
        )
        return first, second

    def _decompose(
        self, layer: PreconditionedLayer, factors: tuple[Factor, Factor], output_scale: float
    ) -> bool:
        """Make the preconditioner of a layer; ``output_scale`` is part of B."""
        inverses = invert_pair(*factors, self.damping)
        if inverses is not None:
            self._preconditioners[layer.name] = [part for inverse in inverses for part in inverse]
        return inverses is not None

    def _precondition(self) -> None:
        alike: dict[Any, list[str]] = defaultdict(list)
        for name, parts in self._preconditioners.items():
            layer = self._layers[name]
            if (grad := layer.module.weight.grad) is not None:
                shapes = tuple(part.shape for part in parts)
                alike[grad.shape, layer.moving_bias is None, shapes, grad.device].append(name)
        for (shape, *_, device), names in alike.items():
            widest = max(shape[1:].numel(), shape[0]) ** 2
            at_once = stack_length(widest, device)
            for start in range(0, len(names), at_once):
                self._precondition_alike(names[start : start + at_once])

    def _precondition_alike(self, names: list[str]) -> None:
        layers = [self._layers[name] for name in names]
        parts = [self._preconditioners[name] for name in names]
        precondition(
            [layer.module.weight.grad for layer in layers],  # type: ignore[misc]
            [layer.moving_bias.grad for layer in layers if layer.moving_bias is not None],  # type: ignore[misc]
            [Inverse(*four[:2]) for four in parts],
            [Inverse(*four[2:]) for four in parts],
        )

    def _forget_step(self) -> None:
        self._pools.clear()
        self._uses.clear()
        self._loss_rows = 0
        self._forward = 0

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot, without what an unfinished step has gathered (and ``.grad``)."""
        return {
            "step": self.step,
            "skipped_refreshes": self.skipped_refreshes,
            "generator": self._generator.get_state(),
            "preconditioners": copied(self._preconditioners),
            "running": copied(self._running),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy a snapshot into the state; one of another model is a ``ValueError``."""
        weights = {name: layer.module.weight for name, layer in self._layers.items()}
        self._preconditioners = loaded(state_dict["preconditioners"], weights)
        self._running = loaded(state_dict["running"], weights)
        # A checkpoint read with map_location has moved the generator's state as well.
        self._generator.set_state(state_dict["generator"].cpu())
        self.step = state_dict["step"]
        self.skipped_refreshes = state_dict["skipped_refreshes"]
        self._forget_step()

    def close(self) -> None:
        """Remove the hooks from the model and drop what the current step gathered."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget_step()
