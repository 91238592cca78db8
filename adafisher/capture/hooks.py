"""The hooks on a model; each knows its capture weakly, and does nothing without it.

A layer's own output counts, whatever hooks make of it afterwards. A forward hook that computes the
output in the layer's place says so by a true attribute ``computes_output``: then its output counts.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from adafisher.layers.layer import Layer


class Watcher(Protocol):
    """What the hooks report to."""

    armed: bool

    def wants(self, layer: Layer) -> bool:
        """Tell whether rows of the layer are wanted in this step."""

    def watch(
        self, layer: Layer, x: Tensor, output: Tensor, *, module: nn.Module, call: Any = None
    ) -> None:
        """Take note of a call of the layer."""

    def begin_model_forward(self) -> None:
        """Hear that a forward pass of the whole model begins."""

    def end_model_forward(self, output: Any) -> None:
        """Hear that it ends with this output."""

    def pool_rows(self, param: Tensor) -> None:
        """Hear that a gradient has reached the parameter."""


def is_recorded() -> bool:
    """Tell whether the model is exported or traced: what hooks do would become a part of it."""
    # Not is_exporting(), which the compiler of torch 2.11 takes for true in whatever it compiles.
    return torch.compiler._is_exporting_flag or torch.jit.is_tracing()


class Hook:
    """A hook on a module."""

    @property
    def __name__(self) -> str:
        """The name by which ``torch.jit.script`` asks for the source code of a hook."""
        if sys._getframe(1).f_globals.get("__name__") == "torch.jit._recursive":
            raise RuntimeError(
                "torch.jit.script would compile AdaFisher's hooks, which are Python: close() the "
                "optimizer first, or script a new model that loads the state_dict of this one."
            )
        return type(self).__qualname__

    def is_dead(self) -> bool:
        """Tell whether it came along with a copied module, and has no capture here."""
        return False


class ForwardHook(Hook):
    """Forward hook that holds its capture weakly; a copied or unpickled one does nothing."""

    def __init__(self, capture: Watcher, layer: Layer) -> None:
        self._capture: Callable[[], Watcher | None] = weakref.ref(capture)
        self._layer: Callable[[], Layer | None] = weakref.ref(layer)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], *kwargs_and_output: Any) -> None:
        """See a call of the layer, unless that was seen before the global hooks."""
        if torch_module._global_forward_hooks and global_hook.is_first() and not _own(module):
            return
        if not was_removed(kwargs_and_output):
            self.see(module, args, *kwargs_and_output)

    def see(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """See a call of the layer."""
        if is_recorded():
            return
        if torch.compiler.is_compiling():
            outside_of_the_graph(self._see, module, args, kwargs, output)
        else:
            self._see(module, args, kwargs, output)

    def _see(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        capture, layer = self._capture(), self._layer()
        if capture is None or layer is None:
            return
        if not isinstance(output, Tensor):  # a subclass of its own kind: identity, and counted
            return
        if output.requires_grad and torch.is_grad_enabled() and capture.wants(layer):
            x = args[0] if args else _input_of(kwargs)
            if x is None or not layer.rule.fits(layer.module, x, output):
                return
            capture.watch(layer, x, output, module=module)

    def is_dead(self) -> bool:
        """Tell whether it is a copy."""
        return self._capture is nothing

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._capture = self._layer = nothing


@dataclass(frozen=True)
class ReorderPreHook(Hook):
    """Pre-forward hook that puts a forward hook before those that may change the output."""

    hook: ForwardHook
    handle_id: int

    def __call__(self, module: nn.Module, _args: Any) -> None:
        """Put the hook first."""
        if torch.compiler.is_compiling():  # a compiler takes the hooks as they are
            return
        hooks: Any = module._forward_hooks
        if len(hooks) > 1 and self.handle_id in hooks:
            first = [*_own(module), self.handle_id]
            if list(hooks)[: len(first)] != first:  # another thread may be going through them
                for key in reversed(first):
                    hooks.move_to_end(key, last=False)
        if torch_module._global_forward_hooks:
            global_hook.lead()

    def is_dead(self) -> bool:
        """Tell whether what it leads is a copy."""
        return self.hook.is_dead()


class GlobalForwardHook(Hook):
    """Global forward hook, there only beside those of others, which come before a module's own."""

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None

    def lead(self) -> None:
        """Stand before the other global hooks; leave where there are none."""
        hooks: Any = torch_module._global_forward_hooks
        if self._handle is None or self._handle.id not in hooks:
            self._handle = torch_module.register_module_forward_hook(self, with_kwargs=True)
        if len(hooks) == 1:
            self._leave()
        elif not self.is_first():
            hooks.move_to_end(self._handle.id, last=False)

    def is_first(self) -> bool:
        """Tell whether it sees the output before all others."""
        first = next(iter(torch_module._global_forward_hooks), None)
        return self._handle is not None and first == self._handle.id

    def __call__(self, module: nn.Module, args: tuple[Any, ...], *kwargs_and_output: Any) -> None:
        """Let the module's forward hooks of ours see the call; leave where no others are left."""
        if was_removed(kwargs_and_output):
            return
        if len(torch_module._global_forward_hooks) == 1:
            self._leave()
            return
        for hook in [] if _own(module) else list(module._forward_hooks.values()):
            if isinstance(hook, ForwardHook):
                hook.see(module, args, *kwargs_and_output)

    def _leave(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            # Torch 2.14 forgets this, and takes it for a global hook from then on.
            torch_module._global_forward_hooks_with_kwargs.pop(self._handle.id, None)


global_hook = GlobalForwardHook()


class ModelPreHook(Hook):
    """Pre-forward hook of the whole model."""

    def __init__(self, capture: Watcher) -> None:
        self._capture: Callable[[], Watcher | None] = weakref.ref(capture)

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        """Start to compare calls and reads."""
        if is_recorded() or torch.compiler.is_compiling():
            return
        capture = self._capture()
        if capture is not None:
            capture.begin_model_forward()

    def is_dead(self) -> bool:
        """Tell whether it is a copy."""
        return self._capture is nothing

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._capture = nothing


class ModelForwardHook(ModelPreHook):
    """Forward hook of the whole model."""

    def __call__(self, _module: nn.Module, _args: Any, output: Any = None) -> None:
        """Compare calls and reads."""
        if is_recorded() or torch.compiler.is_compiling():
            return
        capture = self._capture()
        if capture is not None:
            capture.end_model_forward(output)


class AccumulateGradHook:
    """Hook on a parameter, called after its gradient has been accumulated."""

    def __init__(self, capture: Watcher, layer: Layer, position: int) -> None:
        self._capture = weakref.ref(capture)
        self._layer = weakref.ref(layer)
        self._position = position

    def __call__(self, _param: Tensor) -> None:
        """Count the rows that gave the gradient."""
        capture, layer = self._capture(), self._layer()
        if capture is not None and capture.armed and layer is not None:
            capture.pool_rows(layer.roles()[self._position][1])


def _input_of(kwargs: dict[str, Any]) -> Any:
    """Find the input among keyword arguments: by its name, or as the first tensor, if any is."""
    tensors = (value for value in kwargs.values() if isinstance(value, Tensor))
    return kwargs["input"] if "input" in kwargs else next(tensors, None)


@torch._disable_dynamo
def outside_of_the_graph(function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Call a hook between two compiled graphs: what it pools and when is no part of a graph."""
    function(*args, **kwargs)


def _own(module: nn.Module) -> list[int]:
    """Give the keys of the forward hooks that compute the module's output in its place."""
    hooks = module._forward_hooks
    return [key for key, hook in hooks.items() if getattr(hook, "computes_output", False)]


def was_removed(kwargs_and_output: tuple[Any, ...]) -> bool:
    """Tell whether a hook was taken off while torch went through the hooks of this very call.

    So it is where the last reference to an optimizer goes just then. Torch has the hook in its hand
    and calls it, but knows no more that it takes keyword arguments.
    """
    return len(kwargs_and_output) == 1


def nothing() -> None:
    """Stand for the capture that a copied hook does not have."""


def remove_dead(module: nn.Module) -> None:
    """Take away the hooks that a copied module brought along."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        own: dict[int, Any] = dict(hooks)
        for key, hook in own.items():
            if isinstance(hook, Hook) and hook.is_dead():
                del hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_always_called.pop(key, None)


def remove(handles: list[RemovableHandle]) -> None:
    """Take hooks off their modules and parameters."""
    for handle in handles:
        handle.remove()
