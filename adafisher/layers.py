"""Which layers have curvature, and how their factors become the curvature of a parameter.

A ``LayerRule`` ties a module type to the pure functions of ``factors``. The first rule whose type
the module is an instance of counts, so a subclass counts as its base.

Format: ``activation_diag`` is ``[groups, d_in (+ 1)]`` (one group but for grouped convolutions),
``grad_diag`` is ``[d_out]``; norm layers have both of the shape of their weight, or, in the
released code's form, ``activation_diag`` of shape ``[2]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adafisher import factors
from adafisher.fisher import CurvatureTerm

Factors = tuple[Tensor, Tensor]


def _means(activation_sum: Tensor, grad_sum: Tensor, rows: int) -> Factors:
    return activation_sum / rows, grad_sum / rows


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer gets its curvature.

    Attributes:
        name: Name in messages and in ``state_dict``.
        activation_sum: ``(module, input, output) -> Tensor``, the pooled statistic of the input.
        grad_sum: ``(module, output_grad) -> Tensor``, the pooled statistic of the gradient.
        rows: ``(module, output) -> int``, the rows that the two sums run over.
        term: ``(module, role, activation_diag, grad_diag) -> (left, right)``, whose product is the
            curvature of ``role`` (``weight`` or ``bias``), without damping.
        estimate: ``(activation_sum, grad_sum, rows) -> (activation_diag, grad_diag)``.
        ragged: Whether the length of ``activation_sum`` varies from call to call.
    """

    name: str
    activation_sum: Callable[[Any, Tensor, Tensor], Tensor]
    grad_sum: Callable[[Any, Tensor], Tensor]
    rows: Callable[[Any, Tensor], int]
    term: Callable[[Any, str, Tensor, Tensor], CurvatureTerm]
    estimate: Callable[[Tensor, Tensor, int], Factors] = _means
    ragged: bool = False


def _affine_term(
    module: nn.Module, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    """Terms of a linear or convolution layer: ``[groups, out / groups, ...]`` if grouped."""
    weight: Any = module.weight
    groups = activation_diag.shape[0]
    if role == "bias":
        right = activation_diag[:, -1:]
    else:
        width = weight.shape[1:].numel()  # of the shape: indexing a sharded weight gathers it
        right = activation_diag[:, :width].reshape(groups, 1, *weight.shape[1:])
    left = grad_diag.reshape(groups, -1, *[1] * (right.dim() - 2))
    return (left[0], right[0]) if groups == 1 else (left, right)


def _linear_rows(module: nn.Linear, output: Tensor) -> int:
    return output.numel() // max(1, module.out_features)


def _batched(module: nn.Conv2d, x: Tensor) -> Tensor:
    return x if x.dim() == len(module.kernel_size) + 2 else x.unsqueeze(0)


def _conv_padding(module: nn.Conv2d) -> list[tuple[int, int]]:
    """Padding before and after each axis. ``same`` puts the odd one after, as torch does."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(side), int(side)) for side in module.padding]


def _conv_activation_sum(module: nn.Conv2d, x: Tensor, output: Tensor) -> Tensor:
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


def _per_channel_term(
    _module: nn.Module, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    """``H' S'`` for the scale, ``S'`` for the shift, whose input is the constant 1."""
    one = activation_diag.new_ones(()).expand_as(activation_diag)
    return grad_diag, activation_diag if role == "weight" else one


def _two_vector_term(
    _module: nn.Module, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    return grad_diag, activation_diag[0 if role == "weight" else 1].expand_as(grad_diag)


def _layer_norm_axes(module: nn.LayerNorm) -> int:
    return len(module.normalized_shape)


def _with_rows(module: nn.LayerNorm, x: Tensor) -> Tensor:
    return x if x.dim() > _layer_norm_axes(module) else x.unsqueeze(0)


def _leading_sum(x: Tensor, trailing: int) -> Tensor:
    return x.to(factors.factor_dtype(x.dtype)).sum(list(range(x.dim() - trailing)))


_LINEAR = LayerRule(
    name="Linear",
    activation_sum=lambda m, x, y: factors.linear_activation_sum(x, bias=m.bias is not None),
    grad_sum=lambda m, g: factors.trailing_square_sum(g, 1),
    rows=_linear_rows,
    term=_affine_term,
)
_CONV2D = LayerRule(
    name="Conv2d",
    activation_sum=_conv_activation_sum,
    grad_sum=lambda m, g: factors.channel_square_sum(_batched(m, g)),
    rows=lambda m, y: y.numel() // m.out_channels,
    term=_affine_term,
)
_BATCH_NORM = LayerRule(
    name="BatchNorm",
    activation_sum=lambda m, x, y: factors.channel_square_sum(x),
    grad_sum=lambda m, g: factors.channel_square_sum(g),
    rows=lambda m, y: y.numel() // m.num_features,
    term=_per_channel_term,
)
_LAYER_NORM = LayerRule(
    name="LayerNorm",
    activation_sum=lambda m, x, y: factors.trailing_square_sum(x, _layer_norm_axes(m)),
    grad_sum=lambda m, g: factors.trailing_square_sum(g, _layer_norm_axes(m)),
    rows=lambda m, y: y.shape[: y.dim() - _layer_norm_axes(m)].numel(),
    term=_per_channel_term,
)
_BATCH_NORM_TWO_VECTOR = LayerRule(
    name="BatchNorm (two_vector)",
    activation_sum=lambda m, x, y: factors.two_vector_activation_sum(x),
    grad_sum=lambda m, g: _leading_sum(g.movedim(1, -1), 1),
    rows=lambda m, y: y.shape[0],
    term=_two_vector_term,
    estimate=factors.two_vector_factors,
)
_LAYER_NORM_TWO_VECTOR = LayerRule(
    name="LayerNorm (two_vector)",
    activation_sum=lambda m, x, y: factors.two_vector_activation_sum(_with_rows(m, x)),
    grad_sum=lambda m, g: _leading_sum(_with_rows(m, g), _layer_norm_axes(m)),
    rows=lambda m, y: _with_rows(m, y).shape[0],
    term=_two_vector_term,
    estimate=factors.two_vector_factors,
    ragged=True,  # one entry a token
)

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_AFFINE_RULES: list[tuple[Any, LayerRule]] = [(nn.Linear, _LINEAR), (nn.Conv2d, _CONV2D)]
_NORM_RULES: dict[str, list[tuple[Any, LayerRule]]] = {
    "per_channel": [(_BATCH_NORMS, _BATCH_NORM), (nn.LayerNorm, _LAYER_NORM)],
    "two_vector": [
        (_BATCH_NORMS, _BATCH_NORM_TWO_VECTOR),
        (nn.LayerNorm, _LAYER_NORM_TWO_VECTOR),
    ],
}
NORM_LAYERS = tuple(_NORM_RULES)
SUPPORTED = "Linear, Conv2d, BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm, LayerNorm"


def find_rule(module: nn.Module, norm_layers: str) -> LayerRule | None:
    """The rule of a module, or None where it has no curvature.

    Args:
        module: Any module.
        norm_layers: ``per_channel`` (paper v3, Proposition 3.1) or ``two_vector`` (released code).
    """
    for types, rule in _AFFINE_RULES + _NORM_RULES[norm_layers]:
        if isinstance(module, types):
            return rule
    return None
