"""Hooks that collect the rows of every supported layer.

The input statistic is computed inside the forward hook, so that nothing done in place afterwards
can reach it and no activation is kept alive. It counts only when the gradient of that very output
arrives, through a tensor hook on the output: a forward pass without a backward pass leaves no
trace, and the hook sees the layer's own output gradient even if the output is changed in place
afterwards (the reason that f-dangel/singd gives for tensor hooks).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adafisher.fisher import update_average_
from adafisher.layers import Factors, LayerRule, find_rule


@dataclass
class Pool:
    """Rows since the gradients were last cleared.

    Attributes:
        activation_sum: Pooled statistic of the layer input, None without rows.
        grad_sum: Pooled statistic of the output gradient, None without rows.
        rows: Rows that the two sums run over.
    """

    activation_sum: Tensor | None = None
    grad_sum: Tensor | None = None
    rows: int = 0

    def add(self, activation_sum: Tensor, grad_sum: Tensor, rows: int) -> None:
        """Add the rows of one call of the layer."""
        if self.activation_sum is None or self.grad_sum is None:
            self.activation_sum, self.grad_sum = activation_sum, grad_sum
        else:
            self.activation_sum = _add_ragged(self.activation_sum, activation_sum)
            self.grad_sum = self.grad_sum + grad_sum
        self.rows += rows

    def clear(self) -> None:
        """Forget all rows."""
        self.activation_sum, self.grad_sum, self.rows = None, None, 0


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
        own = ((role, self.module._parameters.get(role)) for role in ("weight", "bias"))
        self._roles = [(role, param) for role, param in own if param is not None]

    def roles(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters that get curvature from this layer, with their role."""
        return self._roles

    def estimate(self) -> Factors:
        """Factors of the pooled rows, of which there must be some."""
        pool = self.pool
        assert pool.activation_sum is not None
        assert pool.grad_sum is not None
        return self.rule.estimate(pool.activation_sum, pool.grad_sum, pool.rows)

    def average(self, estimate: Factors, gammas: tuple[float, float], start: float) -> None:
        """Take an estimate into the running averages, which start filled with ``start``."""
        if self.activation_diag is None or self.grad_diag is None:
            self.activation_diag, self.grad_diag = (torch.full_like(x, start) for x in estimate)
        update_average_(self.activation_diag, estimate[0], gammas)
        update_average_(self.grad_diag, estimate[1], gammas)

    def averages(self) -> Factors | None:
        """The running averages, or None before the first estimate."""
        if self.activation_diag is None or self.grad_diag is None:
            return None
        return self.activation_diag, self.grad_diag


class Capture:
    """Registers the hooks and owns the layers.

    Attributes:
        layers: Supported layers by name, in the order of ``model.named_modules()``.
        armed: Whether the current step's rows are wanted.
        tracked: Parameters whose curvature is wanted; a layer without a trainable one is skipped.
    """

    def __init__(self, model: nn.Module, norm_layers: str) -> None:
        """Find the supported layers of ``model`` and hook them.

        Args:
            model: Model to watch.
            norm_layers: Form of the norm-layer factors, see ``layers.find_rule``.
        """
        self.layers: dict[str, Layer] = {}
        self.armed = True
        self.tracked: set[Tensor] = set()
        handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            rule = find_rule(module, norm_layers)
            if rule is None or _is_bypassed(model, name):
                continue
            layer = Layer(name, module, rule)
            if layer.roles():
                self.layers[name] = layer
                hook = _ForwardHook(self, layer)
                handles.append(module.register_forward_hook(hook, with_kwargs=True))
        # The model must not keep a dropped optimizer alive, nor go on computing for it.
        self.close: Callable[[], Any] = weakref.finalize(self, _remove, handles)

    def clear(self) -> None:
        """Forget the rows of every layer."""
        for layer in self.layers.values():
            layer.pool.clear()

    def wants(self, layer: Layer) -> bool:
        """Whether a tracked parameter of the layer is being trained in this step."""
        return self.armed and any(
            param.requires_grad and param in self.tracked for _, param in layer.roles()
        )

    @torch.no_grad()
    def watch(self, layer: Layer, x: Tensor, output: Tensor) -> None:
        """Take the input statistic now, and pool it once the output's gradient arrives.

        Args:
            layer: Layer that was called.
            x: Its input.
            output: Its output, part of a graph.
        """
        activation_sum = layer.rule.activation_sum(layer.module, x.detach(), output)
        rows = layer.rule.rows(layer.module, output)
        capture_ref = weakref.ref(self)

        def on_grad(grad: Tensor) -> None:
            capture = capture_ref()
            if capture is None or not capture.wants(layer):
                return
            with torch.no_grad():
                grad_sum = layer.rule.grad_sum(layer.module, grad.detach())
                layer.pool.add(activation_sum, grad_sum, rows)

        output.register_hook(on_grad)


class _ForwardHook:
    """Forward hook that holds its capture weakly; a copied or unpickled one does nothing."""

    def __init__(self, capture: Capture, layer: Layer) -> None:
        self._capture: Callable[[], Capture | None] = weakref.ref(capture)
        self._layer: Callable[[], Layer | None] = weakref.ref(layer)

    def __call__(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        capture, layer = self._capture(), self._layer()
        if capture is None or layer is None:
            return
        if not isinstance(output, Tensor):  # a subclass of its own kind: identity, and counted
            return
        if output.requires_grad and torch.is_grad_enabled() and capture.wants(layer):
            x = args[0] if args else next(iter(kwargs.values()))
            capture.watch(layer, x, output)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._capture = self._layer = _nothing


def _nothing() -> None:
    return None


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _is_bypassed(model: nn.Module, name: str) -> bool:
    """Whether a parent reads the layer's weight without calling it, as attention does."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention)


def _add_ragged(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two statistics; a released-code layer norm has one entry a token, so lengths vary."""
    if a.shape != b.shape:
        length = max(a.numel(), b.numel())
        a, b = (F.pad(t, (0, length - t.numel())) for t in (a, b))
    return a + b
