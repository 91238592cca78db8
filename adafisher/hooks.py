"""The hooks on a model's modules; each knows its capture weakly, and does nothing without it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adafisher.calls import Calls

if TYPE_CHECKING:
    from adafisher.capture import Capture
    from adafisher.layer import Layer


class ForwardHook:
    """Forward hook that holds its capture weakly; a copied or unpickled one does nothing."""

    def __init__(self, capture: Capture, layer: Layer) -> None:
        self._capture: Callable[[], Capture | None] = weakref.ref(capture)
        self._layer: Callable[[], Layer | None] = weakref.ref(layer)

    def __call__(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """See a call of the layer."""
        if torch.compiler.is_compiling():
            _outside_of_the_graph(self._see, args, kwargs, output)
        else:
            self._see(args, kwargs, output)

    def _see(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
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


class Reader:
    """Watches the functional calls of layers while their module's forward pass lasts."""

    def __init__(self, capture: Capture, layers: list[Layer]) -> None:
        self._capture: Callable[[], Capture | None] = weakref.ref(capture)
        self._layers = [weakref.ref(layer) for layer in layers]
        self._entered: list[Calls | None] = []

    def enter(self) -> None:
        """Start, if a layer is wanted; an inner call of the same module is part of the outer."""
        capture = self._capture()
        layers = [layer for layer in (ref() for ref in self._layers) if layer is not None]
        calls = None
        if (
            capture is not None
            and torch.is_grad_enabled()
            and not self._entered
            and any(capture.wants(layer) for layer in layers)
        ):
            calls = Calls(layers, self._see)
            calls.__enter__()
        self._entered.append(calls)

    def leave(self) -> None:
        """Stop; also after an exception, even one raised before ``enter``."""
        calls = self._entered.pop() if self._entered else None
        if calls is not None:
            calls.__exit__(None, None, None)

    def _see(self, layer: Layer, x: Tensor, output: Tensor, call: Any) -> None:
        capture = self._capture()
        if capture is not None and output.requires_grad and capture.wants(layer):
            capture.watch(layer, x, output, call)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._capture, self._layers, self._entered = _nothing, [], []


@dataclass(frozen=True)
class Enter:
    """Pre-forward hook of a reader."""

    reader: Reader

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        """Start to watch."""
        if torch.compiler.is_compiling():
            _outside_of_the_graph(self.reader.enter)
        else:
            self.reader.enter()


@dataclass(frozen=True)
class Leave:
    """Forward hook of a reader, called also after an exception."""

    reader: Reader

    def __call__(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """Stop watching."""
        if torch.compiler.is_compiling():
            _outside_of_the_graph(self.reader.leave)
        else:
            self.reader.leave()


@torch._disable_dynamo
def _outside_of_the_graph(function: Callable[..., None], *args: Any) -> None:
    """Call a hook between two compiled graphs: what it pools and when is no part of a graph."""
    function(*args)


def _nothing() -> None:
    return None


def remove_dead_hooks(module: nn.Module) -> None:
    """Take away the hooks that a copied module brought along."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key, hook in list(hooks.items()):
            own: Any = hook.reader if isinstance(hook, Enter | Leave) else hook
            if isinstance(own, ForwardHook | Reader) and own._capture is _nothing:
                del hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_always_called.pop(key, None)


def remove(handles: list[RemovableHandle]) -> None:
    """Take hooks off their modules."""
    for handle in handles:
        handle.remove()
