"""Handwritten digits, 8x8 grey images, as the scikit-learn package ships them.

The file is read from the installed package instead of through ``load_digits``: the import of
scikit-learn takes longer than an epoch of training.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from experiments.errors import UserError
from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.images import Normalization, image_task, stratified_cut
from experiments.tasks.source import Source
from experiments.tasks.task import Task

FILE = DataFile(
    ("digits.csv.gz",), "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
)
SOURCE = Source(
    "Handwritten digits: 1,797 grey images 8x8, 10 classes",
    size="nothing to fetch: scikit-learn, which is installed, holds it",
    terms="CC BY 4.0 (UCI); scikit-learn is BSD-3-Clause",
)
HINT = "It comes with scikit-learn: delete .venv and run the command again to install it anew."
# Mean and standard deviation of the pixels of all 1,797 images.
NORMALIZATION = Normalization((0.3053,), (0.3760,), largest=16.0)


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    test_fraction: float,
    validation_fraction: float,
    split_seed: int,
) -> Task:
    """Build the task.

    Args:
        data_dir: Not read: the data come with scikit-learn.
        cache_dir: Not used.
        test_fraction: Share of all images that is the test split.
        validation_fraction: Share of the others that is the validation split; 0 for none.
        split_seed: Fixes both stratified cuts; it is not the run's seed.

    Raises:
        UserError: If scikit-learn or its file is missing or another one.
    """
    content = read_verified(package_folder("digits"), FILE, hint=HINT)
    table = torch.from_numpy(np.loadtxt(content.decode().splitlines(), delimiter=","))
    images = table[:, :64].to(torch.uint8).view(-1, 1, 8, 8)
    labels = table[:, 64].long()
    rest, test = stratified_cut(labels, test_fraction, split_seed)
    return image_task(
        "digits",
        train=(images[rest], labels[rest]),
        test=(images[test], labels[test]),
        num_classes=10,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        checksums={FILE.names[0]: FILE.sha256},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
    read_verified(package_folder("digits"), FILE, hint=HINT)


def package_folder(task: str) -> Path:
    """Find the folder of scikit-learn's data files.

    Raises:
        UserError: If it is not installed; the message names the task.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError(f"The task {task} needs scikit-learn, which is not installed.")
    return Path(package.origin).parent / "datasets" / "data"
