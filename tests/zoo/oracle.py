"""The curvature of a model, from the functional calls in a copy of it that no optimizer knows.

Written from the equations, in float64, and from none of the product's code: a mode sees each
functional call of the forward pass with its tensors; parameters are known by identity; a tensor
hook on what the call returned takes the output gradient of every row. The patches of a convolution
are never formed here: the sum of their squares is the gradient, by the kernel, of the sum of the
convolution of the squared input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

GAMMAS, DAMPING = (0.92, 0.008), 1e-3
_LINEAR = F.linear  # which is another function while attention is looked into
_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_NAMES: dict[Any, tuple[str, ...]] = {
    _LINEAR: ("input", "weight", "bias"),
    **dict.fromkeys(
        _CONVOLUTIONS, ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias"),
    F.group_norm: ("input", "num_groups", "weight", "bias"),
    F.layer_norm: ("input", "normalized_shape", "weight", "bias"),
    F.rms_norm: ("input", "normalized_shape", "weight"),
    torch.addmm: ("bias", "input", "weight"),
}


@dataclass
class Sums:
    """Sums over the rows of a layer in one step, and its running averages.

    Attributes:
        inputs: Sum of squared inputs, ``[groups, *d_in]``.
        grads: Sum of squared output gradients, ``[d_out]``.
        rows: Rows.
        form: ``matrix``, ``transposed`` (of inputs by outputs) or ``scale``.
        averages: ``H`` with the constant 1 behind it, ``[groups, d_in (+ 1)]``, and ``S``.
    """

    form: str = "matrix"
    inputs: Tensor | None = None
    grads: Tensor | None = None
    rows: int = 0
    averages: tuple[Tensor, Tensor] | None = None


@dataclass
class Owner:
    """The module that has a weight, and its parameters in the two roles."""

    module: nn.Module
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    sums: Sums = field(default_factory=Sums)


class Oracle(TorchFunctionMode):
    """Sees the functional calls of a model while it is entered; ``average`` ends a step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.owners: dict[nn.Parameter, Owner] = {}
        for module in model.modules():
            self._own(module)

    def _own(self, module: nn.Module) -> None:
        prefixes = {name[: -len("weight")] for name in module._parameters if "weight" in name}
        prefixes |= {"" for name in module._parameters if name == "bias"}
        for prefix in prefixes:
            weight = module._parameters.get(f"{prefix}weight")
            bias = module._parameters.get(f"{prefix}bias")
            owner = Owner(module, weight, bias)
            for param in (weight, bias):
                if param is not None:
                    self.owners.setdefault(param, owner)
        if _is_norm_of_its_own(module):
            module.register_forward_hook(self._norm)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with _patched_linear(self):  # a mode is off within what it calls
                return func(*args, **kwargs)
        return self.see(func, args, kwargs, func(*args, **kwargs))

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Look at a call; what it returned may be changed in place afterwards, its copy that is."""
        names = _NAMES.get(func)
        if names is None or not isinstance(output, Tensor) or not output.requires_grad:
            return output
        call = dict(zip(names, args, strict=False)) | kwargs
        owner = self._owner(call)
        if owner is None:
            return output
        x, weight = call["input"].detach(), call["weight"]
        with torch.no_grad():
            if func in (_LINEAR, torch.addmm):
                owner.sums.form = "transposed" if func is torch.addmm else "matrix"
                inputs = x.reshape(-1, x.shape[-1]).square().sum(0).unsqueeze(0)
                self._add(owner, inputs, output, -1)
            elif func in _CONVOLUTIONS:
                self._add(owner, _patches(func, x, call), output, -weight.dim() + 1)
            else:
                owner.sums.form = "scale"
                over_channels = func in (F.batch_norm, F.group_norm)
                self._scale(owner, x, output, 1 if over_channels else -1)
        return output.clone()

    def _owner(self, call: dict[str, Any]) -> Owner | None:
        weight, bias = call.get("weight"), call.get("bias")
        if weight is None:
            return None
        if weight in self.owners:
            return self.owners[weight]
        if weight.grad_fn is not None:  # standardised: made of a parameter of its shape
            for leaf in _leaves(weight):
                owner = self.owners.get(leaf)
                if owner is not None and owner.weight is leaf and leaf.shape == weight.shape:
                    return owner
        return None if bias is None else self.owners.get(bias)

    def _norm(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        owner = self.owners[module._parameters["weight"]]  # type: ignore[index]
        if output.requires_grad:
            owner.sums.form = "scale"
            with torch.no_grad():
                self._scale(owner, args[0].detach(), output, -1)

    def _scale(self, owner: Owner, x: Tensor, output: Tensor, axis: int) -> None:
        self._add(owner, x.movedim(axis, -1).flatten(0, -2).square().sum(0), output, axis)

    def _add(self, owner: Owner, inputs: Tensor, output: Tensor, axis: int) -> None:
        sums = owner.sums
        inputs = inputs.double()
        sums.inputs = inputs if sums.inputs is None else sums.inputs + inputs
        sums.rows += output.numel() // output.shape[axis]

        def on_grad(grad: Tensor) -> None:
            squares = grad.detach().double().movedim(axis, -1).flatten(0, -2).square().sum(0)
            sums.grads = squares if sums.grads is None else sums.grads + squares

        output.register_hook(on_grad)

    def average(self) -> None:
        """Take the step's rows into the running averages."""
        for owner in {id(owner): owner for owner in self.owners.values()}.values():
            sums = owner.sums
            if sums.inputs is None or sums.grads is None:
                continue
            h, s = sums.inputs.flatten(1) if sums.inputs.dim() > 1 else sums.inputs, sums.grads
            h, s = h / sums.rows, s / sums.rows
            if sums.form != "scale" and owner.bias is not None:
                h = F.pad(h, (0, 1), value=1.0)
            old = sums.averages or (torch.zeros_like(h), torch.zeros_like(s))
            new = [GAMMAS[0] * a + (1 - GAMMAS[1]) * b for a, b in zip(old, (h, s), strict=True)]
            sums.averages = new[0], new[1]
            sums.inputs = sums.grads = None
            sums.rows = 0

    def fisher_diag(self, param: nn.Parameter) -> Tensor | None:
        """``F`` of a parameter, shaped as it; None where no call had it."""
        owner = self.owners.get(param)
        if owner is None or owner.sums.averages is None:
            return None
        h, s = (_min_max(x) for x in owner.sums.averages)
        is_bias = param is owner.bias
        if owner.sums.form == "scale":
            return (s if is_bias else h * s) + DAMPING
        groups = h.shape[0]
        s = s.reshape(groups, -1)
        if is_bias:
            return (s * h[:, -1:]).flatten() + DAMPING
        if owner.bias is not None:
            h = h[:, :-1]
        outer = (s[:, :, None] * h[:, None, :]).flatten(0, 1) + DAMPING  # [d_out, d_in / groups]
        return (outer.T if owner.sums.form == "transposed" else outer).reshape(param.shape)


def _min_max(x: Tensor) -> Tensor:
    low, high = x.min(), x.max()
    if high - low <= 16 * torch.finfo(x.dtype).eps * high:
        return torch.ones_like(x)
    return (x - low) / (high - low)


def _patches(convolution: Callable[..., Tensor], x: Tensor, call: dict[str, Any]) -> Tensor:
    """Sum of squared patches, ``[groups, d_in / groups, *kernel]``."""
    groups = call.get("groups", 1)
    shape = call["weight"].shape
    kernel = torch.ones(groups, *shape[1:], dtype=x.dtype, requires_grad=True)
    others = {k: v for k, v in call.items() if k in ("stride", "padding", "dilation")}
    with torch.enable_grad():
        total = convolution(x.square(), kernel, groups=groups, **others).sum()
        (sums,) = torch.autograd.grad(total, kernel)
    return sums


def _leaves(tensor: Tensor) -> Iterator[Any]:
    nodes, seen = [tensor.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        nodes += [following for following, _ in node.next_functions]


def _is_norm_of_its_own(module: nn.Module) -> bool:
    """Whether it scales without one of torch's functions, over the last axis."""
    own = {name for name, param in module._parameters.items() if param is not None}
    return (
        "Norm" in type(module).__name__
        and type(module).__module__.partition(".")[0] in ("transformers", "torch_geometric")
        and not isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm)
        and "weight" in own
        and own <= {"weight", "bias"}
    )


@contextmanager
def _patched_linear(oracle: Oracle) -> Iterator[None]:
    def seen(*args: Any, **kwargs: Any) -> Any:
        return oracle.see(_LINEAR, args, kwargs, _LINEAR(*args, **kwargs))

    F.linear = seen
    try:
        yield
    finally:
        F.linear = _LINEAR
