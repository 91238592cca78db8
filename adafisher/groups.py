"""What a parameter group holds, and which parameters may be in one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adafisher.scalars import as_number, check_number

# Torch's cyclic schedulers look for this name, and write under it.
ALIAS_OF_BETA = "momentum"


def stored(group: dict[str, Any]) -> dict[str, Any]:
    """A group as it is kept: plain numbers, but for a tensor ``lr``, which is read at each step."""
    return {
        name: value
        if name == "params" or (name == "lr" and isinstance(value, Tensor))
        # Anything else that holds a number, be it NumPy's, is that number from now on.
        else as_number(value)
        for name, value in group.items()
    }


def hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a group as they are now, after ``take_momentum``.

    Args:
        group: Group of an optimizer.
    """
    take_momentum(group)
    return {name: as_number(value) for name, value in group.items() if not name.startswith("param")}


def take_momentum(group: dict[str, Any]) -> None:
    """Make ``beta`` of the ``momentum`` that a cyclic scheduler has written into a group."""
    if ALIAS_OF_BETA in group:
        momentum = as_number(group.pop(ALIAS_OF_BETA))
        check_number(ALIAS_OF_BETA, momentum, low=0.0, below=1.0)
        group["beta"] = momentum


def sparse_weights(model: nn.Module) -> set[Tensor]:
    """Weights that are known to get sparse gradients: of embeddings with ``sparse=True``."""
    return {
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    }


def check_parameter(name: str, param: Tensor, *, sparse: bool) -> None:
    """Refuse a parameter that cannot be stepped; a frozen one is not, and may be quantised.

    Args:
        name: Its name.
        param: Parameter of the optimizer.
        sparse: Whether it is known to get sparse gradients.

    Raises:
        ValueError: It is trainable, and not real or sparse.
    """
    if not param.requires_grad:
        return
    if not param.is_floating_point():
        raise ValueError(f"Invalid dtype of {name}: {param.dtype}. Must be real.")
    if sparse:
        raise ValueError(
            f"Invalid sparse of the layer of {name}: True. Must be False, as AdaFisher takes "
            "no sparse gradients, or the parameter be left out of params."
        )


def check_gradients(gradients: Iterable[tuple[str, Tensor | None]]) -> None:
    """Refuse gradients that are not dense.

    Args:
        gradients: By the names of their parameters.

    Raises:
        RuntimeError: One is sparse.
    """
    for name, grad in gradients:
        if grad is not None and grad.layout is not torch.strided:
            raise RuntimeError(f"AdaFisher takes no sparse gradients, but {name} has one.")


def undecayed(model: nn.Module) -> set[Tensor]:
    """Parameters that ``decay_norms_and_biases=False`` takes out of weight decay.

    Args:
        model: Any model.

    Returns:
        Those with fewer than two axes, those whose name ends in ``bias``, and those of modules
        with ``Norm`` in the name of their class.
    """
    return {
        param
        for module in model.modules()
        for name, param in module.named_parameters(recurse=False)
        if "Norm" in type(module).__name__
        or name.endswith("bias")
        or (not is_lazy(param) and param.dim() < 2)
    }
