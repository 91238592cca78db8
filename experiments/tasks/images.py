"""Images in memory: normalisation, augmentation, stratified cuts, and the task made of them.

Stored images are uint8 ``[N, C, H, W]``; batches are float32 ``[B, C, H, W]``, normalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.tasks.task import Split, Task


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image; zero or False turns one off.

    Attributes:
        crop_padding: Pixels of zero padding on every side before a crop of the original size.
        flip: Mirror left to right with probability 1/2.
        cutout_size: Side of the square that is set to the mean (zero after normalisation).
            DeVries and Taylor (2017, arXiv 1708.04552): the centre is uniform over the image, so
            that the square may reach over its edge.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout_size: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no size and no switch."""
        for key, value in (("crop_padding", self.crop_padding), ("cutout_size", self.cutout_size)):
            if not isinstance(value, int) or value < 0:
                raise UserError(f"Invalid {key}: {value}. Must be an integer >= 0.")
        if not isinstance(self.flip, bool):
            raise UserError(f"Invalid flip: {self.flip}. Must be true or false.")


NO_AUGMENTATION = Augmentation()


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
        """Map uint8 ``[B, C, H, W]`` to normalised float32 of the same shape."""
        mean = torch.tensor(self.mean).view(-1, 1, 1) * self.largest
        std = torch.tensor(self.std).view(-1, 1, 1) * self.largest
        return (images.float() - mean) / std


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pad with zeros, crop to the original size, and mirror some of the crops.

    Args:
        images: ``[B, C, H, W]``.
        offsets: Row and column where the crop starts in the padded image, ``[B, 2]`` int64, each
            in ``0 .. 2 * padding``; ``padding`` is the middle.
        flips: Which crops to mirror left to right, ``[B]`` bool.
        padding: Pixels added on every side.

    Returns:
        ``[B, C, H, W]`` of the same type.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    columns = torch.arange(width).expand(len(images), -1)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + offsets[:, 1:]
    rows = torch.arange(height) + offsets[:, :1]
    sample = torch.arange(len(images))[:, None, None]
    # The slice between index tensors puts the channels last.
    cropped = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


def cutout(images: Tensor, centers: Tensor, size: int) -> Tensor:
    """Set a square of each image to zero.

    Args:
        images: ``[B, C, H, W]``.
        centers: Row and column of each square's centre, ``[B, 2]`` int64. The square covers
            ``center - size // 2 .. center - size // 2 + size - 1``, as far as it is in the image.
        size: Side of the square.

    Returns:
        ``[B, C, H, W]``.
    """
    height, width = images.shape[-2:]
    first = centers - size // 2
    rows = torch.arange(height) - first[:, :1]
    columns = torch.arange(width) - first[:, 1:]
    in_rows = (rows >= 0) & (rows < size)
    in_columns = (columns >= 0) & (columns < size)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(hole[:, None], 0.0)


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

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: float32 ``[B, C, H, W]``, int64 ``[B]``. See ``Split``."""
        if seed is None:
            for index in self._index_batches(batch_size, start, None):
                yield self._normalise(self.images[index]), self.labels[index]
            return
        generator = torch.Generator().manual_seed(seed)
        # One draw a sample, made before the first batch, so that a later batch does not depend on
        # which batches came before it.
        offsets, flips, centers = self._draws(generator)
        size = self._augmentation.cutout_size
        for index in self._index_batches(batch_size, start, generator):
            images = self.images[index]
            if self._augmentation.crop_padding or self._augmentation.flip:
                padding = self._augmentation.crop_padding
                images = crop_and_flip(images, offsets[index], flips[index], padding)
            images = self._normalise(images)
            if size:
                images = cutout(images, centers[index], size)
            yield images, self.labels[index]

    def _draws(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return crop offsets ``[N, 2]``, flips ``[N]`` and cutout centres ``[N, 2]``."""
        count, size = len(self), (len(self), 2)
        side = self.images.shape[-1]
        offsets = torch.randint(2 * self._augmentation.crop_padding + 1, size, generator=generator)
        flips = torch.randint(2, (count,), generator=generator).bool()
        centers = torch.randint(side, size, generator=generator)
        return offsets, flips & self._augmentation.flip, centers


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
    validation_fraction: float,
    split_seed: int,
    normalization: Normalization,
    augmentation: Augmentation = NO_AUGMENTATION,
    checksums: dict[str, str],
) -> Task:
    """Make a ten-class task, measured by accuracy, with a validation split cut from train.

    Args:
        name: Name of the task.
        train: Images uint8 ``[N, C, H, H]`` and labels int64 ``[N]``.
        test: The same of the test split.
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
        metric="accuracy_percent",
        higher_is_better=True,
        unit="images",
        train=split(images[rest], labels[rest]),
        validation=split(images[part], labels[part]) if len(part) else None,
        test=split(*test),
        model_arguments={"in_channels": channels, "num_classes": 10, "image_size": side},
        checksums=checksums,
    )
