"""SyncBatchNorm's forward for the CPU, of which torch has none."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return _AllSum.forward(None, grads[0])


def sync_forward(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    """What SyncBatchNorm computes in training, of which torch has no CPU version."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    count = _AllSum.apply(x.new_tensor(x.numel() // x.shape[1]))
    x = x - (_AllSum.apply(x.sum(axes)) / count).reshape(shape)
    var = (_AllSum.apply(x.square().sum(axes)) / count).reshape(shape)
    return x / (var + norm.eps).sqrt() * norm.weight.reshape(shape) + norm.bias.reshape(shape)
