"""Layers of other libraries, known by the name of their class and by what they hold.

No library is imported. The table says which class gives which form; a class that has the name but
not the structure is left alone, and so is a call whose shapes are not of the form: its parameters
take the identity, and are counted. ``register_layer`` goes before the table.

====================================  ==============================  ==============================
class                                 what it holds                   form
====================================  ==============================  ==============================
``Conv1D``                            ``[d_in, d_out]`` and a bias,   ``y = x W + b``
                                      ``nf`` = d_out
``Linear``, not torch's               ``[d_out, d_in]``, a bias or    ``y = W x + b``
                                      none, ``in_channels`` or
                                      ``in_features`` = d_in
``*RMSNorm``, ``*LayerNorm``          one axis of weights, a bias     ``y = w f(x) + b`` over the
                                      of that shape or none           last axis; also ``1 + w``
``*RMSNorm2d``, ``*LayerNorm2d``,     the same                        the same over axis 1
``VitDetLayerNorm``, any with
``data_format="channels_first"``
``[Scaled]StdConv2d[Same]``,          those of ``nn.Conv2d``, and     that of the convolution by the
``WeightStandardizedConv2d``          maybe a gain                    standardised weight
====================================  ==============================  ==============================

The curvature of a weight-standardised convolution is that of the weight which its input meets. The
Jacobian of the standardisation (a projection, and one factor an output channel, through which the
gradient of the raw weight has gone) is left out of it; the bias has its exact form.

Norms that are gated or adaptive multiply by more than their weight, so that the gradient at their
output is not the gradient at the scale: they are not in the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adafisher.layers.affine import AFFINE_RULES, LINEAR, transposed_term
from adafisher.layers.norms import CHANNEL_RULES, NORM_RULES, TRAILING_RULES
from adafisher.layers.rule import LayerRule


class FormMatch(NamedTuple):
    """What the table says of a module.

    Attributes:
        rule: Its rule.
        base: The class that the rule is of.
        is_call: Whether the form is that of a call of the module; otherwise its functional calls
            are watched.
    """

    rule: LayerRule
    base: type[nn.Module]
    is_call: bool


@dataclass(frozen=True)
class Form:
    """A line of the table.

    Attributes:
        names: Pattern of the whole name of the class.
        holds: Whether a module has the structure.
        rule: The rule, by the form of the norm layers.
    """

    names: str
    holds: Callable[[Any], bool]
    rule: Callable[[str], LayerRule]


def match_form(module: nn.Module, norm_layers: str) -> FormMatch | None:
    """Look a module up in the table; None where it is not there.

    Args:
        module: Any module.
        norm_layers: ``per_channel`` or ``two_vector``.
    """
    if isinstance(module, nn.Conv2d) and _named(_STANDARDISED_NAMES, module):
        return _STANDARDISED
    if isinstance(module, _BUILT_IN):
        return None
    for form in FORMS:
        base = _named(form.names, module)
        if base is not None and form.holds(module):
            return FormMatch(form.rule(norm_layers), base, is_call=True)
    return None


def _named(pattern: str, module: nn.Module) -> type[nn.Module] | None:
    """Find the class of that name whose forward pass the module has.

    Wrappers that make a subclass at run time (``fully_shard``) give it a name of their own.
    """
    kind = type(module)
    for base in kind.__mro__:
        if "forward" in vars(base) or base is kind:
            if (
                re.fullmatch(pattern, base.__name__)
                and base.__module__.partition(".")[0] != "torch"
            ):
                return base
            if "forward" in vars(base):
                return None
    return None


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module._parameters.items() if p is not None}


def _holds_matrix(module: Any) -> bool:
    """Tell whether it has a weight of two axes and a bias or none, nothing else."""
    own = _own(module)
    weight = own.get("weight")
    if weight is None or not own.keys() <= {"weight", "bias"}:
        return False
    return is_lazy(weight) or weight.dim() == 2


def _holds_transposed(module: Any) -> bool:
    own = _own(module)
    return (
        _holds_matrix(module)
        and not is_lazy(own["weight"])
        and own["weight"].shape[1] == getattr(module, "nf", None)
        and ("bias" not in own or own["bias"].shape == own["weight"].shape[1:])
    )


def _holds_linear(module: Any) -> bool:
    if not _holds_matrix(module):
        return False
    widths = [
        (getattr(module, f"out_{of}", None), getattr(module, f"in_{of}", None))
        for of in ("channels", "features")
    ]
    return is_lazy(module.weight) or tuple(module.weight.shape) in widths


def _holds_scale(module: Any) -> bool:
    """Tell whether it has a weight of one axis, a bias of its shape or none, nothing else."""
    own = _own(module)
    return (
        "weight" in own
        and own.keys() <= {"weight", "bias"}
        and not any(is_lazy(p) for p in own.values())
        and all(p.dim() == 1 and p.shape == own["weight"].shape for p in own.values())
        and not module._modules
    )


def _holds_channel_scale(module: Any) -> bool:
    return _holds_scale(module) and getattr(module, "data_format", None) == "channels_first"


def _fits(axis: int, *, is_scale: bool) -> Callable[[Any, Tensor, Tensor], bool]:
    """Tell whether the input and the output of a call have the width of the weight on an axis."""

    def fits(module: Any, x: Any, output: Tensor) -> bool:
        if not isinstance(x, Tensor) or x.dim() < 1 + (axis == 1):
            return False
        width = module.weight.numel()
        if is_scale:
            return x.size(axis) == width == output.size(axis) and x.dim() == output.dim()
        return {x.size(axis), output.size(axis)} <= set(module.weight.shape)

    return fits


def _trailing(norm_layers: str) -> LayerRule:
    return _TRAILING[norm_layers]


def _channel(norm_layers: str) -> LayerRule:
    return _CHANNEL[norm_layers]


_TRAILING = {
    name: replace(rule("Scale"), fits=_fits(-1, is_scale=True))
    for name, rule in TRAILING_RULES.items()
}
_CHANNEL = {
    name: replace(rule("ChannelScale"), fits=_fits(1, is_scale=True))
    for name, rule in CHANNEL_RULES.items()
}
_LINEAR = replace(LINEAR, fits=_fits(-1, is_scale=False))
_TRANSPOSED = replace(_LINEAR, name="Conv1D", term=transposed_term)
_PLAIN = r"(?!.*(Gated|Ada|Unweighted))"
FORMS = (
    Form(r"Conv1D", _holds_transposed, lambda _: _TRANSPOSED),
    Form(r"Linear", _holds_linear, lambda _: _LINEAR),
    Form(rf"{_PLAIN}\w*LayerNorm", _holds_channel_scale, _channel),
    Form(
        rf"{_PLAIN}(VitDetLayerNorm|\w*(R[Mm][Ss]_?|Layer|Simple)Norm2d(Fp32)?)",
        _holds_scale,
        _channel,
    ),
    Form(rf"{_PLAIN}\w*(R[Mm][Ss]_?|Layer|Simple)Norm(Fp32)?", _holds_scale, _trailing),
)
_BUILT_IN = (nn.Embedding, nn.EmbeddingBag)
_BUILT_IN += tuple(kind for kind, _ in [*AFFINE_RULES, *NORM_RULES["per_channel"]])
_STANDARDISED_NAMES = r"(Scaled)?StdConv2d(Same)?|WeightStandardizedConv2d"
_CONV2D = next(rule for kind, rule in AFFINE_RULES if kind is nn.Conv2d)
_STANDARDISED = FormMatch(replace(_CONV2D, is_computed=True), nn.Conv2d, is_call=False)
