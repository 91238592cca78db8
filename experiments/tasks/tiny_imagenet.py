"""Tiny-ImageNet-200: 64x64 images, 200 classes of ImageNet, from the official folder.

Its test part has no labels, so its validation part is the test split, as is usual.
"""

import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.errors import UserError
from experiments.tasks.augmentation import Augmentation
from experiments.tasks.files import cached_arrays
from experiments.tasks.images import Normalization, image_task
from experiments.tasks.source import Remote, Source
from experiments.tasks.streaming import UNREADABLE, image_folder
from experiments.tasks.task import Task

FOLDER = "tiny-imagenet-200"
CLASSES, TRAIN_IMAGES, TEST_IMAGES, SIDE = 200, 100_000, 10_000, 64
NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's
SOURCE = Source(
    "Tiny-ImageNet-200: 100,000 training and 10,000 validation images 64x64, 200 classes",
    size="248 MB to fetch, 600 MB unpacked; 1.4 GB more once decoded",
    terms=(
        "made for Stanford's course CS231n from ImageNet, whose terms allow non-commercial "
        "research and education only"
    ),
    place=FOLDER,
    files=(
        Remote(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "tiny-imagenet-200.zip",
            "md5:90528d7ca1a48142e341f4ef8d21d0de",
            unpack=True,
        ),
    ),
)
HINT = (
    "Fetch it with 'make data TASK=tiny_imagenet', or set data_dir=FOLDER (with make: DATA=FOLDER) "
    f"to a folder that holds {FOLDER}/, the official one."
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    validation_fraction: float,
    split_seed: int,
    min_crop_area: float,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Build the task.

    Args:
        data_dir: Holds the official folder ``tiny-imagenet-200``.
        cache_dir: Where the decoded images are kept, 1.4 GB.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.
        min_crop_area: Smallest share of an image that the random crop keeps; 0 turns it off.
        flip: Whether to mirror half of the images.
        cutout_size: Side of the Cutout square; 0 turns it off.

    Raises:
        UserError: If a file is missing, empty or cannot be decoded.
    """
    augmentation = Augmentation(min_crop_area=min_crop_area, flip=flip, cutout_size=cutout_size)
    train, test = _list(data_dir / FOLDER)
    key = f"tiny_imagenet-{listing_digest([*train, *test])}"
    arrays = cached_arrays(cache_dir, key, lambda: _decode_all(train, test))
    return image_task(
        "tiny_imagenet",
        train=(torch.from_numpy(arrays["train_images"]), _labels(train)),
        test=(torch.from_numpy(arrays["test_images"]), _labels(test)),
        num_classes=CLASSES,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        augmentation=augmentation,
        checksums={"content of all images": bytes(arrays["sha256"]).hex()},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if a file is missing or empty; the arguments are those of ``build``."""
    _list(data_dir / FOLDER)


def read_text(path: Path, *, hint: str) -> str:
    """Read a text file of the data set.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise UserError(f"Data file {path} is missing. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Data file {path} cannot be read: {error}. {hint}") from None


def annotated(annotations: str, wnids: str) -> dict[str, int]:
    """Label of each validation image, by file name, in the order of their numbers.

    Args:
        annotations: ``val_annotations.txt``: name, wnid and a box a line, by tabs.
        wnids: ``wnids.txt``: one id a line; a label is an id's place in alphabetical order.
    """
    label_of = {wnid: label for label, wnid in enumerate(sorted(wnids.split()))}
    fields = (line.split("\t") for line in annotations.splitlines())
    labels = {name: label_of[wnid] for name, wnid, *_ in fields}
    return dict(sorted(labels.items(), key=lambda item: int(item[0].split("_")[1].split(".")[0])))


def decode(content: bytes, *, name: str) -> np.ndarray:
    """Decode one image to uint8 ``[3, 64, 64]``; grey ones become three equal channels.

    Raises:
        UserError: If it cannot be decoded, or has another size.
    """
    try:
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except UNREADABLE as error:
        raise UserError(f"Data file {name} cannot be decoded: {error}. {HINT}") from None
    if pixels.shape != (SIDE, SIDE, 3):
        raise UserError(f"Data file {name} has the shape {pixels.shape}, not 64x64. {HINT}")
    return pixels.transpose(2, 0, 1)


def decode_files(paths: Collection[Path]) -> tuple[np.ndarray, bytes]:
    """Decode files to uint8 ``[N, 3, 64, 64]``; with it the sha256 of all contents in order."""
    digest = hashlib.sha256()
    images = np.empty((len(paths), 3, SIDE, SIDE), dtype=np.uint8)
    for number, path in enumerate(paths):
        content = path.read_bytes()
        digest.update(content)
        images[number] = decode(content, name=str(path))
    return images, digest.digest()


def listing_digest(paths: Iterable[Path]) -> str:
    """Checksum of names and sizes: tells another set of files from this one without reading it."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def validation_files(folder: Path, *, hint: str) -> dict[Path, int]:
    """List the files of the validation part, with their labels, in the order of their numbers.

    Args:
        folder: The official folder ``tiny-imagenet-200``.
        hint: What would provide it; the end of an error message.

    Raises:
        UserError: If one is missing or empty.
    """
    wnids = read_text(folder / "wnids.txt", hint=hint)
    path = folder / "val" / "val_annotations.txt"
    annotations = read_text(path, hint=hint)
    try:
        labels = annotated(annotations, wnids)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"Data file {path} is damaged: {error!r}. {hint}") from None
    files = {folder / "val" / "images" / name: label for name, label in labels.items()}
    _check_files(files, TEST_IMAGES, folder / "val", hint=hint)
    return files


def _list(folder: Path) -> tuple[dict[Path, int], dict[Path, int]]:
    """List the files of both splits, with their labels."""
    if not folder.is_dir():
        raise UserError(f"Data folder {folder} does not exist. {HINT}")
    train: dict[Path, int] = {}
    wnids = read_text(folder / "wnids.txt", hint=HINT)
    for label, wnid in enumerate(sorted(wnids.split())):
        own = folder / "train" / wnid
        if not own.is_dir():
            raise UserError(f"Data folder {own} does not exist. {HINT}")
        train |= {Path(path): label for path in image_folder(own, (".jpeg",)).get("images", [])}
    _check_files(train, TRAIN_IMAGES, folder / "train", hint=HINT)
    return train, validation_files(folder, hint=HINT)


def _check_files(files: Mapping[Path, int], expected: int, folder: Path, *, hint: str) -> None:
    if len(files) != expected:
        raise UserError(
            f"Data folder {folder} holds {len(files):,} images, not {expected:,}. {hint}"
        )
    for path in files:
        if not path.is_file() or not path.stat().st_size:
            raise UserError(f"Data file {path} is missing or empty. {hint}")


def _decode_all(train: Collection[Path], test: Collection[Path]) -> dict[str, np.ndarray]:
    train_images, first = decode_files(train)
    test_images, second = decode_files(test)
    both = hashlib.sha256(first + second).digest()
    return {
        "train_images": train_images,
        "test_images": test_images,
        "sha256": np.frombuffer(both, dtype=np.uint8),
    }


def _labels(files: Mapping[Path, int]) -> torch.Tensor:
    return torch.tensor(list(files.values()))
