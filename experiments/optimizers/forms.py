"""In which form a library computes a step: plain, foreach or fused, the same but for rounding.

Plain is one call after the other for each parameter, foreach one call for many parameters, fused
one pass over the memory of each. A parameter group says which: ``foreach`` and ``fused``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

FLAGS = ("fused", "foreach")


def form_of(optimizer: Optimizer, stated: str | None = None) -> str | None:
    """Tell the form of an optimizer's step.

    Args:
        optimizer: The optimizer.
        stated: What its parameter groups do not say, as its YAML has it.

    Returns:
        What the optimizer itself says by a ``form``; else what is stated, then what the groups say:
        ``default`` where they leave it to the library. None where none says anything.
    """
    own = getattr(optimizer, "form", None)
    if isinstance(own, str):
        return own
    flags = {flag: on for flag, on in optimizer.param_groups[0].items() if flag in FLAGS}
    chosen = next((flag for flag in FLAGS if flags.get(flag)), None)
    if flags and chosen is None:
        chosen = "plain" if False in flags.values() else "default"
    return ", ".join(filter(None, (stated, chosen))) or None


def load(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state into an optimizer, which keeps its own form: torch would take the state's.

    Args:
        optimizer: The optimizer.
        state: A ``state_dict`` of one like it, in whatever form and layout.
    """
    own = [
        {flag: group[flag] for flag in FLAGS if flag in group} for group in optimizer.param_groups
    ]
    saved = state["param_groups"]
    padded = own + [{}] * len(saved)  # another number of groups is refused by torch
    groups = [{**group, **flags} for group, flags in zip(saved, padded, strict=False)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group in optimizer.param_groups:
        for param in group["params"] if group.get("fused") else ():
            _lay_out(optimizer.state.get(param, {}), param)


def _lay_out(entry: dict[str, Any], param: Tensor) -> None:
    """Lay the state of a parameter out as itself: the fused kernels on the CPU read raw memory."""
    for key, value in entry.items():
        is_alike = isinstance(value, Tensor) and value.shape == param.shape
        if is_alike and value.stride() != param.stride():
            entry[key] = torch.empty_like(param).copy_(value)


def start_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Give every parameter that is to be stepped by torch's fused SGD a momentum of zeros.

    It starts the momentum of all parameters together, or fails where one has its first gradient
    later; and where a loss scale skips its first step, what lay in memory stays as the momentum.
    With a dampening of 0, as everywhere here, zeros give the same numbers as torch's own start.

    Args:
        optimizer: Any optimizer, whose gradients are there. It can be registered to be called so
            before each step.
    """
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum") and not group["dampening"]:
            for param in group["params"]:
                if param.grad is not None and "momentum_buffer" not in optimizer.state[param]:
                    optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)
