"""Which parameters weight decay leaves alone with ``decay_norms_and_biases: false``.

A method that has the argument itself gets it; one of torch's gets two groups in its place. Both
mean the same parameters, which a test holds.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from experiments.errors import UserError

KEY = "decay_norms_and_biases"


def exempt(arguments: Mapping[str, Any], model: nn.Module) -> set[Tensor]:
    """Find the parameters without weight decay: norms, biases and others of fewer than two axes.

    Args:
        arguments: Those of the optimizer.
        model: The model.

    Raises:
        UserError: If the value is no truth value.
    """
    decays = arguments.get(KEY, True)
    if not isinstance(decays, bool):
        raise UserError(f"Invalid optimizer.{KEY}: {decays!r}. Must be true or false.")
    if decays:
        return set()
    return {
        param
        for module in model.modules()
        for name, param in module.named_parameters(recurse=False)
        if param.dim() < 2 or name.endswith("bias") or "Norm" in type(module).__name__
    }


def groups(arguments: Mapping[str, Any], model: nn.Module) -> list[Any]:
    """Group a model's parameters for an optimizer of torch's: in two if some do not decay."""
    without = exempt(arguments, model)
    if not without:
        return list(model.parameters())
    decayed = [param for param in model.parameters() if param not in without]
    spared = [param for param in model.parameters() if param in without]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
