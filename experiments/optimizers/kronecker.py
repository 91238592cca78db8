"""Kronecker factors of Linear and Conv2d layers.

Rows are samples times positions. Layer inputs are ``[groups, rows, d_in]`` with the unfolded patch
as ``d_in``, output gradients ``[groups, rows, d_out]``, factors ``[groups, d, d]``. ``groups`` is 1
but for grouped convolutions, where ``d_in`` and ``d_out`` are those of one group.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bounds the memory of unfolded patches: 64 MiB in float32.
PATCH_ELEMENTS = 2**24
# Smallest damping of one factor, as in ASDL: a split may leave one of the two with nothing.
MIN_DAMPING = 1e-7


def input_rows(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Iterator[Tensor]:
    """Yields the rows that a layer multiplies its weight with, in chunks of samples.

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


@torch.no_grad()
def factor_sums(
    layer: nn.Linear | nn.Conv2d, inputs: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, int]:
    r"""Sums :math:`\sum a a^T` and :math:`\sum g g^T` over the rows of one call of a layer.

    Args:
        layer: The layer.
        inputs: Its input.
        grad: Gradient at its output.

    Returns:
        The sum of the inputs, ``[groups, d_in, d_in]``, that of the gradients,
        ``[groups, d_out, d_out]``, both in float32 at least, and the number of rows.
    """
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    outputs = output_rows(layer, grad.to(dtype))
    input_sum = outputs.new_zeros(())
    for part in input_rows(layer, inputs.to(dtype)):
        input_sum = input_sum + part.mT @ part
    return input_sum, outputs.mT @ outputs, outputs.shape[1]


def damped_inverses(
    input_factor: Tensor, output_factor: Tensor, damping: float
) -> tuple[Tensor, Tensor] | None:
    r"""Inverts both factors with the damping split between them.

    .. math::
        \pi = \sqrt{\frac{\mathrm{tr}(A) / d_{in}}{\mathrm{tr}(B) / d_{out}}}, \quad
        (A + \pi \sqrt\lambda I)^{-1}, \quad (B + \sqrt\lambda / \pi \, I)^{-1}

    Where one of the traces is zero, both factors get :math:`\lambda` itself.

    Args:
        input_factor: Factor of the input; A, ``[groups, d_in, d_in]``.
        output_factor: Factor of the output gradient; B, ``[groups, d_out, d_out]``.
        damping: Damping of the product; lambda.

    Returns:
        Inverses of A and B, or ``None`` if one of them could not be inverted.

    Reference:
        Martens and Grosse, 2015, arXiv 1503.05671, section 6.3.
    """
    ratio = (_mean_eigenvalue(input_factor) / _mean_eigenvalue(output_factor)).sqrt()
    split = (ratio > 0) & ratio.isfinite()
    root = damping**0.5
    whole = torch.full_like(ratio, damping)
    input_damping = torch.where(split, (root * ratio).clamp(min=MIN_DAMPING), whole)
    output_damping = torch.where(split, (root / ratio).clamp(min=MIN_DAMPING), whole)
    input_inverse = damped_inverse(input_factor, input_damping)
    output_inverse = damped_inverse(output_factor, output_damping)
    if input_inverse is None or output_inverse is None:
        return None
    return input_inverse, output_inverse


def damped_inverse(factor: Tensor, damping: Tensor) -> Tensor | None:
    """Inverse by Cholesky, with retries in float64 and then with more damping.

    Args:
        factor: Symmetric positive semi-definite matrices, ``[groups, d, d]``.
        damping: What is added to each diagonal, ``[groups]``.

    Returns:
        The inverses, ``[groups, d, d]``, or ``None`` if every try failed.
    """
    # A factor summed in float32 has eigenvalues down to about -1e-7 of the largest, which the
    # damping may not lift above zero in any precision: hence the tries with more of it.
    for dtype, scale in ((factor.dtype, 1), *((torch.float64, scale) for scale in (1, 10, 100))):
        damped = factor.to(dtype, copy=True)
        damped.diagonal(dim1=-2, dim2=-1).add_((scale * damping.to(dtype)).unsqueeze(-1))
        lower, info = torch.linalg.cholesky_ex(damped)
        if not bool((info == 0).all()):
            continue
        inverse = torch.cholesky_inverse(lower).to(factor.dtype)
        if bool(inverse.isfinite().all()):
            return inverse
    return None


def precondition(grad: Tensor, input_inverse: Tensor, output_inverse: Tensor) -> Tensor:
    r"""Multiplies a weight gradient by both inverses: :math:`B^{-1} G A^{-1}`, group by group.

    Args:
        grad: Gradient of the weight; G, ``[groups * d_out, ...]`` with ``d_in`` elements in a row.
        input_inverse: Inverse of A, ``[groups, d_in, d_in]``.
        output_inverse: Inverse of B, ``[groups, d_out, d_out]``.

    Returns:
        The preconditioned gradient in the shape of ``grad``.
    """
    matrix = grad.reshape(len(output_inverse), output_inverse.shape[-1], -1)
    return (output_inverse @ matrix.to(output_inverse.dtype) @ input_inverse).reshape(grad.shape)


def precondition_bias(grad: Tensor, output_inverse: Tensor) -> Tensor:
    r"""Multiplies a bias gradient by the output factor alone: :math:`B^{-1} g`, group by group.

    Args:
        grad: Gradient of the bias; g, ``[groups * d_out]``.
        output_inverse: Inverse of B, ``[groups, d_out, d_out]``.

    Returns:
        The preconditioned gradient, ``[groups * d_out]``.
    """
    column = grad.reshape(len(output_inverse), -1, 1).to(output_inverse.dtype)
    return (output_inverse @ column).reshape(grad.shape)


def sampled_gradient(logits: Tensor, generator: torch.Generator) -> Tensor:
    r"""Gradient of the summed cross-entropy with one label a row drawn from the model.

    .. math::
        \mathrm{softmax}(z) - e_y, \quad y \sim \mathrm{softmax}(z)

    Args:
        logits: Model output; z, ``[..., classes]``.
        generator: Source of the labels, on the CPU.

    Returns:
        The gradient at the logits, ``[..., classes]``.
    """
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    # Inverse transform sampling from a CPU generator: the same labels on every device.
    uniform = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64)
    threshold = uniform.to(cumulative).unsqueeze(-1) * cumulative[..., -1:]
    labels = torch.searchsorted(cumulative, threshold, right=True)
    labels.clamp_(max=logits.shape[-1] - 1)
    minus_one = torch.full_like(probabilities[..., :1], -1)
    return probabilities.scatter_add_(-1, labels, minus_one).to(logits.dtype)


def _mean_eigenvalue(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).mean(-1)


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
