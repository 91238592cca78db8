"""Parameters that ``fully_shard`` splits: which slice of a curvature term a rank needs.

Every rank holds the whole factors, which are two vectors a layer and whose Min-Max runs over all
entries, but only its own slice of each parameter, gradient and momentum. As the curvature of entry
``(i, j)`` is ``left[i] * right[j]``, a rank steps its shard with the same slice of the two.

A sharded tensor is a ``DTensor``; it is told by its ``device_mesh`` (``layer.is_sharded``), so that
nothing of ``torch.distributed`` is imported by those who do not use it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from adafisher.fisher import CurvatureTerm
from adafisher.layers.layer import is_sharded


def local(tensor: Tensor) -> Tensor:
    """Take this rank's part of a tensor, sharing its memory; a plain tensor is its own part."""
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def place_like(tensor: Tensor, param: Tensor) -> Tensor:
    """Spread, or gather, a tensor of the parameter's global shape as the parameter is.

    Args:
        tensor: Sharded or plain; a sharded one is gathered, for which all ranks have to call.
        param: Sharded or plain.

    Returns:
        The same values: sharded as ``param`` is, or plain where ``param`` is plain.
    """
    layout: Any = param
    if is_sharded(tensor):
        given: Any = tensor
        if is_sharded(param) and given.placements == layout.placements:
            return tensor
        tensor = given.full_tensor()
    if not is_sharded(param):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every rank has all values, so none has to be sent (src_data_rank=None).
    return distribute_tensor(tensor, layout.device_mesh, layout.placements, src_data_rank=None)


def check_shards(model: nn.Module) -> None:
    """Refuse sharded parameters whose curvature is not a slice of the whole.

    Args:
        model: Model whose parameters are plain or sharded by ``fully_shard``.

    Raises:
        ValueError: A parameter is sharded in another way.
    """
    sharded: dict[str, Any] = {n: p for n, p in model.named_parameters() if is_sharded(p)}
    for name, param in sharded.items():
        kinds = [type(placement).__name__ for placement in param.placements]
        if set(kinds) - {"Shard", "Replicate"} or kinds.count("Shard") > 1:
            raise ValueError(
                f"Invalid placement of {name}: {param.placements}. "
                "Must be sharded once, by fully_shard alone (no tensor parallelism)."
            )
    if sharded and not any(_is_fully_sharded(module) for module in model.modules()):
        raise ValueError(
            f"Invalid placement of {next(iter(sharded))}: tensor parallelism, whose layers see "
            "only a part of their inputs. Must be a model sharded by fully_shard."
        )


def mesh_group(model: nn.Module) -> Any:
    """Find the ranks that a model is sharded over.

    Args:
        model: Model that ``check_shards`` passes.

    Returns:
        Their process group; None if that is all processes, or the model is not sharded.

    Raises:
        ValueError: A mesh of several axes leaves processes out, so that no group is known.
    """
    for name, param in model.named_parameters():
        if is_sharded(param):
            mesh: Any = param.device_mesh  # type: ignore[attr-defined]
            if mesh.ndim == 1:
                return mesh.get_group()
            if mesh.size() == dist.get_world_size():
                return None
            raise ValueError(
                f"Invalid process_group: None. Must be given, as the mesh of {name} has "
                f"{mesh.ndim} axes and {mesh.size()} of {dist.get_world_size()} processes."
            )
    return None


def shard_terms(terms: list[CurvatureTerm], param: Tensor) -> list[CurvatureTerm]:
    """Take the part of a parameter's curvature terms that belongs to this rank's shard.

    Args:
        terms: Pairs that broadcast to the whole parameter or to its grouped view, in one layout.
        param: The parameter, sharded or plain.

    Returns:
        Pairs that broadcast to ``local(param)`` or to its grouped view.
    """
    if not terms or not is_sharded(param):
        return terms
    dim, start, stop = _bounds(param)
    if stop - start == param.shape[dim]:
        return terms
    grouped = terms[0][0].dim() - param.dim()
    if not grouped or dim > 0:
        axis = dim + grouped
        return [(_slice(a, axis, start, stop), _slice(b, axis, start, stop)) for a, b in terms]
    width = param.shape[0] // terms[0][0].shape[0]  # of a group
    if start % width == 0 and stop % width == 0:
        groups = slice(start // width, stop // width)
        return [(a[groups], b[groups]) for a, b in terms]
    # The cut goes through a group: no grouped view of the shard exists.
    index = torch.arange(start, stop, device=terms[0][0].device)
    return [(_rows(a, index, width), _rows(b, index, width)) for a, b in terms]


def _rows(term: Tensor, index: Tensor, width: int) -> Tensor:
    """Take entries of the first axis of the parameter, from a term in the grouped view."""
    return term[:, 0][index // width] if term.shape[1] == 1 else term.flatten(0, 1)[index]


def _bounds(param: Tensor) -> tuple[int, int, int]:
    """Give axis, start and stop of this rank's shard, cut as ``torch.chunk`` does."""
    layout: Any = param
    for mesh_dim, placement in enumerate(layout.placements):
        if placement.is_shard():
            dim = placement.dim % param.dim()
            size = param.shape[dim]
            chunk = -(-size // layout.device_mesh.size(mesh_dim))
            start = min(size, chunk * layout.device_mesh.get_local_rank(mesh_dim))
            return dim, start, min(size, start + chunk)
    return 0, 0, param.shape[0] if param.dim() else 0


def _slice(term: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """Cut an axis, unless the term is constant along it."""
    return term if term.shape[dim] == 1 else term.narrow(dim, start, stop - start)


def _is_fully_sharded(module: nn.Module) -> bool:
    return any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__)
