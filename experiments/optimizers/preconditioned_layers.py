"""Which layers of a model have Kronecker factors, and why the others do not."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# A subclass with a forward of its own has another Jacobian, so isinstance is not enough.
FORWARDS = (nn.Linear.forward, nn.Conv2d.forward)


class PreconditionedLayer(NamedTuple):
    """A layer to precondition."""

    name: str  # of the weight
    module: nn.Linear | nn.Conv2d
    bias: nn.Parameter | None  # None too where another module has the same bias

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for a linear layer."""
        return getattr(self.module, "groups", 1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the factors: float32 at least."""
        return torch.promote_types(self.module.weight.dtype, torch.float32)

    @property
    def moving_bias(self) -> nn.Parameter | None:
        """The bias, if it has a gradient."""
        return None if self.bias is None or self.bias.grad is None else self.bias


def find_layers(
    model: nn.Module, max_dimension: int | None
) -> tuple[dict[str, PreconditionedLayer], dict[str, str]]:
    """Sorts the parameters of a model.

    Args:
        model: The model.
        max_dimension: Largest factor; ``None`` for no limit.

    Returns:
        The layers to precondition by the name of their weight, and for every parameter outside
        them the reason why it is left alone.
    """
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    layers: dict[str, PreconditionedLayer] = {}
    left_alone: dict[str, str] = {}
    for module_name, module in model.named_modules():
        names = {key: f"{module_name}.{key}".lstrip(".") for key in module._parameters}
        reason = _reason_to_leave(module, owners, max_dimension)
        for key, param in module._parameters.items():
            if param is not None and (reason is not None or owners[id(param)] > 1):
                left_alone[names[key]] = reason or "shared by several modules"
        if reason is None and isinstance(module, nn.Linear | nn.Conv2d):
            bias = None if names["bias"] in left_alone else module._parameters["bias"]
            layers[names["weight"]] = PreconditionedLayer(names["weight"], module, bias)
    return layers, left_alone


def watch_layers(
    layers: dict[str, PreconditionedLayer], record: Callable[[str, Tensor, Tensor], None]
) -> list[RemovableHandle]:
    """Has a method called with name, input and output in every forward pass of a layer.

    Args:
        layers: Layers by name.
        record: A bound method. Its object is referenced weakly: the hooks do not keep it alive.

    Returns:
        The handles that remove the hooks.
    """
    names = {id(layer.module): name for name, layer in layers.items()}
    method = weakref.WeakMethod(record)

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        call = method()
        # A deep copy of the model carries the hook along, but is not the model that is trained.
        if call is not None and id(module) in names:
            call(names[id(module)], args[0] if args else kwargs["input"], out)

    return [layer.module.register_forward_hook(hook, with_kwargs=True) for layer in layers.values()]


def _reason_to_leave(
    module: nn.Module, owners: Counter[int], max_dimension: int | None
) -> str | None:
    weight = module._parameters.get("weight")
    if type(module).forward not in FORWARDS or weight is None:
        return f"no factors for {type(module).__name__}"
    if owners[id(weight)] > 1:
        return "shared by several modules"
    outputs = len(weight) // getattr(module, "groups", 1)
    if max_dimension is not None and max(outputs, weight[0].numel()) > max_dimension:
        return f"a factor above {max_dimension}"
    return None
