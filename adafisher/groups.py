"""What a parameter group holds, and which parameters may be in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adafisher.scalars import as_number, check_number

# Torch's cyclic schedulers look for this name, and write under it.
ALIAS_OF_BETA = "momentum"


def plain_group(group: dict[str, Any]) -> dict[str, Any]:
    """Give a group as it is kept: plain numbers, but a tensor ``lr``, which each step reads."""
    return {
        name: value
        if name == "params" or (name == "lr" and isinstance(value, Tensor))
        # Anything else that holds a number, be it NumPy's, is that number from now on.
        else as_number(value)
        for name, value in group.items()
    }


def hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    """Read the numbers of a group as they are now, after ``take_momentum``.

    Args:
        group: Group of an optimizer.
    """
    take_momentum(group)
    return {name: as_number(value) for name, value in group.items() if not name.startswith("param")}


def each_parameter(
    groups: Iterable[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Yield the hyperparameters, the name and the parameter of everything in some groups."""
    for group in groups:
        numbers = hyperparameters(group)
        for name, param in zip(group["param_names"], group["params"], strict=True):
            yield numbers, name, param


def take_momentum(group: dict[str, Any]) -> None:
    """Make ``beta`` of the ``momentum`` that a cyclic scheduler has written into a group."""
    if ALIAS_OF_BETA in group:
        momentum = as_number(group.pop(ALIAS_OF_BETA))
        check_number(ALIAS_OF_BETA, momentum, low=0.0, below=1.0)
        group["beta"] = momentum


def sparse_weights(model: nn.Module) -> set[Tensor]:
    """Find weights that are known to get sparse gradients: of embeddings with ``sparse=True``."""
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


class ModelParameters:
    """The parameters of a model, which are those that its optimizer may have.

    Attributes:
        names: Name of each, also of one that has left the model since.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take those that are there."""
        self.names: dict[Tensor, str] = {}
        self._model = model
        self.look_again()

    def look_again(self) -> None:
        """Take those that came into the model since."""
        self.names |= {param: name for name, param in self._model.named_parameters()}
        self._undecayed: set[Tensor] | None = None

    def entry(self, position: int, param: Any, *, sparse: set[Tensor]) -> tuple[str, Any]:
        """Name an entry of ``params``, which has to be one of them that can be stepped.

        Args:
            position: Place of the entry, for the message.
            param: The entry; what is no tensor is left to torch, which refuses it.
            sparse: Of ``sparse_weights``.

        Raises:
            ValueError: It is not a parameter of the model, or see ``check_parameter``.
        """
        if not isinstance(param, Tensor):
            return "", param
        if param not in self.names:
            raise ValueError(
                f"Invalid params: entry {position} of shape {tuple(param.shape)} is not a "
                "parameter of the model."
            )
        check_parameter(self.names[param], param, sparse=param in sparse)
        return self.names[param], param

    def is_undecayed(self, param: Tensor) -> bool:
        """Tell whether ``decay_norms_and_biases=False`` takes it out, see ``undecayed``."""
        if self._undecayed is None:  # not earlier: a lazy layer has no shapes before it is called
            self._undecayed = undecayed(self._model)
        return param in self._undecayed


def undecayed(model: nn.Module) -> set[Tensor]:
    """Find the parameters that ``decay_norms_and_biases=False`` takes out of weight decay.

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
