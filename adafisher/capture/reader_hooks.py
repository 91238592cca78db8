"""The hooks of a module whose forward pass reads weights by functional calls, see ``calls``."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adafisher.capture.calls import FunctionalCallMode
from adafisher.capture.hooks import Hook, Watcher, is_recorded, nothing, outside_of_the_graph
from adafisher.layers.layer import Layer


class Reader:
    """Watches the functional calls of layers while their module's forward pass lasts."""

    def __init__(self, capture: Watcher, layers: list[Layer]) -> None:
        self._capture: Callable[[], Watcher | None] = weakref.ref(capture)
        self._layers = [weakref.ref(layer) for layer in layers]
        self._threads = _Entered()

    def enter(self) -> None:
        """Start, if a layer is wanted; an inner call of the same module is part of the outer."""
        capture, entered = self._capture(), self._threads.entered
        layers = [layer for layer in (ref() for ref in self._layers) if layer is not None]
        calls = None
        if (
            capture is not None
            and torch.is_grad_enabled()
            and not entered
            and any(capture.wants(layer) for layer in layers)
        ):
            calls = FunctionalCallMode(layers, self._see)
            calls.__enter__()
        entered.append(calls)

    def leave(self) -> None:
        """Stop; also after an exception, even one raised before ``enter``."""
        entered = self._threads.entered
        calls = entered.pop() if entered else None
        if calls is not None:
            calls.__exit__(None, None, None)

    def _see(self, layer: Layer, x: Tensor, output: Tensor, call: Any) -> None:
        capture = self._capture()
        if capture is None or not output.requires_grad or not capture.wants(layer):
            return
        if torch.compiler.is_compiling():
            outside_of_the_graph(capture.watch, layer, x, output, module=layer.module, call=call)
        else:
            capture.watch(layer, x, output, module=layer.module, call=call)

    def is_dead(self) -> bool:
        """Tell whether it is a copy."""
        return self._capture is nothing

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._capture, self._layers, self._threads = nothing, [], _Entered()


class _Entered(threading.local):
    """The calls of a module that are under way, of each thread its own."""

    def __init__(self) -> None:
        self.entered: list[FunctionalCallMode | None] = []


@dataclass(frozen=True)
class ReaderPreHook(Hook):
    """Pre-forward hook of a reader."""

    reader: Reader

    def is_dead(self) -> bool:
        """Tell whether its reader is a copy."""
        return self.reader.is_dead()

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        """Start to watch."""
        if is_recorded():
            return
        if torch.compiler.is_compiling():
            outside_of_the_graph(self.reader.enter)
        else:
            self.reader.enter()


@dataclass(frozen=True)
class ReaderForwardHook(Hook):
    """Forward hook of a reader, called also after an exception."""

    reader: Reader

    def is_dead(self) -> bool:
        """Tell whether its reader is a copy."""
        return self.reader.is_dead()

    def __call__(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        """Stop watching."""
        if is_recorded():
            return
        if torch.compiler.is_compiling():
            outside_of_the_graph(self.reader.leave)
        else:
            self.reader.leave()
