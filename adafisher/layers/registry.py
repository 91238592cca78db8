"""Which layers have curvature: registered, known by name (``forms``) and built in, in that order.

The first rule whose type the module is an instance of counts, so a subclass counts as its base.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from adafisher import factors
from adafisher.fisher import CurvatureTerm
from adafisher.layers.affine import (
    AFFINE_RULES,
    EMBEDDING,
    EMBEDDING_BAG,
    affine_term,
    transposed_term,
)
from adafisher.layers.forms import match_form
from adafisher.layers.norms import NORM_RULES, scale_term
from adafisher.layers.rule import LayerRule
from adafisher.squares import square_sum

NORM_LAYERS = tuple(NORM_RULES)
SUPPORTED = (
    "Linear, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, "
    "MultiheadAttention, BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm, GroupNorm, "
    "InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LayerNorm, RMSNorm, "
    "Embedding and EmbeddingBag (with embeddings=True), or of a registered type"
)
_REGISTERED: dict[type[nn.Module], LayerRule] = {}
_FORMS = ("linear", "transposed", "scale")


class RuleMatch(NamedTuple):
    """A module's rule.

    Attributes:
        rule: The rule.
        base: The type that it was found by.
        registered: Whether a user or the table of ``forms`` gave the form: it is that of a call.
    """

    rule: LayerRule
    base: type[nn.Module]
    registered: bool


def find_rule(module: nn.Module, norm_layers: str, embeddings: bool = False) -> RuleMatch | None:
    """Find the rule of a module, or None where it has no curvature.

    Args:
        module: Any module.
        norm_layers: ``per_channel`` (paper v3, Proposition 3.1) or ``two_vector`` (released code).
        embeddings: Whether ``nn.Embedding`` and ``nn.EmbeddingBag`` have curvature.
    """
    for base in type(module).__mro__:
        if base in _REGISTERED:
            return RuleMatch(_REGISTERED[base], base, registered=True)
    by_name = match_form(module, norm_layers)
    if by_name is not None:
        return RuleMatch(by_name.rule, by_name.base, registered=by_name.is_call)
    rules = AFFINE_RULES + NORM_RULES[norm_layers]
    if embeddings and getattr(module, "mode", None) != "max":  # no sum of its tokens
        rules = [*rules, (nn.Embedding, EMBEDDING), (nn.EmbeddingBag, EMBEDDING_BAG)]
    for base, rule in rules:
        if isinstance(module, base):
            return RuleMatch(rule, base, registered=False)
    return None


def register_layer(
    kind: type[nn.Module],
    *,
    form: Literal["linear", "transposed", "scale"] = "linear",
    weight: str = "weight",
    bias: str | None = "bias",
    input_rows: Callable[[Any, Tensor], Tensor] | None = None,
    grad_rows: Callable[[Any, Tensor], Tensor] | None = None,
) -> None:
    """Give curvature to a layer of your own, in every optimizer that is built afterwards.

    With rows ``h_r`` of the layer's input and ``s_r`` of the gradient at its output,

        linear        y_r = W h_r + b            W ``[d_out, *d_in]``    F = S' kron H' + lambda
        transposed    y_r = W^T h_r + b          W ``[d_in, d_out]``
        scale         y_r = w * f(h_r) + b       w ``[*features]``       F = H' * S' + lambda

    The layer is called with its input first and returns one tensor. Subclasses count as ``kind``;
    registering a type again replaces it.

    Args:
        kind: Type of the layer.
        form: How the parameters act.
        weight: Attribute that holds ``W`` or ``w``.
        bias: Attribute that holds ``b``, which may be absent or None.
        input_rows: ``(layer, input) -> h``, ``[rows, d_in]``; by default the last axis of the input
            is ``d_in`` and all others are rows.
        grad_rows: ``(layer, grad) -> s``, ``[rows, d_out]``, of the gradient at the output; by
            default as ``input_rows``.

    Raises:
        ValueError: ``form`` is none of the three.
        TypeError: ``kind`` is not a subclass of ``torch.nn.Module``.

    Example:
        >>> import torch
        >>> class Scale(nn.Module):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.gamma = nn.Parameter(torch.ones(width))
        ...
        ...     def forward(self, x):
        ...         return x * self.gamma
        >>> register_layer(Scale, form="scale", weight="gamma")
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"Invalid kind: {kind!r}. Must be a subclass of torch.nn.Module.")
    if form not in _FORMS:
        raise ValueError(f"Invalid form: {form!r}. Must be one of {', '.join(_FORMS)}.")
    of_input, of_grad = input_rows or _last_axis, grad_rows or _last_axis
    bias_name = bias or ""

    def activation_sum(module: Any, x: Tensor, _output: Tensor) -> Tensor:
        rows = of_input(module, x)
        if form == "scale":
            return square_sum(rows, (0,))
        return factors.linear_activation_sum(
            rows, bias=getattr(module, bias_name, None) is not None
        )

    @torch.no_grad()  # what is given may read parameters, in a pass with create_graph too
    def grad_sum(module: Any, grad: Tensor) -> Tensor:
        return square_sum(of_grad(module, grad), (0,))

    def term(module: Any, role: str, activation_diag: Tensor, grad_diag: Tensor) -> CurvatureTerm:
        own = getattr(module, weight)
        if form == "scale":
            left, right = scale_term(module, role, activation_diag, grad_diag)
            return left.reshape(own.shape), right.reshape(own.shape)
        return (affine_term if form == "linear" else transposed_term)(
            _Weight(own), role, activation_diag, grad_diag
        )

    _REGISTERED[kind] = LayerRule(
        name=kind.__qualname__,
        activation_sum=activation_sum,
        grad_sum=grad_sum,
        rows=lambda m, y: of_grad(m, y).shape[0],
        term=term,
        weight=weight,
        bias=bias_name,
    )


class _Weight(NamedTuple):
    weight: Tensor


def _last_axis(_module: Any, x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
