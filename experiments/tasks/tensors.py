"""Splits that are tensors in memory, and functions that tasks of vectors share."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.batches import mapped, rows
from experiments.tasks.task import Split


class TensorSplit(Split):
    """Samples in memory, as tensors or structures of them, all with one number of rows.

    Args:
        inputs: ``[N, ...]``, what the model is given.
        targets: ``[N, ...]``, what the objective compares its output with.

    Raises:
        UserError: If there are no rows, or not as many of each tensor.
    """

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.targets = inputs, targets
        lengths: list[int] = []
        mapped(lambda part: lengths.append(len(part)) or part, (inputs, targets))  # type: ignore[func-returns-value]
        if len(set(lengths)) != 1 or not lengths[0]:
            found = ", ".join(map(str, lengths)) or "none"
            raise UserError(
                f"Invalid split: tensors of {found} rows. Must have equally many, at least one."
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return rows(self.inputs) or rows(self.targets)

    @property
    def known_targets(self) -> Tensor | None:
        """The targets, where they are one tensor."""
        return self.targets if isinstance(self.targets, Tensor) else None

    def to(self, device: torch.device) -> None:
        """Keep the samples on the device: they are few enough for memory."""
        self.inputs, self.targets = mapped(
            lambda part: part.to(device), (self.inputs, self.targets)
        )

    def part(self, index: Tensor) -> "TensorSplit":
        """Return some of the samples. See ``Split``."""
        own = (self.inputs, self.targets)
        return TensorSplit(*mapped(partial(picked, index=index), own))

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """Yield ``(inputs, targets)``, shuffled where there is a seed. See ``Split``."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for index in self._index_batches(batch_size, start, generator):
            yield mapped(partial(picked, index=index), (self.inputs, self.targets))


def picked(part: Tensor, *, index: Tensor) -> Tensor:
    """Pick rows of a tensor, on whatever device it is."""
    return part[index.to(part.device)]


def cut(count: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Cut a fixed random part of ``round(fraction * count)`` out of so many samples.

    Returns:
        Sorted indices of the rest and of the part.

    Raises:
        UserError: If ``fraction`` is out of range or leaves nothing.
    """
    from experiments.tasks.images import stratified_cut

    return stratified_cut(torch.zeros(count, dtype=torch.int64), fraction, seed)


def squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error of each sample, summed over what it predicts: ``[B, ...]`` to ``[B]``."""
    return (outputs - targets).square().flatten(1).sum(1)
