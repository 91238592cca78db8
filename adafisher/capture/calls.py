"""Calls of ``torch.nn.functional`` inside a module, for layers that a hook cannot read.

A layer's hook sees what goes into its module and what comes out. That is not what its weight sees
where a subclass overrides ``forward`` (a norm followed by an activation, a norm over another axis),
nor where a parent reads the weight without calling the layer (attention). There every functional
call with the very parameter as its weight is seen instead, while the forward pass of that module
lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adafisher.layers.rule import LayerRule

See = Callable[[Any, Tensor, Tensor, Any], None]

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONV_TRANSPOSE = (
    *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
)
_STATISTICS = ("input", "running_mean", "running_var", "weight", "bias")
_SIGNATURES: dict[Callable[..., Any], tuple[str, tuple[str, ...]]] = {
    # function: start of the rule's name, names of the positional arguments
    F.linear: ("Linear", ("input", "weight", "bias")),
    F.conv1d: ("Conv1d", _CONV),
    F.conv2d: ("Conv2d", _CONV),
    F.conv3d: ("Conv3d", _CONV),
    F.conv_transpose1d: ("ConvTranspose1d", _CONV_TRANSPOSE),
    F.conv_transpose2d: ("ConvTranspose2d", _CONV_TRANSPOSE),
    F.conv_transpose3d: ("ConvTranspose3d", _CONV_TRANSPOSE),
    F.batch_norm: ("BatchNorm", _STATISTICS),
    F.instance_norm: ("InstanceNorm", _STATISTICS),
    F.group_norm: ("GroupNorm", ("input", "num_groups", "weight", "bias")),
    F.layer_norm: ("LayerNorm", ("input", "normalized_shape", "weight", "bias")),
    F.rms_norm: ("RMSNorm", ("input", "normalized_shape", "weight")),
    F.embedding: ("Embedding", ("input", "weight", "padding_idx")),
    F.embedding_bag: (
        "EmbeddingBag",
        (
            *("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq"),
            *("mode", "sparse", "per_sample_weights", "include_last_offset", "padding_idx"),
        ),
    ),
}


def overrides_forward(module: nn.Module, base: type[nn.Module]) -> bool:
    """Tell whether the module's forward pass is not that of the layer it counts as."""
    methods = ("forward", "_conv_forward")
    return "forward" in vars(module) or any(
        getattr(type(module), name, None) is not getattr(base, name, None) for name in methods
    )


class FunctionalCallMode(TorchFunctionMode):
    """Reports the functional calls of some layers while it is entered."""

    def __init__(self, layers: Iterable[Any], see: See) -> None:
        """Prepare to watch.

        Args:
            layers: ``layer.Layer``s whose weights to look for.
            see: Told ``(layer, input, output, call)`` for every such call.
        """
        super().__init__()
        self._layers = list(layers)
        self._see = see

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` and look at it."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:  # or what it calls in turn would not be seen
                return _ATTENTION_BODY(*args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SIGNATURES:
            kind, names = _SIGNATURES[func]
            call = dict(zip(names, args, strict=False)) | kwargs
            self._look(kind, call, output)
        return output

    def _look(self, kind: str, call: dict[str, Any], output: Tensor) -> None:
        weight = call.get("weight")
        if weight is None or not isinstance(output, Tensor):
            return
        for layer in self._layers:
            own = layer.module._parameters.get(layer.rule.weight)
            if own is None:
                continue
            if _is_of(layer.rule, kind) and (
                _is_made_of(weight, own) if layer.rule.is_computed else weight is own
            ):
                bias = layer.module._parameters.get(layer.rule.bias)
                # A computed weight has a graph; of its own one the rules ask the shape alone.
                seen = _as_layer(kind, call | {"weight": own, "bias": bias})
                self._see(layer, call["input"], output, seen)
                return
            if layer.rule.name == "MultiheadAttention" and kind == "Linear":
                parts = _packed_parts(weight, own)
                if parts is not None:
                    self._see(layer, call["input"], output, SimpleNamespace(parts=parts))
                    return


def forget_inputs(call: Any) -> None:
    """Drop what only the statistic of the input needs: the call lives as long as the output does.

    Args:
        call: As ``FunctionalCallMode`` has told of it.
    """
    for name in ("input", "offsets", "per_sample_weights"):
        vars(call).pop(name, None)


def _is_made_of(weight: Tensor, own: Tensor) -> bool:
    """Tell whether a weight is one that a layer has computed from its own in its forward pass."""
    return weight.shape == own.shape and weight.grad_fn is not None


def _is_of(rule: LayerRule, kind: str) -> bool:
    return rule.name.removesuffix(" (two_vector)") == kind


def _as_layer(kind: str, call: dict[str, Any]) -> SimpleNamespace:
    """Give the arguments of a call under the names that a layer has for them.

    The bias is the layer's own, or None: one that is made of others (BEiT's, of two) or added
    afterwards is the same network, and is to give the same factors.
    """
    weight = call["weight"]
    layer = SimpleNamespace(**call)
    if kind.startswith("Conv"):
        axes = weight.dim() - 2
        layer.kernel_size = tuple(weight.shape[2:])
        layer.groups = call.get("groups", 1)
        layer.padding_mode = "zeros"
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = call.get(name, default)
            if isinstance(value, int):
                value = (value,) * axes
            setattr(layer, name, tuple(value) * axes if len(value) == 1 else value)
    if kind.startswith("Embedding"):
        layer.num_embeddings = weight.shape[0]
        padding = call.get("padding_idx")
        layer.padding_idx = padding if padding is None else padding % weight.shape[0]
    if kind == "EmbeddingBag":
        layer.offsets, layer.mode = call.get("offsets"), call.get("mode", "mean")
        layer.per_sample_weights = call.get("per_sample_weights")
        layer.include_last_offset = call.get("include_last_offset", False)
    return layer


def _packed_parts(weight: Tensor, packed: Tensor) -> slice | None:
    """Tell which of query, key and value a slice of the packed weight projects."""
    if weight is packed:
        return slice(0, 3)
    if weight._base is not packed or weight.shape[1:] != packed.shape[1:]:
        return None
    width = packed.shape[0] // 3
    first = (weight.storage_offset() - packed.storage_offset()) // packed.stride(0)
    return slice(first // width, (first + weight.shape[0]) // width)


def _attention_body() -> Callable[..., Any]:
    """Copy torch's own attention function, so that it does not hand itself to the mode again."""
    function: Any = F.multi_head_attention_forward
    body = FunctionType(
        function.__code__,
        {**vars(F), "has_torch_function": lambda _tensors: False},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


_ATTENTION_BODY = _attention_body()  # made once: a compiler cannot trace the making of a function


def in_transform() -> bool:
    """Tell whether a ``torch.func`` transform is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_batched(grad: Tensor) -> bool:
    """Tell whether a gradient is one of many at once, as of ``is_grads_batched``.

    Such a pass leaves no ``.grad``, and so no rows.
    """
    functorch = torch._C._functorch
    return functorch.is_legacy_batchedtensor(grad) or functorch.is_batchedtensor(grad)


def refuse_capture(tensor: Tensor) -> None:
    """Refuse to be captured in a CUDA graph.

    Args:
        tensor: What is worked on; on any other device there is nothing to ask.

    Raises:
        RuntimeError: The current stream is capturing.
    """
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "AdaFisher cannot be captured in a CUDA graph: a replay runs no hooks and no Python, "
            "so rows, step counts and refreshes would stand still."
        )
