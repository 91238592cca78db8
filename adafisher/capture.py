"""Hooks that collect the rows of every supported layer.

The input statistic is computed inside the forward hook, so that nothing done in place afterwards
can reach it and no activation is kept alive. It counts only when the gradient of that very output
arrives, through a tensor hook on the output: a forward pass without a backward pass leaves no
trace, and the hook sees the layer's own output gradient even if the output is changed in place
afterwards (the reason that f-dangel/singd gives for tensor hooks).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adafisher.calls import in_transform, overrides_forward, reads_children, refuse_capture
from adafisher.hooks import Enter, ForwardHook, Leave, Reader, remove, remove_dead_hooks
from adafisher.layer import Layer
from adafisher.layers import find_rule


class Capture:
    """Registers the hooks and owns the layers.

    Attributes:
        layers: Supported layers by name, in the order of ``model.named_modules()``.
        armed: Whether the current step's rows are wanted.
        tracked: Parameters whose curvature is wanted; a layer without a trainable one is skipped.
    """

    def __init__(self, model: nn.Module, norm_layers: str, embeddings: bool = False) -> None:
        """Find the supported layers of ``model`` and hook them.

        Args:
            model: Model to watch.
            norm_layers: Form of the norm-layer factors, see ``layers.find_rule``.
            embeddings: Whether embeddings have factors.
        """
        self._kinds = norm_layers, embeddings
        self.layers: dict[str, Layer] = {}
        self.armed = True
        self.tracked: set[Tensor] = set()
        self._hooked: list[tuple[nn.Module, Layer]] = []
        self._read: dict[nn.Module, list[Layer]] = {}
        for name, module in model.named_modules():
            found = find_rule(module, *self._kinds)
            if found is None or _has_separate_projections(module):
                continue
            layer = Layer(name, module, found.rule)
            if not layer.roles():
                continue
            self.layers[name] = layer
            parent = model.get_submodule(name.rpartition(".")[0]) if name else None
            if parent is not None and reads_children(parent):
                self._read.setdefault(parent, []).append(layer)
            elif reads_children(module) or (
                not found.registered and overrides_forward(module, found.base)
            ):
                self._read.setdefault(module, []).append(layer)
            else:
                self._hooked.append((module, layer))
        self._register()

    def __getstate__(self) -> dict[str, Any]:
        """Without the hooks, which belong to this model."""
        state = {key: value for key, value in vars(self).items() if key != "close"}
        return state | {"_closed": not self.close.alive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Hook the model that came along, copied or unpickled."""
        closed = state.pop("_closed")
        vars(self).update(state)
        for layer in self.layers.values():
            found = find_rule(layer.module, *self._kinds)
            if found is None:
                raise RuntimeError(f"The type of layer {layer.name!r} is not registered here.")
            layer.rule = found.rule
        self._register()
        if closed:
            self.close()

    def _register(self) -> None:
        for module in {module for module, _ in self._hooked} | set(self._read):
            remove_dead_hooks(module)
        handles: list[RemovableHandle] = []
        for module, layer in self._hooked:
            hook = ForwardHook(self, layer)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        for module, layers in self._read.items():
            reader = Reader(self, layers)
            handles.append(module.register_forward_pre_hook(Enter(reader)))
            handles.append(module.register_forward_hook(Leave(reader), always_call=True))
        # The model must not keep a dropped optimizer alive, nor go on computing for it.
        self.close = weakref.finalize(self, remove, handles)

    def clear(self) -> None:
        """Forget the rows of every layer."""
        for layer in self.layers.values():
            layer.pool.clear()

    def unseen(self) -> list[str]:
        """Layers that a gradient reached though no rows of theirs were pooled."""
        if not self.close.alive:  # then none are pooled, as asked for
            return []
        return [
            layer.name
            for layer in self.layers.values()
            if not layer.pool.rows
            and any(param.grad is not None and param in self.tracked for _, param in layer.roles())
        ]

    def wants(self, layer: Layer) -> bool:
        """Whether a tracked parameter of the layer is being trained in this step."""
        return self.armed and any(
            param.requires_grad and param in self.tracked for _, param in layer.roles()
        )

    @torch.no_grad()
    def watch(self, layer: Layer, x: Tensor, output: Tensor, call: Any = None) -> None:
        """Take the input statistic now, and pool it once the output's gradient arrives.

        Args:
            layer: Layer that was called.
            x: Its input.
            output: Its output, part of a graph.
            call: What the layer did, where that is not its type's forward pass.
        """
        if in_transform():
            raise RuntimeError(
                f"AdaFisher cannot follow torch.func through layer {layer.name!r}, as it leaves no "
                ".grad: call backward(), or close() the optimizer first."
            )
        refuse_capture(output)
        source = layer.module if call is None else call
        activation_sum = layer.rule.activation_sum(source, x.detach(), output)
        rows = layer.rule.rows(source, output)
        capture_ref = weakref.ref(self)

        def on_grad(grad: Tensor) -> None:
            capture = capture_ref()
            if capture is None or not capture.wants(layer):
                return
            with torch.no_grad():
                grad_sum = layer.rule.grad_sum(source, grad.detach().view(shape))
                layer.pool.add(activation_sum, grad_sum, rows)

        shape = output.shape
        _own_tensor(output).register_hook(on_grad)


def _has_separate_projections(module: nn.Module) -> bool:
    """Attention whose key or value has a width of its own: its projections take the identity."""
    return isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is None


def _own_tensor(output: Tensor) -> Tensor:
    """The tensor to hook. A change in place of a view unhooks the view, but not what it views."""
    base = output._base
    if (
        base is not None
        and base.grad_fn is not None
        and base.numel() == output.numel()
        and base.is_contiguous()
        and output.is_contiguous()
    ):
        return base
    return output
