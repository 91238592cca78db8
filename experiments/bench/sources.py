"""Where the data part of the benchmark takes its batches from; the pixels are random."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from experiments.tasks.augmentation import Augmentation
from experiments.tasks.cifar10 import TASK as CIFAR10
from experiments.tasks.images import ImageSplit, image_task
from experiments.tasks.task import Split, Task

COUNT, CLASSES, SIDE = 50_000, 10, 32


def make_task(
    *,
    data_dir: Path,
    cache_dir: Path,
    validation_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Make a task like ``cifar10_jpeg`` of random pixels; arguments as there."""
    generator = torch.Generator().manual_seed(0)
    shape = (COUNT, 3, SIDE, SIDE)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    return image_task(
        "random images",
        train=(images, labels),
        test=(images[:1], labels[:1]),
        num_classes=CLASSES,
        validation_fraction=0.0,
        split_seed=split_seed,
        normalization=CIFAR10.normalization,
        augmentation=Augmentation(crop_padding=crop_padding, flip=flip, cutout_size=cutout_size),
        checksums={},
    )


class RepeatedBatch(Split):
    """The first batch of another split, again and again, on the device where it is trained on."""

    def __init__(self, split: Split, batch_size: int, device: torch.device) -> None:
        images, labels = next(split.batches(batch_size, seed=0))
        self._batch = images.to(device), labels.to(device)
        self._length = len(split)

    def __len__(self) -> int:
        """Return the number of images that a pass would have."""
        return self._length

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batch as often as a pass has batches."""
        for _ in range(start, self.num_batches(batch_size)):
            yield self._batch


class Pictures(Dataset[tuple[Tensor, int]]):
    """The images one by one, as torchvision's own CIFAR-10 gives them, with its transforms."""

    def __init__(self, split: ImageSplit, task: Mapping[str, Any]) -> None:
        self._images = split.images.cpu().permute(0, 2, 3, 1).numpy()
        self._labels = split.labels.tolist()
        share = (task["cutout_size"] / SIDE) ** 2
        self._transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(SIDE, padding=task["crop_padding"]),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(CIFAR10.normalization.mean, CIFAR10.normalization.std),
                # A square like Cutout's; that it lies inside the image does not change its cost.
                transforms.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0)),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, changed at random and normalised, and its label."""
        return self._transform(self._images[index]), self._labels[index]


class PlainLoader(Split):
    """What a short training script does: a shuffled ``DataLoader`` over single images."""

    def __init__(self, pictures: Dataset[Any], length: int, *, workers: int, pin: bool) -> None:
        self._pictures, self._length, self._workers, self._pin = pictures, length, workers, pin

    def __len__(self) -> int:
        """Return the number of images."""
        return self._length

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a new pass; it cannot begin later than at its beginning."""
        yield from DataLoader(
            self._pictures,
            batch_size=batch_size,
            shuffle=True,
            num_workers=self._workers,
            pin_memory=self._pin,
        )
