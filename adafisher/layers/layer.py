"""A layer that has curvature, its running factors, and the rows that wait for the next step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafisher.fisher import update_average_
from adafisher.layers.rule import Factors, LayerRule, means


@dataclass(eq=False, repr=False)  # a layer's pool leads back to the layer
class Call:
    """One call of a layer in a forward pass.

    Attributes:
        layer: Layer that was called.
        source: What the rule reads the call from: the layer, or what it did.
        activation_sum: Statistic of the input.
        rows: Rows of the call.
        pool: Pool that the call is open in, None if in none.
        grad: Gradient of the output, summed over the backward passes that ``pool`` counts.
    """

    layer: Layer
    source: Any
    activation_sum: Tensor
    rows: int
    pool: Pool | None = None
    grad: Tensor | None = None

    def grad_sum(self) -> Tensor:
        """Take the statistic of the summed output gradient."""
        assert self.grad is not None
        return self.layer.rule.grad_sum(self.source, self.grad)


@dataclass(eq=False)
class Pool:
    """Rows whose gradients have reached the parameters since these were last cleared.

    A call is open while another backward pass may add to its output gradient, which is squared
    when it closes: the rows of two passes through one graph are those of one of the sum.

    Attributes:
        activation_sum: Pooled statistic of the input of the closed calls, None without any.
        grad_sum: Pooled statistic of their output gradients, None without any.
        rows: Rows of all calls.
        open: Calls that are not in the two sums yet.
        called: Whether there was a call, be it of no rows.
        accumulated: Whether the gradients are in ``.grad``; not yet while FSDP keeps them.
        versions: ``clearing.grad_version`` of each parameter as the last backward pass left it.
    """

    activation_sum: Tensor | None = None
    grad_sum: Tensor | None = None
    rows: int = 0
    open: dict[Call, None] = field(default_factory=dict)
    called: bool = False
    accumulated: bool = False
    versions: dict[Tensor, tuple[int, int]] = field(default_factory=dict)

    def take(self, call: Call, grad: Tensor, *, is_sum: bool, keeps_graph: bool) -> None:
        """Take in a call whose gradient has reached a parameter.

        Args:
            call: The call.
            grad: Gradient of its output, or the statistic of that, without a graph.
            is_sum: Whether it is the statistic.
            keeps_graph: Whether another pass through the graph may follow.
        """
        self.called = True
        if is_sum:
            self.rows += call.rows
            self._add(call.activation_sum, grad)
            return
        if call.pool is self and call.grad is not None:
            call.grad = call.grad + grad
        else:
            call.pool, call.grad = self, grad
            self.rows += call.rows
            self.open[call] = None
        if not keeps_graph:
            self._close(call)

    def is_new(self) -> bool:
        """Tell whether nothing has come in."""
        held = self.activation_sum is not None or self.open or self.versions
        return not (held or self.called or self.rows or self.accumulated)

    def settle(self) -> None:
        """Close all calls."""
        for call in list(self.open):
            self._close(call)

    def settled(self) -> Pool:
        """Give the same rows with every call in the sums; this pool stays as it is."""
        if not self.open:
            return self
        pool = replace(self, open={})
        for call in self.open:
            pool._add(call.activation_sum, call.grad_sum())
        return pool

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this model's graphs and gradients."""
        return vars(self.settled()) | {"versions": {}}

    def release(self) -> None:
        """Let go of the output gradients of open calls, or they live as long as the graph."""
        for call in self.open:
            call.pool = call.grad = None

    def _close(self, call: Call) -> None:
        self._add(call.activation_sum, call.grad_sum())
        del self.open[call]
        call.pool = call.grad = None

    def _add(self, activation_sum: Tensor, grad_sum: Tensor) -> None:
        if self.activation_sum is None or self.grad_sum is None:
            self.activation_sum, self.grad_sum = activation_sum, grad_sum
        else:
            self.activation_sum = _add_ragged(self.activation_sum, activation_sum)
            self.grad_sum = self.grad_sum + grad_sum


@dataclass(eq=False)
class Layer:
    """A supported layer, its running factors and its pooled rows.

    Attributes:
        name: Qualified name in the model.
        module: The layer.
        rule: How its factors are made and used.
        activation_diag: Running average of ``H``, None before the first estimate.
        grad_diag: Running average of ``S``, None before the first estimate.
        dropped: Estimates that were not finite and therefore not used.
        pool: Rows waiting for the next step.
        is_sharded: Whether ``fully_shard`` has split its parameters.
        parameter_names: For each of ``roles()``, the attribute of the module.
        holders: For each of ``roles()``, the tensor whose gradient is waited for, once known.
    """

    name: str
    module: nn.Module
    rule: LayerRule
    activation_diag: Tensor | None = None
    grad_diag: Tensor | None = None
    dropped: int = 0
    pool: Pool = field(default_factory=Pool)

    def __post_init__(self) -> None:
        """Keep the parameters: within forward, fully_shard puts others in their place."""
        # A parametrized weight is computed, not a parameter: it is absent from _parameters.
        names = (("weight", self.rule.weight), ("bias", self.rule.bias))
        own = ((role, self.module._parameters.get(name)) for role, name in names)
        self._roles = [(role, param) for role, param in own if param is not None]
        self.parameter_names = [self.attribute(role) for role, _ in self._roles]
        self.is_sharded = any(is_sharded(param) for _, param in self._roles)
        self.holders: list[Tensor | None] = [None] * len(self._roles)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the rule, which is made of functions; the capture finds it again."""
        state = {key: value for key, value in vars(self).items() if key != "rule"}
        for name in ("activation_diag", "grad_diag"):
            if state[name] is not None:  # pickled, a view takes along all that it is a view of
                state[name] = state[name].clone()
        return state | {"holders": [None] * len(self._roles)}

    def roles(self) -> list[tuple[str, nn.Parameter]]:
        """List the parameters that get curvature from this layer, with their role."""
        return self._roles

    def attribute(self, role: str) -> str:
        """Name the module's attribute in a role."""
        name: str = getattr(self.rule, role)
        return name

    def clear(self) -> None:
        """Forget the rows."""
        if self.pool.is_new():  # half of all calls: one follows the step, one precedes the next
            return
        self.pool.release()
        self.pool = Pool()

    def sums(self) -> tuple[Tensor, Tensor, int]:
        """Give two sums and a number which, divided by it, are the factors of the pooled rows."""
        pool = self.pool.settled()
        assert pool.activation_sum is not None
        assert pool.grad_sum is not None
        if self.rule.estimate is means:
            return pool.activation_sum, pool.grad_sum, pool.rows
        return *self.rule.estimate(pool.activation_sum, pool.grad_sum, pool.rows), 1

    def average(self, estimate: Factors, gammas: tuple[float, float], start: float) -> None:
        """Take an estimate into the running averages, which start filled with ``start``."""
        if self.activation_diag is None or self.grad_diag is None:
            self.activation_diag, self.grad_diag = (torch.full_like(x, start) for x in estimate)
        update_average_(self.activation_diag, estimate[0], gammas)
        update_average_(self.grad_diag, estimate[1], gammas)

    def averages(self) -> Factors | None:
        """Give the running averages, or None before the first estimate."""
        if self.activation_diag is None or self.grad_diag is None:
            return None
        return self.activation_diag, self.grad_diag


_PLAIN = (nn.Parameter, Tensor)


def is_sharded(tensor: Any) -> bool:
    """Tell whether a tensor is spread over the ranks of a device mesh."""
    # The first question alone answers it for nearly all, and costs a tenth of the second.
    return type(tensor) not in _PLAIN and hasattr(tensor, "device_mesh")


def _add_ragged(a: Tensor, b: Tensor) -> Tensor:
    """Add two statistics; a released-code layer norm has one entry a token, so lengths vary."""
    if a.shape != b.shape:
        length = max(a.numel(), b.numel())
        a, b = (F.pad(t, (0, length - t.numel())) for t in (a, b))
    return a + b
