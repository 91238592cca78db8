"""What CIFAR-10 and CIFAR-100 share: the official files, through torchvision."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from experiments.errors import UserError
from experiments.tasks.augmentation import Augmentation
from experiments.tasks.download import fetch
from experiments.tasks.images import Normalization, image_task
from experiments.tasks.source import Remote, Source
from experiments.tasks.task import Task

TERMS = (
    "no formal licence; its author asks to cite Krizhevsky, Learning Multiple Layers of Features "
    "from Tiny Images, 2009"
)


def official_source(dataset: type[CIFAR10], *, title: str, size: str) -> Source:
    """Where the official archive is, by torchvision's table."""
    archive = Remote(dataset.url, dataset.filename, f"md5:{dataset.tgz_md5}", unpack=True)
    return Source(title, size, TERMS, place=dataset.base_folder, files=(archive,))


def official_task(
    name: str,
    dataset: type[CIFAR10],
    *,
    source: Source,
    data_dir: Path,
    download: bool,
    num_classes: int,
    validation_fraction: float,
    split_seed: int,
    normalization: Normalization,
    augmentation: Augmentation,
) -> Task:
    """Verify and read the official files, and make the task.

    Raises:
        UserError: If a file is missing, truncated, or another one, or the download fails.
    """
    checksums = provide(name, dataset, source=source, data_dir=data_dir, download=download)
    return image_task(
        name,
        train=_read(dataset, data_dir, train=True),
        test=_read(dataset, data_dir, train=False),
        num_classes=num_classes,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=normalization,
        augmentation=augmentation,
        checksums=checksums,
    )


def provide(
    name: str, dataset: type[CIFAR10], *, source: Source, data_dir: Path, download: bool
) -> dict[str, str]:
    """Verify the official files; fetch the archive where one is missing or another one.

    Returns:
        sha256 by file.

    Raises:
        UserError: If they are not there in the end.
    """
    try:
        return verify(name, dataset, data_dir)
    except UserError:
        if not download:
            raise
    fetch(source, data_dir)
    return verify(name, dataset, data_dir)


def verify(name: str, dataset: type[CIFAR10], data_dir: Path) -> dict[str, str]:
    """Compare the official files with torchvision's md5 table.

    Returns:
        sha256 by file.

    Raises:
        UserError: If a file is missing or another one.
    """
    hint = (
        f"Fetch it with 'make data TASK={name}', or set data_dir=FOLDER (with make: DATA=FOLDER) "
        f"to a folder that holds {dataset.base_folder}/, or add task.download=true."
    )
    meta = (dataset.meta["filename"], dataset.meta["md5"])
    folder = data_dir / dataset.base_folder
    if not folder.is_dir():
        raise UserError(f"Data folder {folder} does not exist. {hint}")
    checksums = {}
    for file, expected in (*dataset.train_list, *dataset.test_list, meta):
        path = folder / file
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"Data file {path} is missing. {hint}") from None
        except OSError as error:
            raise UserError(f"Data file {path} cannot be read: {error.strerror}. {hint}") from None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != expected:
            raise UserError(
                f"Data file {path} has md5 {found} in {len(content)} bytes, expected {expected} "
                f"(empty, truncated, or corrupt). {hint}"
            )
        checksums[file] = hashlib.sha256(content).hexdigest()
    return checksums


def _read(dataset: type[CIFAR10], data_dir: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    read = dataset(str(data_dir), train=train)
    images = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(read.targets)
