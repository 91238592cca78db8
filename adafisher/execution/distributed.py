"""Factors over several processes: one flat all-reduce of sums and row counts a refresh.

Why this is exact. Gradients are averaged over the ``W`` ranks, as ``DistributedDataParallel`` and
``fully_shard`` do: what is trained on is ``L = (1/W) sum_k L_k`` with the loss ``L_k`` of rank
``k``. The output gradient that a layer sees on rank ``k`` is that of ``L_k``, and for a row of that
rank ``dL_k = W dL``. Hence over all rows of all ranks

    H = sum_k H_sum_k / sum_k R_k        S = (1/W^2) sum_k S_sum_k / sum_k R_k

are the factors that one process has on the union of the rows under ``L``, also if the ranks have
different numbers of rows: a rank's weight in ``L`` is in its output gradients already, its weight
in the factors is its row count. Unequal last batches give the mean loss over all samples if
``L_k = W * (sum of the losses of rank k) / (number of samples on all ranks)``.

A factor that is not finite on one rank is not finite in the sum, so that all ranks drop it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

from adafisher.layers.layer import Layer, is_sharded

_Kind = tuple[torch.Size, torch.dtype]


def check_process_group(process_group: object) -> None:
    """Refuse what is neither a process group, None nor False.

    Args:
        process_group: Argument of the optimizer.

    Raises:
        TypeError: It is something else.
    """
    known = process_group is None or process_group is False
    if not known and not (dist.is_available() and isinstance(process_group, dist.ProcessGroup)):
        raise TypeError(
            f"Invalid process_group: {process_group!r}. Must be a torch.distributed process group, "
            "None (all processes) or False (do not synchronise)."
        )


class Synchronizer:
    """Turns each rank's pooled rows into those of all ranks.

    Shapes of the sums are known once some rank has seen rows of the layer; they are agreed on
    then, and a rank without rows adds zeros. So the first refresh takes two rounds, and later ones
    a single all-reduce. Statistics whose length varies are agreed on each time.
    """

    def __init__(self, process_group: Any = None) -> None:
        """Choose the ranks.

        Args:
            process_group: Ranks that average their gradients. None is all of them, looked up at
                each refresh: nothing happens without ``torch.distributed``. False is this rank.
        """
        check_process_group(process_group)
        self._process_group = process_group
        self._kinds: dict[str, tuple[_Kind, _Kind]] = {}
        self._layers: list[Layer] = []
        self._flat: _FlatSum | None = None
        # Kept until the next one. A thread of gloo that puts the last of a Python tensor down waits
        # for the interpreter, and aborts a process whose interpreter ends meanwhile.
        self._waited: Any = None

    def has_others(self) -> bool:
        """Tell whether there are other ranks."""
        return self._group() is not None

    def start(self, layers: Sequence[Layer]) -> bool:
        """Launch the all-reduce; ``finish`` waits for it.

        Args:
            layers: The same on all ranks, with this rank's pooled rows.

        Returns:
            Whether there are other ranks.
        """
        group = self._group()
        if group is None or not layers:
            return False
        for layer in layers:
            _check_alive(layer)
        self._layers = list(layers)
        known = [layer for layer in layers if layer.name in self._kinds]
        rows = [layer.pool.rows for layer in layers]
        self._flat = _FlatSum(group, _device(layers), rows, known, self._kinds)
        return True

    def finish(self) -> int:
        """Put the rows of all ranks into every pool.

        Returns:
            Number of ranks; 1 where nothing was started.
        """
        flat, self._flat = self._flat, None
        if flat is None:
            return 1
        layers, self._layers = self._layers, []
        rows = flat.wait()
        late = [
            layer
            for layer, count in zip(layers, rows, strict=True)
            if count and layer.name not in self._kinds
        ]
        if late:
            self._agree(late, flat.group)
            flat = _FlatSum(flat.group, _device(layers), [], late, self._kinds)
            flat.wait()
        self._waited = flat.work
        for layer, count in zip(layers, rows, strict=True):
            layer.pool.rows = count
            if layer.rule.ragged:
                self._kinds.pop(layer.name, None)
        return dist.get_world_size(flat.group)

    def _group(self) -> Any:
        if self._process_group is False or not (dist.is_available() and dist.is_initialized()):
            return None
        group = dist.group.WORLD if self._process_group is None else self._process_group
        return group if dist.get_world_size(group) > 1 else None

    def _agree(self, layers: Sequence[Layer], group: Any) -> None:
        """Learn the shapes of sums that only some ranks have."""
        mine = [_kinds(layer) for layer in layers]
        everyone: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(everyone, mine, group=group)
        for i, layer in enumerate(layers):
            found = [kinds[i] for kinds in everyone if kinds[i] is not None]
            # Only the length of a vector varies, and the longest holds all.
            longest = max(found, key=lambda kinds: kinds[0][0].numel())
            self._kinds[layer.name] = longest

    def __deepcopy__(self, memo: dict[int, Any]) -> Synchronizer:
        """Take part in the same group, which cannot be copied."""
        other = Synchronizer(self._process_group)
        other._kinds = dict(self._kinds)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the group, which belongs to its process; unpickled, it is chosen anew."""
        return vars(Synchronizer(False if self._process_group is False else None))


@dataclass
class _FlatSum:
    """An all-reduce in flight: row counts, then the two sums of every layer.

    It runs in float64, in which row counts are exact and whatever dtypes the sums have fit.
    """

    group: Any
    device: torch.device
    rows: list[int]
    layers: list[Layer]
    kinds: dict[str, tuple[_Kind, _Kind]]

    def __post_init__(self) -> None:
        parts = [torch.tensor(self.rows, dtype=torch.float64, device=self.device)]
        for layer in self.layers:
            sums = (layer.pool.activation_sum, layer.pool.grad_sum)
            for tensor, (shape, _) in zip(sums, self.kinds[layer.name], strict=True):
                if tensor is None:
                    parts.append(parts[0].new_zeros(shape.numel()))
                else:
                    parts.append(_fitted(tensor, shape, layer).to(self.device))
        self.flat = torch.cat(parts)
        self.work = dist.all_reduce(self.flat, group=self.group, async_op=True)

    def wait(self) -> list[int]:
        """Put the sums into the pools, and return the row counts of all ranks."""
        self.work.wait()
        dtypes = {dtype for layer in self.layers for _, dtype in self.kinds[layer.name]}
        cast = {dtype: self.flat.to(dtype) for dtype in dtypes}
        at = len(self.rows)
        for layer in self.layers:
            found: list[Tensor] = []
            for shape, dtype in self.kinds[layer.name]:
                found.append(cast[dtype][at : at + shape.numel()].reshape(shape))
                at += shape.numel()
            layer.pool.activation_sum, layer.pool.grad_sum = found
        return [int(count) for count in self.flat[: len(self.rows)].tolist()]


def _kinds(layer: Layer) -> tuple[_Kind, _Kind] | None:
    a, g = layer.pool.activation_sum, layer.pool.grad_sum
    return None if a is None or g is None else ((a.shape, a.dtype), (g.shape, g.dtype))


def _device(layers: Sequence[Layer]) -> torch.device:
    return layers[0].roles()[0][1].device


def _fitted(tensor: Tensor, shape: torch.Size, layer: Layer) -> Tensor:
    """Give the statistic as one vector of the agreed length."""
    if layer.rule.ragged:
        return F.pad(tensor.flatten(), (0, shape.numel() - tensor.numel()))
    if tensor.shape != shape:
        raise RuntimeError(
            f"Layer {layer.name!r} has a factor of shape {tuple(tensor.shape)}, where the ranks "
            f"agreed on {tuple(shape)}."
        )
    return tensor.flatten()


def _check_alive(layer: Layer) -> None:
    """Refuse a model that was sharded behind the optimizer's back: its parameters are gone."""
    for role, param in layer.roles():
        name = getattr(layer.rule, role)
        if is_sharded(layer.module._parameters.get(name)) and not is_sharded(param):
            raise RuntimeError(
                f"The parameters of layer {layer.name!r} were sharded after the optimizer was "
                "built. Build the optimizer after fully_shard."
            )
