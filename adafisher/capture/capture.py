"""Hooks that collect the rows of every supported layer.

Rows count exactly when the gradient that they belong to has reached the parameter. On their way
they pass four places.

1. The forward hook takes the input statistic of a call at once, so that nothing done in place
   afterwards can reach it and no activation is kept alive. What counts is what goes into the
   layer's own ``forward`` and comes out of it, whichever hooks change it before or afterwards.
2. A tensor hook on the output sees the gradient there, even if the output is changed in place
   afterwards (the reason that f-dangel/singd gives for tensor hooks), and queues the rows with the
   backward pass (``Pass``). Autograd alone holds that, so that rows die with their pass.
3. The hook on the parameter, called when a gradient has been added to ``.grad``, moves the rows
   that this pass has of the parameter's layers into their pools. A pass that leaves no gradient
   leaves no rows: one without a backward, ``torch.autograd.grad``, ``backward(inputs=...)`` of
   others, a call with other tensors in place of the parameters.
4. The step uses the pools up. ``zero_grad`` of the optimizer empties them; gradients that somebody
   else clears are found out when the next pass begins, or at the step (``clearing``).

What follows from that:

* Micro-batches, and several calls of one layer or weight, are pooled. Two passes through one graph
  (``retain_graph=True``) count as one pass of the sum of the losses: the output gradients of a call
  are added up and squared when it closes. Until then they are kept, as the graph itself is.
* Under ``torch.utils.checkpoint`` the call counts whose output gets the gradient. Under
  ``fully_shard`` the parameter that is waited for is the one that takes its place within forward.
* A gradient penalty is a part of the loss like any other. ``torch.autograd.grad`` with
  ``create_graph=True``, which forms it, counts nothing; when the loss is trained, ``S`` is of the
  gradient of the whole loss at the outputs, the penalty's part included. What the penalty sends
  into a weight through the layer's *backward* pass is in ``.grad``, but is a product of other rows
  than the layer's, and has none here. A layer that gets nothing else in a step keeps its estimate.
* Gradients set by hand, ``param.grad = torch.autograd.grad(loss, params)[i]``, bring no rows: which
  passes they are made of, and how, cannot be known (a Hessian product asks for the same). The layer
  keeps its last estimate, or is warned of. ``loss.backward(inputs=params)`` counts.

Every thread has a stack of its own, a lock guards the pools, and while a model is exported or
traced nothing is seen.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adafisher.capture.calls import forget_inputs, in_transform, is_batched, refuse_capture
from adafisher.capture.clearing import cleared, grad_version
from adafisher.capture.discovery import find_layers
from adafisher.capture.hooks import (
    AccumulateGradHook,
    ForwardHook,
    ModelForwardHook,
    ModelPreHook,
    ReorderPreHook,
    remove,
    remove_dead,
)
from adafisher.capture.passes import Pass
from adafisher.capture.reader_hooks import Reader, ReaderForwardHook, ReaderPreHook
from adafisher.capture.reads import FirstPass
from adafisher.layers.layer import Call, Layer, is_sharded
from adafisher.layers.registry import find_rule


class Capture:
    """Registers the hooks and owns the layers.

    Attributes:
        model: Model that is watched.
        layers: Supported layers by name, in the order of ``model.named_modules()``.
        owners: Layers and roles of every parameter in a supported layer, matched by identity.
        armed: Whether the current step's rows are wanted.
        tracked: Parameters whose curvature is wanted; a layer without a trainable one is skipped.
        first: What the model's first forward pass showed about reads outside of the layers' calls.
    """

    def __init__(self, model: nn.Module, norm_layers: str, embeddings: bool = False) -> None:
        """Find the supported layers of ``model`` and hook them.

        Args:
            model: Model to watch.
            norm_layers: Form of the norm-layer factors, see ``registry.find_rule``.
            embeddings: Whether embeddings have factors.
        """
        self.model = model
        self.layers: dict[str, Layer] = {}
        self.owners: dict[Tensor, list[tuple[Layer, str]]] = {}
        self.armed = True
        self.tracked: set[Tensor] = set()
        self.first = FirstPass(embeddings=embeddings)
        self._kinds = norm_layers, embeddings
        self._hooked: list[tuple[nn.Module, Layer]] = []
        self._read: dict[nn.Module, list[Layer]] = {}
        self._begin()
        self.find()

    def find(self) -> None:
        """Find the supported layers that are not known yet, and hook them.

        One that has taken the place of another, under its name, is counted instead of it.
        """
        known = {layer.module for layer in self.layers.values()}
        hooked: list[tuple[nn.Module, Layer]] = []
        read: dict[nn.Module, list[Layer]] = {}
        for layer, reader in find_layers(self.model, known, *self._kinds):
            self._own(layer)
            if reader is None:
                hooked.append((layer.module, layer))
            else:
                read.setdefault(reader, []).append(layer)
        if self.close.alive:
            self._hook(hooked, read)
        self._hooked += hooked
        for module, layers in read.items():
            self._read.setdefault(module, []).extend(layers)

    def _own(self, layer: Layer) -> None:
        replaced = self.layers.get(layer.name)
        for _, param in replaced.roles() if replaced is not None else ():
            others = [own for own in self.owners.pop(param) if own[0] is not replaced]
            if others:
                self.owners[param] = others
        self.layers[layer.name] = layer
        for role, param in layer.roles():
            self.owners.setdefault(param, []).append((layer, role))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hooks, which belong to this model, and the passes under way."""
        own = ("close", "_handles", "_passes", "_lock", "_ref", "_whole")
        state = {key: value for key, value in vars(self).items() if key not in own}
        return state | {"_closed": not self.close.alive}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register hooks on the model that came along, copied or unpickled."""
        closed = state.pop("_closed")
        vars(self).update(state)
        for layer in self.layers.values():
            found = find_rule(layer.module, *self._kinds)
            if found is None:
                raise RuntimeError(f"The type of layer {layer.name!r} is not registered here.")
            layer.rule = found.rule
        for module in {module for module, _ in self._hooked} | {self.model, *self._read}:
            remove_dead(module)
        self._begin()
        self._hook(self._hooked, self._read)
        if closed:
            self.close()

    def _begin(self) -> None:
        """Make what belongs to this process and this model, and is not copied."""
        self._lock = threading.RLock()
        self._ref = weakref.ref(self)
        self._passes: weakref.WeakValueDictionary[int, Pass] = weakref.WeakValueDictionary()
        self._handles: list[RemovableHandle] = []
        self._whole: list[RemovableHandle] = []
        if self.first.partial is None:
            self._whole = [
                self.model.register_forward_pre_hook(ModelPreHook(self)),
                self.model.register_forward_hook(ModelForwardHook(self)),
            ]
            self._handles += self._whole
        # The model must not keep a dropped optimizer alive, nor go on computing for it.
        self.close = weakref.finalize(self, remove, self._handles)

    def _hook(
        self, hooked: list[tuple[nn.Module, Layer]], read: dict[nn.Module, list[Layer]]
    ) -> None:
        for module, layer in hooked:
            hook = ForwardHook(self, layer)
            handle = module.register_forward_hook(hook, with_kwargs=True, prepend=True)
            self._handles += [
                handle,
                module.register_forward_pre_hook(ReorderPreHook(hook, handle.id)),
            ]
        for module, layers in read.items():
            reader = Reader(self, layers)
            self._handles += [
                module.register_forward_pre_hook(ReaderPreHook(reader)),
                module.register_forward_hook(
                    ReaderForwardHook(reader), prepend=True, always_call=True
                ),
            ]

    def clear(self) -> None:
        """Forget the rows of every layer."""
        with self._lock:
            for layer in self.layers.values():
                layer.clear()

    def drop_cleared(self, *, loaded: bool = True) -> None:
        """Forget the rows whose gradients are gone.

        Args:
            loaded: Whether to look at rows out of a state too, whose gradients may come later.
        """
        with self._lock:
            layers = self.layers.values()
            for layer in cleared(own for own in layers if loaded or own.pool.versions):
                layer.clear()

    def begin_model_forward(self) -> None:
        """Begin a forward pass of the whole model, until one has been looked at."""
        if self.armed and torch.is_grad_enabled():
            self.first.begin()

    def end_model_forward(self, output: Any) -> None:
        """End it, with what the model returned."""
        self.first.end(output, self.layers.values())
        if self.first.partial is not None:
            remove(self._whole)

    def uncalled(self) -> list[Layer]:
        """Give the layers of which no call was pooled though a parameter has a gradient."""
        if not self.close.alive:  # then none are pooled, as asked for
            return []
        return [
            layer
            for layer in self.layers.values()
            if not (layer.pool.called or layer.pool.rows)
            and any(param.grad is not None and param in self.tracked for _, param in layer.roles())
        ]

    def wants(self, layer: Layer) -> bool:
        """Tell whether a tracked parameter of the layer is being trained in this step."""
        if self.armed:
            for _, param in layer.roles():
                if param.requires_grad and param in self.tracked:
                    return True
        return False

    def watch(
        self, layer: Layer, x: Tensor, output: Tensor, *, module: nn.Module, call: Any = None
    ) -> None:
        """Take the input statistic now, and wait for the output's gradient.

        Args:
            layer: Layer that was called.
            x: Its input.
            output: Its output, part of a graph.
            module: What was called: the layer's module, or a replica of it.
            call: What the layer did, where that is not its type's forward pass.
        """
        if in_transform():
            raise RuntimeError(
                f"AdaFisher cannot follow torch.func through layer {layer.name!r}, as it leaves no "
                ".grad: call backward(), or close() the optimizer first."
            )
        refuse_capture(output)
        source, rule, capture_ref = layer.module if call is None else call, layer.rule, self._ref
        was_enabled = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # a tenth of what no_grad costs, at every call
        try:
            if not self._reaches(layer, module):
                return
            rows = _rows(output)
            activation_sum = rule.activation_sum(source, _rows(x.detach()), rows)
            seen = Call(layer, source, activation_sum, rule.rows(source, rows))
            if call is not None:
                forget_inputs(call)
        finally:
            torch._C._set_grad_enabled(was_enabled)
        shape = None if output.is_nested else output.shape

        def on_grad(grad: Tensor) -> None:
            capture = capture_ref()
            if capture is not None and capture.wants(layer) and not is_batched(grad):
                grad = grad.detach()  # from here on nothing has a graph, nor a tangent
                if shape is None:
                    grad = _rows(grad)
                elif not rule.last_axis or grad.shape[-1:] != shape[-1:]:
                    grad = grad.view(shape)
                capture.queue_rows(seen, grad)

        _own_tensor(output).register_hook(on_grad)

    def queue_rows(self, call: Call, grad: Tensor) -> None:
        """Queue the rows of a call with the backward pass that is under way.

        Args:
            call: The call.
            grad: Gradient of its output, without a graph.
        """
        with self._lock:
            number = torch._C._current_graph_task_id()
            current = self._passes.get(number)
            if current is None:
                self.drop_cleared()
                self._passes[number] = current = Pass()
        is_sum = not current.keeps_graph and call.pool is not call.layer.pool
        if is_sum:
            grad = call.layer.rule.grad_sum(call.source, grad)
        with self._lock:
            current.waiting.setdefault(call.layer, []).append((call, grad, is_sum))

    def pool_rows(self, param: Tensor) -> None:
        """Pool the rows of the layers of a parameter that a gradient has just reached."""
        with self._lock:
            current, left = self._passes.get(torch._C._current_graph_task_id()), param.grad
            for layer, _ in self.owners.get(param, ()):
                pool = layer.pool
                if current is not None:
                    for call, grad, is_sum in current.waiting.pop(layer, ()):
                        pool.take(call, grad, is_sum=is_sum, keeps_graph=current.keeps_graph)
                if layer.is_sharded and current is not None:
                    current.sharded.add(layer)
                elif left is not None:
                    pool.accumulated, pool.versions[param] = True, grad_version(left)

    def _reaches(self, layer: Layer, module: nn.Module) -> bool:
        """Tell whether a gradient can come from this call to the parameters, and wait for it."""
        if self.first.partial is not None:  # then no read is counted
            own, names = module._parameters, layer.parameter_names
            for name, (_, param), seen in zip(names, layer.roles(), layer.holders, strict=True):
                if seen is not param or own.get(name) is not param:
                    break
            else:  # as at the last call, which most calls are
                return True
        for i, (role, param) in enumerate(layer.roles()):
            holder: Any = param
            now = getattr(module, layer.attribute(role), None)
            if now is not param:
                if layer.is_sharded:
                    holder = now
                elif i == 0 and (not isinstance(now, Tensor) or now.is_leaf):
                    return False  # others' tensors; what was computed may come from the parameter
            # What is computed of a weight may read it more than once, each time for the one call.
            if i == 0 and isinstance(now, Tensor) and now is holder and not layer.rule.is_computed:
                self.first.count(now)
            if layer.holders[i] is holder or is_sharded(holder):
                continue
            if holder.requires_grad and param in self.tracked:
                layer.holders[i] = holder
                self._wait_for(holder, layer, i)
        return True

    def _wait_for(self, holder: Tensor, layer: Layer, position: int) -> None:
        with self._lock:
            handle = holder.register_post_accumulate_grad_hook(
                AccumulateGradHook(self, layer, position)
            )
            hooks: Any = holder._post_accumulate_grad_hooks
            for key in [key for key in hooks if key != handle.id]:
                hooks[key] = hooks.pop(key)  # behind ours: others may step and clear within theirs
            self._handles.append(handle)


def _rows(x: Tensor) -> Tensor:
    """Take the rows of a nested tensor, one sample after another; any other tensor as it is."""
    if not x.is_nested:
        return x
    return x.values() if x.layout is torch.jagged else torch.cat(x.unbind())


def _own_tensor(output: Tensor) -> Tensor:
    """Give the tensor to hook. A change in place unhooks a view, but not what it views."""
    base = None if output.is_nested else output._base
    if (
        base is not None
        and base.grad_fn is not None
        and base.numel() == output.numel()
        and base.is_contiguous()
        and output.is_contiguous()
    ):
        return base
    return output
