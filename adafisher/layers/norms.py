"""Rules of the norm layers.

``per_channel`` is Proposition 3.1 of arXiv 2405.16397v3 with the input taken raw, as printed;
``two_vector`` is the released code's form, here for every norm layer: by channel (axis 1) for
batch, group and instance norm, and for layer and RMS norm by axis 1 of the input, which that code
does not tell from the features.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adafisher import factors
from adafisher.fisher import CurvatureTerm, one
from adafisher.layers.rule import LayerRule
from adafisher.squares import factor_dtype


def scale_term(
    _module: Any, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    """Give ``H' S'`` for the scale, ``S'`` for the shift, whose input is the constant 1."""
    if role == "weight":
        return grad_diag, activation_diag
    return grad_diag, one(activation_diag.dtype, activation_diag.device).expand_as(activation_diag)


def _two_vector_term(
    _module: Any, role: str, activation_diag: Tensor, grad_diag: Tensor
) -> CurvatureTerm:
    return grad_diag, activation_diag[0 if role == "weight" else 1].expand_as(grad_diag)


def _layer_norm_axes(module: Any) -> int:
    shape = getattr(module, "normalized_shape", None)  # layers known by name may have none
    return len(shape) if isinstance(shape, tuple | list) else module.weight.dim()


def _with_rows(module: Any, x: Tensor) -> Tensor:
    return x if x.dim() > _layer_norm_axes(module) else x.unsqueeze(0)


def _leading_sum(x: Tensor, trailing: int) -> Tensor:
    return x.to(factor_dtype(x.dtype)).sum(list(range(x.dim() - trailing)))


def _batched(module: Any, x: Tensor) -> Tensor:
    """Add the batch axis that instance norm can do without."""
    bare = (
        module._get_no_batch_dim()
        if isinstance(module, nn.modules.instancenorm._InstanceNorm)
        else -1
    )
    return x.unsqueeze(0) if x.dim() == bare else x


@cache  # one rule for all kinds of one name
def _channel_rule(name: str) -> LayerRule:
    return LayerRule(
        name=name,
        activation_sum=lambda m, x, y: factors.channel_square_sum(_batched(m, x)),
        grad_sum=lambda m, g: factors.channel_square_sum(_batched(m, g)),
        rows=lambda m, y: y.numel() // max(1, _batched(m, y).shape[1]),
        term=scale_term,
    )


@cache
def _trailing_rule(name: str) -> LayerRule:
    return LayerRule(
        name=name,
        activation_sum=lambda m, x, y: factors.trailing_square_sum(x, _layer_norm_axes(m)),
        grad_sum=lambda m, g: factors.trailing_square_sum(g, _layer_norm_axes(m)),
        rows=lambda m, y: y.shape[: y.dim() - _layer_norm_axes(m)].numel(),
        term=scale_term,
    )


@cache
def _channel_rule_two_vector(name: str) -> LayerRule:
    return LayerRule(
        name=f"{name} (two_vector)",
        activation_sum=lambda m, x, y: factors.two_vector_activation_sum(_batched(m, x)),
        grad_sum=lambda m, g: _leading_sum(_batched(m, g).movedim(1, -1), 1),
        rows=lambda m, y: _batched(m, y).shape[0],
        term=_two_vector_term,
        estimate=factors.two_vector_factors,
    )


@cache
def _trailing_rule_two_vector(name: str) -> LayerRule:
    return LayerRule(
        name=f"{name} (two_vector)",
        activation_sum=lambda m, x, y: factors.two_vector_activation_sum(_with_rows(m, x)),
        grad_sum=lambda m, g: _leading_sum(_with_rows(m, g), _layer_norm_axes(m)),
        rows=lambda m, y: _with_rows(m, y).shape[0],
        term=_two_vector_term,
        estimate=factors.two_vector_factors,
        ragged=True,  # one entry a token
    )


CHANNEL_RULES = {"per_channel": _channel_rule, "two_vector": _channel_rule_two_vector}
TRAILING_RULES = {"per_channel": _trailing_rule, "two_vector": _trailing_rule_two_vector}
_CHANNELS: list[tuple[Any, str]] = [
    (nn.SyncBatchNorm, "BatchNorm"),  # has a forward of its own: first, or it counts as a subclass
    (_BatchNorm, "BatchNorm"),  # 1d to 3d
    (nn.GroupNorm, "GroupNorm"),
    (nn.modules.instancenorm._InstanceNorm, "InstanceNorm"),
]
_TRAILING: list[tuple[Any, str]] = [(nn.LayerNorm, "LayerNorm"), (nn.RMSNorm, "RMSNorm")]
NORM_RULES: dict[str, list[tuple[Any, LayerRule]]] = {
    form: [
        *((kind, CHANNEL_RULES[form](name)) for kind, name in _CHANNELS),
        *((kind, TRAILING_RULES[form](name)) for kind, name in _TRAILING),
    ]
    for form in CHANNEL_RULES
}
