"""CIFAR-10 (Krizhevsky, 2009) from the official files, through torchvision; official test split."""

from pathlib import Path

from torchvision.datasets import CIFAR10

from experiments.tasks.augmentation import Augmentation
from experiments.tasks.cifar import official_source, official_task, provide
from experiments.tasks.images import Normalization
from experiments.tasks.task import Task

SOURCE = official_source(
    CIFAR10,
    title="CIFAR-10: 60,000 colour images 32x32, 10 classes",
    size="170 MB to fetch, 186 MB unpacked",
)
# Of the training images, as AdaFisher's released code has them.
NORMALIZATION = Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    download: bool,
    validation_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Build the task.

    Args:
        data_dir: Holds the official folder ``cifar-10-batches-py``.
        cache_dir: Not used.
        download: Whether to fetch the official archive where a file is missing or another one.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.
        crop_padding: Zero padding before the random crop; 0 turns it off.
        flip: Whether to mirror half of the images.
        cutout_size: Side of the Cutout square; 0 turns it off.

    Raises:
        UserError: If a file is missing, truncated, or another one, or the download fails.
    """
    return official_task(
        "cifar10",
        CIFAR10,
        source=SOURCE,
        data_dir=data_dir,
        download=download,
        num_classes=10,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        augmentation=Augmentation(crop_padding=crop_padding, flip=flip, cutout_size=cutout_size),
    )


def check(data_dir: Path, *, download: bool = False, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there.

    With ``download`` this fetches the archive, so that the runs of a sweep find it and do not
    all fetch it at once.
    """
    provide("cifar10", CIFAR10, source=SOURCE, data_dir=data_dir, download=download)
