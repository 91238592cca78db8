"""What CIFAR-10 and CIFAR-100 share: the official files, through torchvision."""

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True)
class OfficialTask:
    """One of the two, as a table of what they differ in.

    Attributes:
        name: Name of the task.
        dataset: Reads it, and knows its archive and checksums.
        title: What it is.
        size: Of the archive and of what is in it.
        num_classes: How many there are.
        normalization: Of the training images, as AdaFisher's released code has them.
    """

    name: str
    dataset: type[CIFAR10]
    title: str
    size: str
    num_classes: int
    normalization: Normalization

    @property
    def source(self) -> Source:
        """Where the official archive is, by torchvision's table."""
        dataset = self.dataset
        archive = Remote(dataset.url, dataset.filename, f"md5:{dataset.tgz_md5}", unpack=True)
        return Source(self.title, self.size, TERMS, place=dataset.base_folder, files=(archive,))

    def build(
        self,
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
            data_dir: Holds the official folder, as ``cifar-10-batches-py``.
            cache_dir: Not used.
            download: Whether to fetch the official archive where a file is missing or another one.
            validation_fraction: Share of the training images that is the validation split; 0 for
                none.
            split_seed: Fixes that stratified cut; it is not the run's seed.
            crop_padding: Zero padding before the random crop; 0 turns it off.
            flip: Whether to mirror half of the images.
            cutout_size: Side of the Cutout square; 0 turns it off.

        Raises:
            UserError: If a file is missing, truncated, or another one, or the download fails.
        """
        checksums = self.provide(data_dir, download=download)
        return image_task(
            self.name,
            train=_read(self.dataset, data_dir, train=True),
            test=_read(self.dataset, data_dir, train=False),
            num_classes=self.num_classes,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            normalization=self.normalization,
            augmentation=Augmentation(
                crop_padding=crop_padding, flip=flip, cutout_size=cutout_size
            ),
            checksums=checksums,
        )

    def check(self, data_dir: Path, *, download: bool = False, **keywords: object) -> None:
        """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there.

        With ``download`` this fetches the archive, so that the runs of a sweep find it and do not
        all fetch it at once.
        """
        self.provide(data_dir, download=download)

    def provide(self, data_dir: Path, *, download: bool) -> dict[str, str]:
        """Verify the official files; fetch the archive where one is missing or another one.

        Returns:
            sha256 by file.

        Raises:
            UserError: If they are not there in the end.
        """
        try:
            return verify(self.name, self.dataset, data_dir)
        except UserError:
            if not download:
                raise
        fetch(self.source, data_dir)
        return verify(self.name, self.dataset, data_dir)


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
