"""What the Kronecker factors of Linear and Conv2d layers are made of.

Rows are samples times positions. Layer inputs are ``[groups, rows, d_in]`` with the unfolded patch
as ``d_in``, output gradients ``[groups, rows, d_out]``. ``groups`` is 1 but for grouped
convolutions, where ``d_in`` and ``d_out`` are those of one group.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

# Bounds the memory of unfolded patches: 64 MiB in float32.
PATCH_ELEMENTS = 2**24


def input_rows(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Iterator[Tensor]:
    """Yield the rows that a layer multiplies its weight with, in chunks of samples.

    Args:
        layer: The layer.
        inputs: Its input, ``[*, d_in]`` or ``[(batch,) channels, height, width]``.

    Yields:
        Rows, ``[groups, rows, d_in]``.
    """
    if isinstance(layer, nn.Linear):
        yield inputs.reshape(1, -1, inputs.shape[-1])
        return
    images = inputs if inputs.ndim == 4 else inputs.unsqueeze(0)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    images = F.pad(images, _padding(layer), mode=mode)
    patch_size = layer.weight[0].numel()
    positions = images.shape[-1] * images.shape[-2] // (layer.stride[0] * layer.stride[1])
    chunk = max(1, PATCH_ELEMENTS // max(1, layer.groups * patch_size * positions))
    for part in images.split(chunk):
        patches = F.unfold(part, layer.kernel_size, layer.dilation, 0, layer.stride)
        grouped = patches.unflatten(1, (layer.groups, patch_size))
        yield grouped.permute(1, 0, 3, 2).reshape(layer.groups, -1, patch_size)


def output_rows(layer: nn.Linear | nn.Conv2d, grad: Tensor) -> Tensor:
    """Gradient at the output of a layer as rows.

    Args:
        layer: The layer.
        grad: Gradient, ``[*, d_out]`` or ``[(batch,) channels, height, width]``.

    Returns:
        Rows, ``[groups, rows, d_out]``.
    """
    if isinstance(layer, nn.Linear):
        return grad.reshape(1, -1, grad.shape[-1])
    maps = grad if grad.ndim == 4 else grad.unsqueeze(0)
    grouped = maps.flatten(2).unflatten(1, (layer.groups, -1))
    return grouped.permute(1, 0, 3, 2).reshape(layer.groups, -1, grouped.shape[2])


def _padding(layer: nn.Conv2d) -> list[int]:
    """Left, right, top, bottom padding; ``"same"`` puts the odd one right and at the bottom."""
    sides: list[int] = []
    for axis in (1, 0):
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        elif layer.padding == "valid":
            sides += [0, 0]
        else:
            sides += [int(layer.padding[axis])] * 2
    return sides
