"""What the training loop knows of a task: three splits, their batches, and an objective."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.objective import Objective


class Split(ABC):
    """A fixed set of samples, held in memory or read as they are asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples: images, or token windows."""

    @abstractmethod
    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """Yield ``(inputs, targets)`` for one pass over the split, the ragged last batch included.

        Each is a tensor, or a structure of them with the same rows (``mapped`` of ``batches``).

        Args:
            batch_size: Samples a batch.
            seed: None reads in order and without augmentation (evaluation). A number shuffles and
                augments; it fixes every random draw sample by sample.
            start: Batches to leave out at the beginning. Those that follow are the same for every
                ``start``.
        """

    def to(self, device: torch.device) -> None:  # noqa: B027  a split need not move anything
        """Let batches come on ``device`` where the split can keep its data there.

        What a batch holds does not depend on it. A split that moves nothing gives batches on the
        CPU, as without this call.

        Args:
            device: Where the model is.
        """

    def num_batches(self, batch_size: int) -> int:
        """Return how many batches one pass yields."""
        return math.ceil(len(self) / batch_size)

    @property
    def facts(self) -> Mapping[str, float]:
        """What a metric has to know of the split besides sums, as how many words it spells."""
        return {}

    @property
    def known_targets(self) -> Tensor | None:
        """All targets, ``[N, ...]``, where they are one tensor in memory; else None."""
        return None

    def part(self, index: Tensor) -> "Split":
        """Return some of the samples as a split.

        Args:
            index: Which, ``[n]``, ascending.

        Raises:
            UserError: If they cannot be picked.
        """
        raise UserError(f"Invalid limit: {len(index)}. A {type(self).__name__} cannot be cut.")

    def _index_batches(
        self, batch_size: int, start: int, generator: torch.Generator | None
    ) -> Iterator[Tensor]:
        """Yield the sample indices of each batch, ``[batch]``; shuffled if there is a generator."""
        if batch_size < 1:
            raise ValueError(f"Invalid batch_size: {batch_size}. Must be >= 1.")
        if start < 0:
            raise ValueError(f"Invalid start: {start}. Must be >= 0.")
        order = torch.arange(len(self))
        if generator is not None:
            order = torch.randperm(len(self), generator=generator)
        for first in range(start * batch_size, len(self), batch_size):
            yield order[first : first + batch_size]


IMAGE_ARGUMENTS = ("in_channels", "num_classes", "image_size")
TEXT_ARGUMENTS = ("vocab_size", "context")
VECTOR_ARGUMENTS = ("features", "outputs")
OWN_ARGUMENTS = ("make",)
"""What a model is told of images, of text, of vectors, and by a task that makes it itself."""


@dataclass(frozen=True)
class Task:
    """A data set with its splits, and what is minimised and measured on them.

    Attributes:
        name: Name of the task, the stem of its YAML.
        objective: The loss and the metrics.
        unit: What throughput counts, as ``images`` or ``tokens``.
        train: Samples to train on.
        validation: Samples cut from train, or the official part; None where there is none.
        test: Samples that no choice may depend on; None in a run that does not look at them.
        model_arguments: What the model has to know of the data.
        checksums: sha256 of what was read, by file.
    """

    name: str
    objective: Objective
    unit: str
    train: Split
    validation: Split | None
    test: Split | None
    model_arguments: dict[str, Any]
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """Which of its metrics it is judged by, as ``accuracy_percent``."""
        return self.objective.judged_by.name

    @property
    def higher_is_better(self) -> bool:
        """Direction of ``metric``."""
        return self.objective.judged_by.higher_is_better

    @property
    def units(self) -> dict[str, str]:
        """What the loss and each metric are counted in, by name."""
        return self.objective.units

    @property
    def judged_on(self) -> str:
        """Column of a row that choices during training go by: on test only without validation."""
        return f"{'test' if self.validation is None else 'validation'}_{self.metric}"

    def without_test(self) -> "Task":
        """Return the task as a choice may see it.

        Raises:
            UserError: If nothing is left to evaluate on.
        """
        if self.validation is None:
            raise UserError(
                f"Invalid evaluate_test: false. Must be true for {self.name}, which has no "
                "validation split."
            )
        return replace(self, test=None)
