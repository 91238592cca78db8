"""Rules of the layers that multiply by a matrix: linear, convolution, embedding, attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from adafisher import factors
from adafisher.fisher import CurvatureTerm
from adafisher.layers.rule import Factors, LayerRule
from adafisher.squares import factor_dtype


def affine_term(
    module: Any, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    """Shape the term of a linear or conv layer; ``[groups, out / groups, ...]`` if grouped."""
    weight: Any = module.weight
    groups = activation_diag.shape[0]
    if role == "bias":
        right = activation_diag[:, -1:]
    else:
        width = weight.shape[1:].numel()  # of the shape: indexing a sharded weight gathers it
        right = activation_diag[:, :width].reshape(groups, 1, *weight.shape[1:])
    left = grad_diag.reshape(groups, -1, *[1] * (right.dim() - 2))
    return (left[0], right[0]) if groups == 1 else (left, right)


def transposed_term(
    module: Any, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    """Shape it as ``affine_term``, for a weight of shape ``[in, out / groups, *kernel_size]``."""
    if role == "bias":
        return affine_term(module, role, activation_diag, grad_diag)
    weight: Any = module.weight
    groups, kernel = activation_diag.shape[0], weight.shape[2:]
    width = weight.shape[0] // groups * kernel.numel()
    left = activation_diag[:, :width].reshape(groups, -1, 1, *kernel)
    right = grad_diag.reshape(groups, 1, -1, *[1] * len(kernel))
    return (left[0], right[0]) if groups == 1 else (left, right)


def _linear_rows(module: Any, output: Tensor) -> int:
    return output.numel() // max(1, output.shape[-1])


def _batched(module: Any, x: Tensor) -> Tensor:
    return x if x.dim() == len(module.kernel_size) + 2 else x.unsqueeze(0)


def _channel_rows(module: Any, output: Tensor) -> int:
    output = _batched(module, output)
    return output.numel() // max(1, output.shape[1])


def _conv_padding(module: Any) -> list[tuple[int, int]]:
    """Give padding before and after each axis. ``same`` puts the odd one after, as torch does."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(side), int(side)) for side in module.padding]


def _conv_activation_sum(module: Any, x: Tensor, output: Tensor) -> Tensor:
    return factors.conv_activation_sum(
        _batched(module, x),
        output.shape[-len(module.kernel_size) :],
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=_conv_padding(module),
        dilation=module.dilation,
        groups=module.groups,
        padding_mode=module.padding_mode,
        bias=module.bias is not None,
    )


def _conv_transpose_activation_sum(module: Any, x: Tensor, output: Tensor) -> Tensor:
    return factors.conv_transpose_activation_sum(
        _batched(module, x),
        output.shape[-len(module.kernel_size) :],
        kernel_size=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        bias=module.bias is not None,
    )


def _attention_activation_sum(call: Any, x: Tensor, _output: Tensor) -> Tensor:
    """Sum ``[3, d_in + 1]`` of query, key and value; zero where the call is not of that part."""
    sums = factors.linear_activation_sum(x, bias=True)
    padded = sums.new_zeros(3, sums.shape[1])
    padded[call.parts] = sums
    return padded


def _attention_grad_sum(call: Any, grad: Tensor) -> Tensor:
    sums = factors.trailing_square_sum(grad, 1).reshape(call.parts.stop - call.parts.start, -1)
    padded = sums.new_zeros(3, sums.shape[1])
    padded[call.parts] = sums
    return padded.flatten()


def _attention_estimate(activation_sum: Tensor, grad_sum: Tensor, _rows: int) -> Factors:
    """Average each part over its own rows, which the constant 1 of its input has counted."""
    rows = activation_sum[:, -1:]
    return activation_sum / rows, (grad_sum.reshape(3, -1) / rows).flatten()


def _attention_term(
    module: nn.MultiheadAttention, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    parts = activation_diag[:, :-1] if role == "weight" else activation_diag[:, -1:]
    left = grad_diag.reshape(3, -1)
    return (left.unsqueeze(-1), parts.unsqueeze(1)) if role == "weight" else (left, parts)


def _token_counts(module: Any, tokens: Tensor, output: Tensor) -> Tensor:
    dtype = factor_dtype(output.dtype)
    return factors.token_counts(tokens, module.num_embeddings, module.padding_idx, dtype)


def _bag_counts(call: Any, tokens: Tensor, output: Tensor) -> Tensor:
    return factors.bag_square_counts(
        tokens,
        call.offsets,
        num_embeddings=call.num_embeddings,
        padding_idx=call.padding_idx,
        token_weights=call.per_sample_weights,
        mean=call.mode == "mean",
        include_last_offset=call.include_last_offset,
        dtype=factor_dtype(output.dtype),
    )


LINEAR = LayerRule(
    name="Linear",
    activation_sum=lambda m, x, y: factors.linear_activation_sum(x, bias=m.bias is not None),
    grad_sum=lambda m, g: factors.trailing_square_sum(g, 1),
    rows=_linear_rows,
    term=affine_term,
    last_axis=True,
)


def _conv(name: str) -> LayerRule:
    return LayerRule(
        name=name,
        activation_sum=_conv_activation_sum,
        grad_sum=lambda m, g: factors.channel_square_sum(_batched(m, g)),
        rows=_channel_rows,
        term=affine_term,
        patch_size=lambda layer: layer.weight.shape[1:].numel(),
    )


def _transposed_patch_size(layer: Any) -> int:
    shape = layer.weight.shape  # [in, out / groups, *kernel]
    return int(shape[0] // layer.groups * shape[2:].numel())


def _conv_transpose(name: str) -> LayerRule:
    return LayerRule(
        name=name,
        activation_sum=_conv_transpose_activation_sum,
        grad_sum=lambda m, g: factors.channel_square_sum(_batched(m, g)),
        rows=_channel_rows,
        term=transposed_term,
        patch_size=_transposed_patch_size,
    )


EMBEDDING = LayerRule(
    name="Embedding",
    activation_sum=_token_counts,
    grad_sum=lambda m, g: factors.trailing_square_sum(g, 1),
    rows=_linear_rows,
    term=transposed_term,
)
EMBEDDING_BAG = replace(EMBEDDING, name="EmbeddingBag", activation_sum=_bag_counts)
ATTENTION = LayerRule(
    name="MultiheadAttention",
    activation_sum=_attention_activation_sum,
    grad_sum=_attention_grad_sum,
    rows=_linear_rows,
    term=_attention_term,
    estimate=_attention_estimate,
    weight="in_proj_weight",
    bias="in_proj_bias",
)
AFFINE_RULES: list[tuple[Any, LayerRule]] = [
    (nn.Linear, LINEAR),
    *((kind, _conv(kind.__name__)) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    *(
        (kind, _conv_transpose(kind.__name__))
        for kind in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    ),
    (nn.MultiheadAttention, ATTENTION),
]
