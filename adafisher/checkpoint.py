"""``state_dict`` of the optimizer: plain tensors and numbers, keyed by layer and parameter names.

What is kept beside torch's ``state`` and ``param_groups`` is one entry, ``curvature``:
``step``, ``options``, ``identity_steps``, ``parameters`` (shape by name) and ``layers``, which maps
a layer's name to its ``kind``, ``dropped``, ``rows`` and whichever of ``TENSORS`` exist.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from torch import Tensor

from adafisher.layers.layer import Layer, Pool
from adafisher.scalars import as_number
from adafisher.squares import factor_dtype

FACTORS = ("activation_diag", "grad_diag")
SUMS = ("activation_sum", "grad_sum")
TENSORS = FACTORS + SUMS


def copy(tree: Any, copies: dict[Tensor, Tensor] | None = None) -> Any:
    """Copy nested dicts, lists and tuples, tensors included, each once.

    Args:
        tree: What to copy; of NumPy's scalars the number is taken.
        copies: Tensors that are copied already, such as a learning rate that groups share.
    """
    copies = {} if copies is None else copies
    if isinstance(tree, Tensor):
        if tree not in copies:
            copies[tree] = tree.detach().clone()
        return copies[tree]
    if isinstance(tree, dict):
        return {key: copy(value, copies) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(copy(value, copies) for value in tree)
    return as_number(tree)


def by_position(state: dict[Any, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Undo what ``torch.distributed.checkpoint`` does to the number keys of ``state``.

    It reads them back as strings. Loading in place, it puts tensors under the number and the rest
    under the string. An empty ``state`` it leaves out.
    """
    merged: dict[int, dict[str, Any]] = {}
    for key, entry in state.items():
        merged.setdefault(int(key), {}).update(entry)
    return merged


def pack_layer(layer: Layer) -> dict[str, Any]:
    """Pack the state of a layer: its kind, counters, running factors and pooled rows."""
    pool = layer.pool.settled()
    packed: dict[str, Any] = {"kind": _kind(layer), "dropped": layer.dropped, "rows": pool.rows}
    tensors = {name: getattr(layer, name) for name in FACTORS}
    tensors |= {name: getattr(pool, name) for name in SUMS}
    return packed | {name: tensor for name, tensor in tensors.items() if tensor is not None}


def unpack_layer(layer: Layer, packed: dict[str, Any]) -> None:
    """Put a layer's state back, onto the device of its parameters and in the dtype they ask for."""
    param = layer.roles()[0][1]
    dtype = factor_dtype(param.dtype)
    found = {name: packed[name].to(param.device, dtype) for name in TENSORS if name in packed}
    layer.dropped = packed["dropped"]
    for name in FACTORS:
        setattr(layer, name, found.get(name))
    layer.clear()
    # Accumulated: rows that come without their gradients are dropped when the next ones come.
    layer.pool = Pool(
        found.get("activation_sum"), found.get("grad_sum"), rows=packed["rows"], accumulated=True
    )


def check(state_dict: dict[str, Any], current: dict[str, Any]) -> None:
    """Refuse a state that does not fit, naming the first difference.

    Args:
        state_dict: State to load.
        current: State of the optimizer that is to take it.

    Raises:
        ValueError: They differ in parameters or layers.
    """
    for key in ("param_groups", "curvature"):
        if key not in state_dict:
            raise ValueError(
                f"Invalid state_dict: it has no {key!r}, so it is not AdaFisher's "
                "(torch's get_optimizer_state_dict drops it, adafisher's keeps it)."
            )
    saved_groups, groups = state_dict["param_groups"], current["param_groups"]
    if len(saved_groups) != len(groups):
        raise ValueError(
            f"Invalid state_dict: it has {len(saved_groups)} parameter groups, "
            f"the optimizer has {len(groups)}."
        )
    for i, (saved, group) in enumerate(zip(saved_groups, groups, strict=True)):
        _compare(f"parameter of group {i}", saved["param_names"], group["param_names"])
    saved, own = state_dict["curvature"], current["curvature"]
    for key in ("step", "options", "parameters", "layers"):
        if key not in saved:
            raise ValueError(f"Invalid state_dict: its 'curvature' has no {key!r}.")
    for key in saved["options"]:
        if key not in own["options"]:
            raise ValueError(f"Invalid state_dict: its option {key!r} is not known here.")
    shapes = [{**saved["parameters"]}, {**own["parameters"]}]
    for name in {name for entries in shapes for name, shape in entries.items() if shape is None}:
        for entries in shapes:
            entries.pop(name, None)  # of a lazy layer that has not been called yet
    _compare("shape of", *map(_described, shapes))
    _compare("layer", _described(saved["layers"]), _described(own["layers"]))


def _described(entries: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {value['kind'] if isinstance(value, dict) else list(value)}"
        for name, value in entries.items()
    ]


def _compare(what: str, saved: list[str], own: list[str]) -> None:
    for a, b in zip_longest(saved, own):
        if a != b:
            raise ValueError(
                f"Invalid state_dict: {what} {_quoted(a)} stands where the model has {_quoted(b)}."
            )


def _quoted(text: str | None) -> str:
    return "nothing" if text is None else repr(text)


def _kind(layer: Layer) -> str:
    groups = getattr(layer.module, "groups", 1)
    return layer.rule.name + (f" with {groups} groups" if groups != 1 else "")
