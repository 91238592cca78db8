"""The validation part of Tiny-ImageNet-200 as a task of its own: 10,000 images, 200 classes.

Never printed as Tiny-ImageNet, whose training part has ten times as many.
"""

import io
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from experiments.tasks import tiny_imagenet
from experiments.tasks.augmentation import Augmentation
from experiments.tasks.files import DataFile, cached_arrays, read_verified
from experiments.tasks.images import image_task, stratified_cut
from experiments.tasks.source import Source
from experiments.tasks.task import Task
from experiments.tasks.tiny_imagenet import CLASSES, FOLDER, NORMALIZATION

FILE = DataFile(
    ("tiny-imagenet/val.tar.xz",),
    "faff4b597f0bc8afedf2e969e464d17f9b66d9ab5c8a4743605a12cc03d99618",
    unpack=False,
)
SOURCE = Source(
    "The validation part of Tiny-ImageNet-200: 10,000 images 64x64, 200 classes",
    size=f"{tiny_imagenet.SOURCE.size}: the whole of Tiny-ImageNet, of which the task reads a part",
    terms=tiny_imagenet.SOURCE.terms,
    place=f"{FOLDER}/val",
    files=tiny_imagenet.SOURCE.files,
)
HINT = (
    "Fetch it with 'make data TASK=tiny_imagenet_val', or set data_dir=FOLDER (with make: "
    f"DATA=FOLDER) to a folder that holds {FILE.names[0]} or the official {FOLDER}/."
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    test_fraction: float,
    validation_fraction: float,
    split_seed: int,
    min_crop_area: float,
    flip: bool,
    cutout_size: int,
) -> Task:
    """Build the task.

    Args:
        data_dir: Holds ``tiny-imagenet/val.tar.xz``, or the official folder ``tiny-imagenet-200``.
        cache_dir: Where the decoded images are kept.
        test_fraction: Share of all images that is the test split.
        validation_fraction: Share of the others that is the validation split; 0 for none.
        split_seed: Fixes both stratified cuts; it is not the run's seed.
        min_crop_area: Smallest share of an image that the random crop keeps; 0 turns it off.
        flip: Whether to mirror half of the images.
        cutout_size: Side of the Cutout square; 0 turns it off.

    Raises:
        UserError: If the images are missing or cannot be decoded.
    """
    augmentation = Augmentation(min_crop_area=min_crop_area, flip=flip, cutout_size=cutout_size)
    archive = _archive(data_dir)
    if archive is None:
        files = tiny_imagenet.validation_files(data_dir / FOLDER, hint=HINT)
        arrays = cached_arrays(
            cache_dir,
            f"tiny_imagenet_val-{tiny_imagenet.listing_digest(files)}",
            lambda: _decode_folder(files),
        )
        checksums = {f"content of {FOLDER}/val/images": bytes(arrays["sha256"]).hex()}
    else:
        key = f"tiny_imagenet_val-{FILE.sha256}"
        arrays = cached_arrays(cache_dir, key, lambda: decode_archive(archive))
        checksums = {FILE.names[0]: FILE.sha256}
    images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    rest, test = stratified_cut(labels, test_fraction, split_seed)
    return image_task(
        "tiny_imagenet_val",
        train=(images[rest], labels[rest]),
        test=(images[test], labels[test]),
        num_classes=CLASSES,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        augmentation=augmentation,
        checksums=checksums,
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
    if _archive(data_dir) is None:
        tiny_imagenet.validation_files(data_dir / FOLDER, hint=HINT)


def decode_archive(archive: bytes) -> dict[str, np.ndarray]:
    """Decode a ``tar.xz`` with the paths of the official zip.

    Returns:
        ``images``, uint8 ``[N, 3, 64, 64]``, in the order of their numbers; ``labels``, int64.
    """
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as members:
        for member in members:
            stream = members.extractfile(member)
            if stream is not None:
                files[PurePosixPath(member.name).name] = stream.read()
    labels = tiny_imagenet.annotated(
        files["val_annotations.txt"].decode(), files["wnids.txt"].decode()
    )
    images = [tiny_imagenet.decode(files[name], name=name) for name in labels]
    return {"images": np.stack(images), "labels": np.array(list(labels.values()))}


def _archive(data_dir: Path) -> bytes | None:
    """Read the verified archive; None if there is none but the official folder is there."""
    if (data_dir / FOLDER).is_dir() and not (data_dir / FILE.names[0]).exists():
        return None
    return read_verified(data_dir, FILE, hint=HINT)


def _decode_folder(files: dict[Path, int]) -> dict[str, np.ndarray]:
    images, digest = tiny_imagenet.decode_files(files)
    return {
        "images": images,
        "labels": np.array(list(files.values())),
        "sha256": np.frombuffer(digest, dtype=np.uint8),
    }
