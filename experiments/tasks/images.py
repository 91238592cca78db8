"""Images in memory: normalisation, stratified cuts, and the task made of them.

Stored images are uint8 ``[N, C, H, W]``; batches are float32 ``[B, C, H, W]``, normalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    crop_and_flip,
    cutout,
    draw,
    resized_crop,
)
from experiments.tasks.objective import CLASSIFICATION
from experiments.tasks.task import Split, Task

RESIDENT_SHARE = 0.25
"""Share of a device's free memory that one split may take; the rest is for the training."""


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, on the scale where ``largest`` is 1.

    Attributes:
        mean: ``[C]``.
        std: ``[C]``.
        largest: Largest value that a stored pixel can have.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    largest: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 or float32 ``[B, C, H, W]`` to normalised float32 of the same shape."""
        mean, std = _constants(self, images.device)
        return (images.float() - mean) / std


@lru_cache
def _constants(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, ``[C, 1, 1]``, kept so that a batch copies nothing anew."""
    mean = torch.tensor(normalization.mean).view(-1, 1, 1) * normalization.largest
    std = torch.tensor(normalization.std).view(-1, 1, 1) * normalization.largest
    return mean.to(device), std.to(device)


class ImageSplit(Split):
    """Labelled images of one split.

    Args:
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        normalization: What every batch goes through.
        augmentation: What happens to training batches.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        normalization: Normalization,
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        self.images = images
        self.labels = labels
        self._normalise = normalization
        self._augmentation = augmentation

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def known_targets(self) -> Tensor:
        """The labels, ``[N]``."""
        return self.labels

    def to(self, device: torch.device) -> None:
        """Keep the stored images on ``device`` if they take little of its free memory."""
        size = sum(t.numel() * t.element_size() for t in (self.images, self.labels))
        if size <= RESIDENT_SHARE * free_bytes(device):
            self.images, self.labels = self.images.to(device), self.labels.to(device)

    def part(self, index: Tensor) -> "ImageSplit":
        """Return some of the images. See ``Split``."""
        return ImageSplit(
            self.images[index],
            self.labels[index],
            normalization=self._normalise,
            augmentation=self._augmentation,
        )

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: float32 ``[B, C, H, W]``, int64 ``[B]``. See ``Split``."""
        device = self.images.device
        if seed is None:
            for index in self._index_batches(batch_size, start, None):
                index = index.to(device)
                yield self._normalise(self.images[index]), self.labels[index]
            return
        # Every draw is made on the CPU, so that a batch is the same on any device. One draw a
        # sample, made before the first batch, so that a later batch does not depend on which
        # batches came before it.
        generator = torch.Generator().manual_seed(seed)
        side = self.images.shape[-1]
        draws = draw(self._augmentation, len(self), side=side, generator=generator).to(device)
        augmentation = self._augmentation
        for index in self._index_batches(batch_size, start, generator):
            index = index.to(device, non_blocking=True)
            images = self.images[index]
            if draws.boxes is not None:
                images = resized_crop(images, draws.boxes[index], draws.flips[index])
            elif augmentation.crop_padding or augmentation.flip:
                padding = augmentation.crop_padding
                images = crop_and_flip(images, draws.offsets[index], draws.flips[index], padding)
            images = self._normalise(images)
            if augmentation.cutout_size:
                images = cutout(images, draws.centers[index], augmentation.cutout_size)
            yield images, self.labels[index]


def free_bytes(device: torch.device) -> int:
    """Memory of its own that ``device`` has left; 0 for one that has none, or does not say."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def stratified_cut(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Cut a fixed part out of a set of labels, with every class in its share.

    The part has ``round(fraction * N)`` samples; each class gives ``fraction`` of its samples,
    rounded down or up by largest remainders.

    Args:
        labels: int64 ``[N]``.
        fraction: Share of the part, in ``[0, 1)``.
        seed: Fixes the cut. numpy's ``RandomState`` keeps its stream across releases.

    Returns:
        Sorted indices of the rest and of the part.

    Raises:
        UserError: If ``fraction`` is out of range or leaves nothing.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"Invalid split fraction: {fraction}. Must be in [0, 1).")
    random = np.random.RandomState(seed)
    classes, counts = torch.unique(labels, return_counts=True)
    exact = counts.double() * fraction
    take = exact.floor().long()
    missing = round(fraction * len(labels)) - int(take.sum())
    take[torch.argsort(exact - take, descending=True, stable=True)[:missing]] += 1
    part = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in zip(classes.tolist(), take.tolist(), strict=True):
        members = (labels == label).nonzero().flatten().numpy()
        part[torch.from_numpy(random.permutation(members)[:number])] = True
    if part.all():
        raise UserError(f"Invalid split fraction: {fraction}. It takes all {len(labels)} samples.")
    return (~part).nonzero().flatten(), part.nonzero().flatten()


def image_task(
    name: str,
    *,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    num_classes: int,
    validation_fraction: float,
    split_seed: int,
    normalization: Normalization,
    augmentation: Augmentation = NO_AUGMENTATION,
    checksums: dict[str, str],
) -> Task:
    """Make a task measured by accuracy, with a validation split cut from train.

    Args:
        name: Name of the task.
        train: Images uint8 ``[N, C, H, H]`` and labels int64 ``[N]``.
        test: The same of the test split.
        num_classes: Classes; labels are ``0 .. num_classes - 1``.
        validation_fraction: Share of ``train`` that becomes the validation split, stratified by
            class; 0 for none.
        split_seed: Fixes that cut; it is not the run's seed.
        normalization: What all images go through.
        augmentation: What training images go through besides.
        checksums: sha256 of what was read, by file.
    """
    images, labels = train
    channels, side = images.shape[1:3]
    rest, part = stratified_cut(labels, validation_fraction, split_seed)

    def split(images: Tensor, labels: Tensor) -> ImageSplit:
        return ImageSplit(images, labels, normalization=normalization, augmentation=augmentation)

    return Task(
        name=name,
        objective=CLASSIFICATION,
        unit="images",
        # Without a cut the images are used as they are: a copy of a large set is a gigabyte.
        train=split(images[rest], labels[rest]) if len(part) else split(images, labels),
        validation=split(images[part], labels[part]) if len(part) else None,
        test=split(*test),
        model_arguments={"in_channels": channels, "num_classes": num_classes, "image_size": side},
        checksums=checksums,
    )
