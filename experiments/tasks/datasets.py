"""A torch ``Dataset`` or ``DataLoader`` as a split: read sample by sample, in this process."""

import random
from collections.abc import Callable, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from experiments.errors import UserError
from experiments.seeding import derive
from experiments.tasks.task import Split


class DatasetSplit(Split):
    """Samples of a map-style dataset.

    What a sample draws from the generators of torch, numpy or Python is fixed by the seed of the
    pass and its own index, and leaves no trace in them: neither where a pass begins nor what else
    draws changes a batch.

    Args:
        dataset: Has a length, and gives a sample an index: a pair ``(input, target)``, or anything
            else, which is then both.
        collate: Makes a batch of a list of samples.

    Raises:
        UserError: If the dataset has no length.
    """

    def __init__(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any] = default_collate
    ) -> None:
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise UserError(
                f"Invalid split: {type(dataset).__name__}. Must have a length and an item an index."
            )
        self._dataset, self._collate = dataset, collate

    @classmethod
    def of_loader(cls, loader: DataLoader[Any]) -> "DatasetSplit":
        """Take a loader's dataset and how it makes batches; their size and order are the run's.

        Raises:
            UserError: If it draws samples in a way of its own.
        """
        sampler: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        if type(sampler) is BatchSampler:
            sampler = sampler.sampler
        if type(sampler) not in (RandomSampler, SequentialSampler) or not _takes_each_once(
            sampler, loader.dataset
        ):
            raise UserError(
                f"Invalid split: a loader with a {type(sampler).__name__} of its own. The order of "
                "samples is the run's: must be a loader with shuffle=True or False, or a Dataset."
            )
        return cls(loader.dataset, collate_of(loader))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._dataset)

    def part(self, index: Tensor) -> "DatasetSplit":
        """Return some of the samples. See ``Split``."""
        return DatasetSplit(Subset(self._dataset, index.tolist()), self._collate)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """Yield ``(inputs, targets)``. See ``Split``."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for index in self._index_batches(batch_size, start, generator):
            yield pair(self._read(index, 0 if seed is None else seed))

    def _read(self, index: Tensor, seed: int) -> Any:
        states = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            samples = []
            for number in index.tolist():
                stream = derive(seed, number)
                torch.manual_seed(stream)
                random.seed(stream)
                np.random.seed(stream % 2**32)
                samples.append(self._dataset[number])
            batch = self._collate(samples)
        random.setstate(states[0])
        np.random.set_state(states[1])
        return batch


def collate_of(loader: DataLoader[Any]) -> Callable[[list[Any]], Any]:
    """Give how a loader makes a batch of samples; one that makes none converts each of them."""
    convert = loader.collate_fn
    if loader.batch_sampler is not None:
        return convert
    return lambda samples: default_collate([convert(sample) for sample in samples])


def _takes_each_once(sampler: Any, dataset: Any) -> bool:
    return not getattr(sampler, "replacement", False) and len(sampler) == len(dataset)


def pair(batch: Any) -> tuple[Any, Any]:
    """Take a batch apart into inputs and targets; one that is no pair is both."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0], batch[0]
    return batch, batch
