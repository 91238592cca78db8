"""Whether the gradients that pooled rows belong to are still there.

Whoever drops a gradient drops the rows that gave it: the optimizer's ``zero_grad`` says so, and
that of the model, a guard against spikes or a second optimizer is found out before the next rows
are pooled. ``.grad`` of None needs no more. A gradient that was zeroed in place is told from one
that was clipped, unscaled or averaged in place by its content, which is looked at only where the
gradient was touched since the last backward pass, and there at the first entries first.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from adafisher.layers.layer import Layer


def grad_version(grad: Tensor) -> tuple[int, int]:
    """Give what changes when a gradient is replaced or changed in place."""
    return id(grad), grad._version


@torch.no_grad()
def cleared(layers: Iterable[Layer]) -> list[Layer]:
    """Find layers with rows whose gradients are gone.

    Args:
        layers: Any layers. Of sharded ones a gradient zeroed in place is not found out, as a
            rank's part of it may be zero when the whole is not.
    """
    gone: list[Layer] = []
    touched: list[tuple[Layer, list[Tensor]]] = []
    for layer in layers:
        if not layer.pool.rows or _is_as_left(layer):
            continue
        held = [param.grad for _, param in layer.roles() if param.grad is not None]
        if not held:
            if layer.pool.accumulated:
                gone.append(layer)
        elif not layer.is_sharded:
            touched.append((layer, held))
    starts = [min(grads, key=Tensor.numel) for _, grads in touched]
    for (layer, grads), starts_empty in zip(touched, _start_empty(starts), strict=True):
        if starts_empty and not any(bool(grad.any()) for grad in grads):
            # With an all-zero factor it may be a gradient that has always been zero.
            pool = layer.pool.settled()
            if all(x is not None and bool(x.any()) for x in (pool.activation_sum, pool.grad_sum)):
                gone.append(layer)
    return gone


def _is_as_left(layer: Layer) -> bool:
    """Tell whether a gradient is as the last backward pass left it, or none is known to have."""
    versions = layer.pool.versions
    for _, param in layer.roles():
        grad = param.grad
        if grad is not None and versions.get(param) in (None, grad_version(grad)):
            return True
    return False


def _start_empty(grads: list[Tensor]) -> list[bool]:
    """Tell whether the first slice of each is zero; each device and dtype is waited for once."""
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, grad in enumerate(grads):
        kinds.setdefault((grad.device, grad.dtype), []).append(i)
    found = [False] * len(grads)
    for members in kinds.values():
        slices = [grads[i][:1] if grads[i].dim() else grads[i] for i in members]
        norms = torch.stack(torch._foreach_norm(slices, float("inf")))
        for i, norm in zip(members, norms.tolist(), strict=True):
            found[i] = norm == 0.0
    return found
