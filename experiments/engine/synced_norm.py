"""BatchNorm over the rows of all processes, on any device; torch's own knows CUDA only.

With it several processes compute what one does. Inputs are ``[B, C, ...]``.

It is a hook that replaces the layer's output, and not another forward pass: a curvature optimizer
reads a layer by its type, and takes one whose forward is changed for another kind.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Make the batch statistics of a model those of all processes; before the optimizer is built.

    Args:
        model: Changed in place.
        device: Where it is.

    Returns:
        The model.
    """
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.register_forward_pre_hook(_enter)
            module.register_forward_hook(_leave)
    return model


def _enter(norm: nn.Module, _args: Any) -> None:
    """Let the layer's own pass, whose output is dropped, leave its running statistics alone."""
    norm._is_synchronising = norm.training  # type: ignore[assignment]
    norm.training = False


def _leave(norm: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
    if not norm._is_synchronising:
        return output
    norm.training = True
    return _normalise(norm, args[0])


# What a curvature optimizer is to take for the layer's own output, and not the one that is dropped.
_leave.computes_output = True  # type: ignore[attr-defined]


class _Sum(torch.autograd.Function):
    """Sum over the processes; the gradient of a sum of their losses is summed as well."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        return grad


@torch.compiler.disable  # collectives and running statistics are no part of a graph
def _normalise(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise as the layer does in training, on the rows of all processes together."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    rows = wide.new_full((1,), x.numel() // x.shape[1])
    sums: Tensor = _Sum.apply(torch.cat([rows, wide.sum(axes)]))
    count = sums[0].detach()
    mean = sums[1:] / count
    centred = wide - mean.reshape(shape)
    total: Tensor = _Sum.apply(centred.square().sum(axes))
    var = total / count
    _track(norm, mean.detach(), total.detach() / (count - 1))
    out = centred * (var + norm.eps).rsqrt().reshape(shape)
    if norm.weight is not None:
        out = out * norm.weight.reshape(shape)
    if norm.bias is not None:
        out = out + norm.bias.reshape(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, unbiased_var: Tensor) -> None:
    """Move the running statistics, as torch does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    weight = norm.momentum
    if weight is None:
        weight = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(unbiased_var.to(norm.running_var.dtype), weight)
