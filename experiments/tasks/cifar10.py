"""CIFAR-10 (Krizhevsky, 2009) from the official files, through torchvision; official test split."""

import hashlib
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from experiments.errors import UserError
from experiments.tasks.images import Augmentation, Normalization, image_task
from experiments.tasks.task import Task

HINT = (
    f"Set data_dir=FOLDER (with make: DATA=FOLDER) to a folder that holds {CIFAR10.base_folder}/, "
    "or add task.download=true."
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
    augmentation = Augmentation(crop_padding=crop_padding, flip=flip, cutout_size=cutout_size)
    checksums = _provide(data_dir, download=download)
    return image_task(
        "cifar10",
        train=_read(data_dir, train=True),
        test=_read(data_dir, train=False),
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        augmentation=augmentation,
        checksums=checksums,
    )


def check(data_dir: Path, *, download: bool = False, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there.

    With ``download`` this fetches the archive, so that the runs of a sweep find it and do not
    all fetch it at once.
    """
    _provide(data_dir, download=download)


def _provide(data_dir: Path, *, download: bool) -> dict[str, str]:
    try:
        return verify(data_dir)
    except UserError:
        if not download:
            raise
    try:
        CIFAR10(str(data_dir), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"CIFAR-10 could not be downloaded to {data_dir}: {reason}") from None
    return verify(data_dir)


def verify(data_dir: Path) -> dict[str, str]:
    """Compare the official files with torchvision's md5 table.

    Returns:
        sha256 by file.

    Raises:
        UserError: If a file is missing or another one.
    """
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    folder = data_dir / CIFAR10.base_folder
    if not folder.is_dir():
        raise UserError(f"Data folder {folder} does not exist. {HINT}")
    checksums = {}
    for name, expected in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        path = folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"Data file {path} is missing. {HINT}") from None
        except OSError as error:
            raise UserError(f"Data file {path} cannot be read: {error.strerror}. {HINT}") from None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != expected:
            raise UserError(
                f"Data file {path} has md5 {found} in {len(content)} bytes, expected {expected} "
                f"(empty, truncated, or corrupt). {HINT}"
            )
        checksums[name] = hashlib.sha256(content).hexdigest()
    return checksums


def _read(data_dir: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    dataset = CIFAR10(str(data_dir), train=train)
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(dataset.targets)
