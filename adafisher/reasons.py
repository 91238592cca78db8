"""Why a parameter takes the identity: a closed list."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

EMBEDDING = "embedding"
RECURRENT = "recurrent layer"
BILINEAR = "bilinear layer"
ATTENTION = "attention with keys or values of a width of their own"
PARAMETRISED = "parametrised weight"
STACKED = "stack of matrices"
UNKNOWN = "layer of an unknown form"
FREE = "free parameter"

REASONS = {
    EMBEDDING: "a table that tokens are looked up in; embeddings=True gives it curvature",
    RECURRENT: "a weight is read once a time step within one call of the library",
    BILINEAR: "the output is a product of two inputs",
    ATTENTION: "its projections are not packed",
    PARAMETRISED: "the weight is computed of it (weight norm, spectral norm, low rank)",
    STACKED: "several matrices in one parameter, as of experts; each sees rows of its own",
    UNKNOWN: "a layer's weight or bias; register_layer gives it a form",
    FREE: "no layer multiplies by it: positions, tokens, gains, scales and tables of biases",
}
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def reasons(model: nn.Module, identity: Collection[Tensor]) -> dict[Tensor, str]:
    """Say why each of some parameters has no curvature.

    Args:
        model: Their model.
        identity: Parameters in no supported layer.

    Returns:
        One of ``REASONS`` for each of them that is in the model.
    """
    found: dict[Tensor, str] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is not None and param in identity:
                found.setdefault(param, _reason(module, name, param))
    return found


def embedding_tables(model: nn.Module) -> set[Tensor]:
    """Find parameters of embeddings alone: a head that shares one is not counted apart.

    Args:
        model: Any model.
    """
    tables: set[Tensor] = set()
    others: set[Tensor] = set()
    for module in model.modules():
        is_table = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        own = {param for param in module._parameters.values() if param is not None}
        (tables if is_table else others).update(own)
    return tables - others


def _reason(module: nn.Module, name: str, param: Tensor) -> str:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return EMBEDDING
    if isinstance(module, _RECURRENT):
        return RECURRENT
    if isinstance(module, nn.Bilinear):
        return BILINEAR
    if isinstance(module, nn.MultiheadAttention) and module._parameters["in_proj_weight"] is None:
        return ATTENTION
    if isinstance(module, ParametrizationList) or _is_computed_of(module, name):
        return PARAMETRISED
    if not is_lazy(param) and param.dim() > 2 and min(param.shape) > 1:
        return STACKED
    return UNKNOWN if name in ("weight", "bias", "kernel") else FREE


def _is_computed_of(module: nn.Module, name: str) -> bool:
    """Tell whether an attribute is computed of the parameter, as by torch's older functions."""
    stem, _, suffix = name.rpartition("_")
    return suffix in ("orig", "g", "v") and stem not in module._parameters and hasattr(module, stem)
