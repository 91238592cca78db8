"""ImageNet-1k (Russakovsky et al., 2015, arXiv 1409.0575), streamed from folders of classes."""

import hashlib
from pathlib import Path

import torch

from experiments.errors import UserError
from experiments.tasks.images import Normalization, stratified_cut
from experiments.tasks.objective import CLASSIFICATION
from experiments.tasks.source import Source
from experiments.tasks.streaming import Framing, StreamedSplit, class_folders, image_folder
from experiments.tasks.task import Task

FOLDER = "imagenet"
CLASSES, TRAIN_IMAGES, TEST_IMAGES = 1000, 1_281_167, 50_000
ENDINGS = (".jpeg", ".jpg")
NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SOURCE = Source(
    "ImageNet-1k (ILSVRC 2012): 1,281,167 training and 50,000 validation images, 1,000 classes",
    size="about 145 GB to fetch, as much again unpacked",
    terms="for non-commercial research and education, after you agree with image-net.org",
    place=FOLDER,
    manual=(
        "Log in at https://image-net.org/download, accept the terms, and put "
        "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into "
        f'DATA/{FOLDER}/. Then torchvision makes the folders: .venv/bin/python -c "from '
        "torchvision.datasets import ImageNet; [ImageNet('DATA/imagenet', s) for s in ('train', "
        "'val')]\""
    ),
)
HINT = (
    "Set data_dir=FOLDER (with make: DATA=FOLDER) to a folder that holds "
    f"{FOLDER}/{{train,val}}/WNID/*.JPEG; 'make data TASK=imagenet1k' says how to get them."
)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    validation_fraction: float,
    split_seed: int,
    image_size: int,
    resize: int,
    min_crop_area: float,
    flip: bool,
    workers: int | None,
) -> Task:
    """Build the task; its test split is the official validation part, as the paper has it.

    Args:
        data_dir: Holds ``imagenet/train`` and ``imagenet/val``, each with a folder a class.
        cache_dir: Not used.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.
        image_size: Side of what the model sees.
        resize: Shorter side of a test image before its middle is cut out.
        min_crop_area: Smallest share of a training image that the random crop keeps.
        flip: Whether to mirror half of the training images.
        workers: Processes that read and decode, 0 for none, None for one a core. No result depends
            on it.

    Raises:
        UserError: If a folder is missing or is not the whole of ImageNet-1k.
    """
    check(data_dir)
    framing = Framing(image_size, resize, min_crop_area, flip)
    train, test = (image_folder(data_dir / FOLDER / name, ENDINGS) for name in ("train", "val"))
    if list(train) != list(test):
        odd = sorted(set(train) ^ set(test))
        raise UserError(
            f"Data folder {data_dir / FOLDER}: train and val hold different classes, as {odd[0]}. "
            f"{HINT}"
        )

    def split(listed: dict[str, list[str]], index: torch.Tensor | None = None) -> StreamedSplit:
        paths = [path for own in listed.values() for path in own]
        labels = labels_of(listed)
        if index is not None:
            paths, labels = [paths[number] for number in index.tolist()], labels[index]
        return StreamedSplit(
            paths, labels, normalization=NORMALIZATION, framing=framing, workers=workers
        )

    rest, part = stratified_cut(labels_of(train), validation_fraction, split_seed)
    for name, listed, expected in (("train", train, TRAIN_IMAGES), ("val", test, TEST_IMAGES)):
        count = sum(map(len, listed.values()))
        if count != expected:
            raise UserError(
                f"Data folder {data_dir / FOLDER / name} holds {count:,} images, not "
                f"{expected:,}. {HINT}"
            )
    return Task(
        name="imagenet1k",
        objective=CLASSIFICATION,
        unit="images",
        train=split(train, rest),
        validation=split(train, part) if len(part) else None,
        test=split(test),
        model_arguments={"in_channels": 3, "num_classes": CLASSES, "image_size": image_size},
        checksums={f"names in {n}": _digest(x) for n, x in (("train", train), ("val", test))},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if a folder is missing, or not of 1,000 classes; files are not listed."""
    for name in ("train", "val"):
        folder = data_dir / FOLDER / name
        if not folder.is_dir():
            raise UserError(f"Data folder {folder} does not exist. {HINT}")
        classes = len(class_folders(folder))
        if classes != CLASSES:
            flat = " (its images lie there unsorted)" if any(folder.glob("*.JPEG")) else ""
            raise UserError(
                f"Data folder {folder} holds {classes} class folders, not {CLASSES}{flat}. {HINT}"
            )


def labels_of(listed: dict[str, list[str]]) -> torch.Tensor:
    """Label of every image: the place of its class in alphabetical order, int64 ``[N]``."""
    counts = torch.tensor([len(paths) for paths in listed.values()])
    return torch.repeat_interleave(torch.arange(len(listed)), counts)


def _digest(listed: dict[str, list[str]]) -> str:
    """Checksum of the names of all files; their content is 145 GB, too much to read first."""
    digest = hashlib.sha256()
    for name, paths in listed.items():
        digest.update("\n".join([name, *(Path(path).name for path in paths), ""]).encode())
    return digest.hexdigest()
