"""The rows that a step's calls of each layer have brought, here and on the other processes."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.optimizers.collective import sum_over_ranks, world_size
from experiments.optimizers.inverses import Factor, RowSum
from experiments.optimizers.kronecker_factors import input_rows, output_rows
from experiments.optimizers.preconditioned_layers import PreconditionedLayer
from experiments.optimizers.symmetric import pack, packed_size, unpack


class _Pool(NamedTuple):
    inputs: RowSum
    outputs: RowSum


class Pools:
    r"""Sums over the rows of one step, all calls and micro-batches together.

    Args:
        layers: All layers, in the same order on every process.
        keeps_rows: Whether the sums of few rows may stay rows. Those of several processes do not.
    """

    def __init__(self, layers: Mapping[str, PreconditionedLayer], *, keeps_rows: bool) -> None:
        self._layers = layers
        self._keeps_rows = keeps_rows
        self._pools: dict[str, _Pool] = {}

    def __len__(self) -> int:
        return len(self._pools)

    def clear(self) -> None:
        """Forgets all rows."""
        self._pools.clear()

    @torch.no_grad()
    def add(self, layer: PreconditionedLayer, inputs: Tensor, grad: Tensor) -> None:
        """Take one call of a layer in: its input and the gradient at its output."""
        if layer.name not in self._pools:
            keeps = self._keeps_rows and world_size() == 1
            self._pools[layer.name] = _Pool(RowSum(keeps_rows=keeps), RowSum(keeps_rows=keeps))
        pool = self._pools[layer.name]
        for rows in input_rows(layer.module, inputs.to(layer.dtype)):
            pool.inputs.add(rows)
        pool.outputs.add(output_rows(layer.module, grad.to(layer.dtype)))

    def totals(self, *counts: int) -> tuple[list[int], list[int]]:
        """Numbers summed over the processes.

        Args:
            counts: Counts of this process.

        Returns:
            The sums of the counts, and the rows of each layer.
        """
        rows = [
            self._pools[name].outputs.count if name in self._pools else 0 for name in self._layers
        ]
        if not rows:
            return list(counts), rows
        device = next(iter(self._layers.values())).module.weight.device
        here = [*counts, *rows]
        if world_size() > 1:
            here = sum_over_ranks(torch.tensor(here, device=device)).tolist()
        return here[: len(counts)], here[len(counts) :]

    def factors(
        self, divisors: list[int], output_scale: float
    ) -> Iterator[tuple[PreconditionedLayer, tuple[Factor, Factor]]]:
        r"""Yield the factors of every layer with rows on some process.

        Args:
            divisors: What the sum over the inputs of each layer is divided by, such as its rows
                on all processes, from ``totals``; 0 where there are none.
            output_scale: What the sum of the squared output gradients is multiplied by.

        Yields:
            The layer with A and B.
        """
        for (name, layer), divisor in zip(self._layers.items(), divisors, strict=True):
            if divisor == 0:
                continue
            pool = self._pools.get(name)
            if world_size() == 1 and pool is not None:
                yield layer, (pool.inputs.factor(1 / divisor), pool.outputs.factor(output_scale))
                continue
            sizes = layer.module.weight[0].numel(), len(layer.module.weight) // layer.groups
            inputs, outputs = (
                self._summed(layer, size, None if pool is None else pool[side].matrix())
                for side, size in enumerate(sizes)
            )
            averaged = Factor(inputs / divisor, is_rows=False)
            yield layer, (averaged, Factor(outputs * output_scale, is_rows=False))

    def _summed(self, layer: PreconditionedLayer, size: int, matrix: Tensor | None) -> Tensor:
        """Sum over all processes; one without rows adds zeros."""
        shape = layer.groups, packed_size(size)
        zeros = layer.module.weight.new_zeros(shape, dtype=layer.dtype)
        return unpack(sum_over_ranks(zeros if matrix is None else pack(matrix)), size)
