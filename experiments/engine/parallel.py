"""A model over several processes: replicated (DDP) or split (FSDP2), and its state in one piece.

A state that leaves this module is that of one process, so that a run can go on with any number.
A split tensor is a ``DTensor``, told by its ``device_mesh``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.optimizers import forms

STRATEGIES = ("ddp", "fsdp")


def replicate(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model whose gradients are to be averaged; the optimizer is built on ``model``."""
    devices = [device] if device.type == "cuda" else None
    wrapped = nn.parallel.DistributedDataParallel(model, device_ids=devices)
    # Batch statistics are synchronised, so the buffers are equal and need not be sent around. The
    # argument of the constructor that says so has another name in another release.
    wrapped.broadcast_buffers = False
    return wrapped


def is_split(params: Iterable[Any]) -> bool:
    """Tell whether any parameter is split over the processes."""
    return any(hasattr(param, "device_mesh") for param in params)


def split(model: nn.Module) -> nn.Module:
    """Split a model in place, every block of a list of blocks by itself; before the optimizer."""
    from torch.distributed.fsdp import fully_shard

    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block)
    fully_shard(model)
    return model


def whole(value: Any) -> Any:
    """Put the split tensors of a state together; all processes have to call."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


def load_model(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load the state of one process into a model, split or not."""
    own = model.state_dict()
    model.load_state_dict({key: _like(value, own[key]) for key, value in state.items()})


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of one process into an optimizer of parameters that may be split.

    The optimizer keeps its form.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    if not is_split(params):
        forms.load(optimizer, state)
        return
    # torch numbers the parameters through all groups.
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    places = dict(zip(numbers, params, strict=True))
    entries = {
        number: {
            key: _like(value, places[number]) if _has_shape_of(value, places[number]) else value
            for key, value in entry.items()
        }
        for number, entry in state["state"].items()
    }
    forms.load(optimizer, state | {"state": entries})


def _has_shape_of(value: Any, param: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == param.shape


def _like(value: Tensor, place: Tensor) -> Tensor:
    """``value`` split as ``place`` is."""
    if not hasattr(place, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    layout: Any = place
    # Every process has all values, so none has to be sent.
    return distribute_tensor(
        value.to(layout.device_mesh.device_type),
        layout.device_mesh,
        layout.placements,
        src_data_rank=None,
    )
