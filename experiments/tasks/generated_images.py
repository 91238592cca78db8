"""Generated images of any shape: models and methods are tried without a data set."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.images import Augmentation, ImageSplit, Normalization, stratified_cut
from experiments.tasks.objective import CLASSIFICATION
from experiments.tasks.source import Source
from experiments.tasks.task import Task

SOURCE = Source(
    "Generated images, noise around a pattern a class",
    size="nothing to fetch",
    terms="none: they are made up",
    made_up=True,
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    image_size: int,
    in_channels: int,
    num_classes: int,
    train_images: int,
    test_images: int,
    data_seed: int,
    validation_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Build the task: noise around one random pattern a class, so that there is something to learn.

    Args:
        data_dir: Not used.
        cache_dir: Not used.
        image_size: Side of the images.
        in_channels: Channels.
        num_classes: Classes, which the labels go through in turn.
        train_images: Images to train on.
        test_images: Images of the test split.
        data_seed: Fixes the images; it is not the run's seed.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.
        crop_padding: Zero padding before the random crop; 0 turns it off.
        flip: Whether to mirror half of the images.
        cutout_size: Side of the Cutout square; 0 turns it off.

    Raises:
        UserError: If a count is not positive.
    """
    check(
        data_dir,
        image_size=image_size,
        in_channels=in_channels,
        num_classes=num_classes,
        train_images=train_images,
        test_images=test_images,
    )
    generator = torch.Generator().manual_seed(data_seed)
    shape = (in_channels, image_size, image_size)
    patterns = torch.randint(256, (min(num_classes, train_images), *shape), generator=generator)
    normalization = Normalization((0.5,) * in_channels, (0.25,) * in_channels)
    augmentation = Augmentation(crop_padding=crop_padding, flip=flip, cutout_size=cutout_size)
    digest = hashlib.sha256()

    def generate(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % len(patterns)
        noise = torch.randint(-32, 33, (count, *shape), generator=generator)
        images = (patterns[labels] + noise).clamp(0, 255).to(torch.uint8)
        digest.update(images.numpy().tobytes())
        return images, labels

    def split(images: Tensor, labels: Tensor) -> ImageSplit:
        return ImageSplit(images, labels, normalization=normalization, augmentation=augmentation)

    (images, labels), test = generate(train_images), generate(test_images)
    rest, part = stratified_cut(labels, validation_fraction, split_seed)
    return Task(
        name="generated_images",
        objective=CLASSIFICATION,
        unit="images",
        train=split(images[rest], labels[rest]),
        validation=split(images[part], labels[part]) if len(part) else None,
        test=split(*test),
        model_arguments={
            "in_channels": in_channels,
            "num_classes": num_classes,
            "image_size": image_size,
        },
        checksums={"generated": digest.hexdigest()},
    )


def check(data_dir: Path, **counts: object) -> None:
    """Raise ``UserError`` if a count of ``build`` that is given is not positive."""
    for key in ("image_size", "in_channels", "num_classes", "train_images", "test_images"):
        value = counts.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"Invalid task.{key}: {value}. Must be a whole number >= 1.")
