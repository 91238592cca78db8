"""The optimizer's state by parameter names, for ``torch.distributed.checkpoint``.

That package's own ``get_optimizer_state_dict`` keeps what torch's optimizers have, and drops the
curvature without a word. These two keep it, and stand in its place:

    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(optimizer)}
    dcp.save(state, checkpoint_id=folder)

    state = ...  # the same, of the model and the optimizer that are to go on: new ones, or used
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(optimizer, state["optimizer"])

The momenta are tensors, sharded as the parameters are, so that they load under any number of ranks
and any sharding. All else is two vectors a layer and some numbers, which are whole on each rank:
it is kept as bytes, because what is loaded in place must be known in size before.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from adafisher.optimizer import AdaFisher

# What wrappers put into the names of what they wrap.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")


def get_optimizer_state_dict(optimizer: AdaFisher) -> dict[str, Any]:
    """Take the state between two steps, also of an optimizer that has not taken one.

    Rows that wait for the next step are not in it, as their gradients are not either.

    Args:
        optimizer: Any. Its state is not copied.

    Returns:
        ``exp_avg``: momentum by parameter name, zero before the first step; ``rest``: bytes.
    """
    state = optimizer.live_state()
    names = [name for group in state["param_groups"] for name in group["param_names"]]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    entries = {name: state["state"].get(i) for i, name in enumerate(names)}
    curvature = state["curvature"]
    for layer in curvature["layers"].values():
        layer["rows"] = 0
        for name in ("activation_sum", "grad_sum"):
            layer.pop(name, None)
    rest = {
        "step": {_plain(name): entry["step"] for name, entry in entries.items() if entry},
        "param_groups": [
            {**group, "param_names": [_plain(name) for name in group["param_names"]]}
            for group in state["param_groups"]
        ],
        "curvature": curvature
        | {key: _renamed(curvature[key]) for key in ("layers", "parameters", "identity_steps")},
    }
    packed = io.BytesIO()
    torch.save(rest, packed)
    momenta = {
        _plain(name): entry["exp_avg"] if entry else torch.zeros_like(param).detach()
        for (name, entry), param in zip(entries.items(), params, strict=True)
        if entry or param.requires_grad
    }
    return {"exp_avg": momenta, "rest": packed.getvalue()}


def set_optimizer_state_dict(optimizer: AdaFisher, state: dict[str, Any]) -> None:
    """Restore what ``get_optimizer_state_dict`` has returned.

    Args:
        optimizer: Of a model with the same parameters in the same groups, sharded or not.
        state: The state, as loaded. It is neither kept nor changed.

    Raises:
        ValueError: It does not fit the model; nothing is changed then.
    """
    if "rest" not in state:
        raise ValueError(
            "Invalid state: it has no 'rest', so get_optimizer_state_dict has not made it."
        )
    rest = torch.load(io.BytesIO(state["rest"]), map_location="cpu", weights_only=True)
    own = optimizer.live_state()
    layers = {_plain(name): name for name in own["curvature"]["layers"]}
    names = {_plain(n): n for group in own["param_groups"] for n in group["param_names"]}
    saved = [name for group in rest["param_groups"] for name in group["param_names"]]
    curvature = rest["curvature"]
    curvature["layers"] = _renamed(curvature["layers"], layers)
    for key in ("parameters", "identity_steps"):
        curvature[key] = _renamed(curvature[key], names)
    optimizer.load_state_dict(
        {
            "state": {
                i: {"step": rest["step"][name], "exp_avg": state["exp_avg"][name]}
                for i, name in enumerate(saved)
                if name in rest["step"]
            },
            "param_groups": [
                {**group, "param_names": [names.get(n, n) for n in group["param_names"]]}
                for group in rest["param_groups"]
            ],
            "curvature": curvature,
        }
    )


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _renamed(entries: dict[str, Any], names: dict[str, str] | None = None) -> dict[str, Any]:
    """Put entries under other names: those that are given, or without those of wrappers."""
    if names is None:
        return {_plain(name): value for name, value in entries.items()}
    return {names.get(name, name): value for name, value in entries.items()}
