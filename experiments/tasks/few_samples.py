"""A task with few samples, to look at a run: the same ones in every batch, or fewer to evaluate."""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.batches import mapped, rows
from experiments.tasks.task import Split, Task


class Repeated(Split):
    """As many samples as a split has, all of them its first few over and over.

    They are read in order and without augmentation, and kept. So a batch of as many is the same
    each time.

    Args:
        split: Any.
        samples: How many different ones.
    """

    def __init__(self, split: Split, samples: int) -> None:
        self._length = len(split)
        self._samples = min(samples, len(split))
        self._batch = next(split.batches(self._samples))

    def __len__(self) -> int:
        """Return the number of samples, repetitions included."""
        return self._length

    def to(self, device: torch.device) -> None:
        """Keep the samples on the device."""
        self._batch = mapped(lambda part: part.to(device), self._batch)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """Yield batches in order, whatever the seed. See ``Split``."""
        for index in self._index_batches(batch_size, start, None):
            picked = index % self._samples
            yield mapped(partial(_picked, index=picked), self._batch)


def _picked(part: Tensor, *, index: Tensor) -> Tensor:
    return part[index.to(part.device)]


class First(Split):
    """The first few samples of a split.

    Args:
        split: Any.
        samples: How many; all of a split that has no more.
    """

    def __init__(self, split: Split, samples: int) -> None:
        self._split, self._samples = split, min(samples, len(split))

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._samples

    def to(self, device: torch.device) -> None:
        """Hand the device on."""
        self._split.to(device)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """Yield batches in order, whatever the seed. See ``Split``."""
        left = self._samples - start * batch_size
        if left <= 0:
            return
        for batch in self._split.batches(min(batch_size, self._samples), start=start):
            yield mapped(operator.itemgetter(slice(left)), batch)
            left -= rows(batch)
            if left <= 0:  # before another batch is read
                return

    @property
    def facts(self) -> Mapping[str, float]:
        """Those of the whole split in the share of these samples.

        A split of text knows the words and characters of its whole text alone.
        """
        share = self._samples / len(self._split)
        return {name: share * fact for name, fact in self._split.facts.items()}


def cut(task: Task, *, train: int | None, validation: int | None) -> Task:
    """Leave of train and validation parts that are the same in every run.

    Args:
        task: Any.
        train: How many samples to train on; None, or more than there are: all.
        validation: The same of validation.
    """
    if train is None and validation is None:
        return task
    return replace(
        task, train=_part(task.train, train), validation=_part(task.validation, validation)
    )


def _part(split: Split | None, count: int | None) -> Any:
    if split is None or count is None or count >= len(split):
        return split
    order = np.random.RandomState(0).permutation(len(split))  # its stream is kept across releases
    return split.part(torch.from_numpy(np.sort(order[:count])))


def limited(task: Task, debug: Mapping[str, Any] | None) -> Task:
    """Limit the task to what a run is to see.

    Args:
        task: Any.
        debug: The section of the config: ``train_samples`` for ``Repeated`` training samples,
            ``evaluation_samples`` for the ``First`` ones of the other splits, or None for all.

    Raises:
        UserError: If a number is none.
    """
    if debug is None:
        return task
    for key in ("train_samples", "evaluation_samples"):
        if debug[key] is not None and not (type(debug[key]) is int and debug[key] >= 1):
            raise UserError(
                f"Invalid debug.{key}: {debug[key]}. Must be a whole number >= 1, or null."
            )
    train, few = debug["train_samples"], debug["evaluation_samples"]
    return replace(
        task,
        train=task.train if train is None else Repeated(task.train, train),
        validation=_first(task.validation, few),
        test=_first(task.test, few),
    )


def _first(split: Split | None, samples: int | None) -> Split | None:
    return split if split is None or samples is None else First(split, samples)
