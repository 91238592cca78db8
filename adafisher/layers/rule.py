"""What a kind of layer must say to have curvature.

Format: ``activation_diag`` is ``[groups, d_in (+ 1)]`` (one group but for grouped convolutions and
packed attention), ``grad_diag`` is ``[d_out]``; norm layers have both of the shape of their weight,
or, in the released code's form, ``activation_diag`` of shape ``[2]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adafisher.fisher import CurvatureTerm

Factors = tuple[Tensor, Tensor]


def means(activation_sum: Tensor, grad_sum: Tensor, rows: int) -> Factors:
    """Divide both sums by their rows."""
    return activation_sum / rows, grad_sum / rows


def _one(_layer: Any) -> int:
    return 1


def _any(_module: Any, _x: Tensor, _output: Tensor) -> bool:
    return True


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer gets its curvature.

    Where a subclass overrides ``forward``, the ``module`` of the first three functions is not the
    layer but the call that it made, with the arguments of that call under the layer's names.

    Attributes:
        name: Name in messages and in ``state_dict``.
        activation_sum: ``(module, input, output) -> Tensor``, the pooled statistic of the input.
        grad_sum: ``(module, output_grad) -> Tensor``, the pooled statistic of the gradient.
        rows: ``(module, output) -> int``, the rows that the two sums run over.
        term: ``(module, role, activation_diag, grad_diag) -> (left, right)``, whose product is the
            curvature of ``role`` (``weight`` or ``bias``), without damping.
        estimate: ``(activation_sum, grad_sum, rows) -> (activation_diag, grad_diag)``.
        weight: Name of the parameter in the role ``weight``.
        bias: Name of the parameter in the role ``bias``.
        ragged: Whether the length of ``activation_sum`` varies from call to call.
        patch_size: ``layer -> int``, the entries of a patch, without the constant 1; 1 but for
            convolutions.
        is_computed: Whether the weight that the functional call gets is computed from the layer's.
        last_axis: Whether ``grad_sum`` looks at the last axis alone: those before it may be in one.
        fits: ``(module, input, output) -> bool``, whether a call is of this form; asked where a
            layer is known by its name, and a call that does not fit brings no rows.
    """

    name: str
    activation_sum: Callable[[Any, Tensor, Tensor], Tensor]
    grad_sum: Callable[[Any, Tensor], Tensor]
    rows: Callable[[Any, Tensor], int]
    term: Callable[[Any, str, Tensor, Tensor], CurvatureTerm]
    estimate: Callable[[Tensor, Tensor, int], Factors] = means
    weight: str = "weight"
    bias: str = "bias"
    ragged: bool = False
    patch_size: Callable[[Any], int] = _one
    is_computed: bool = False
    last_axis: bool = False
    fits: Callable[[Any, Tensor, Tensor], bool] = _any
