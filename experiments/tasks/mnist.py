"""MNIST: handwritten digits, 28x28 grey images (LeCun, Cortes and Burges), official test split."""

import struct
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from experiments.errors import UserError
from experiments.tasks.files import DataFile, read_verified
from experiments.tasks.images import Normalization, image_task
from experiments.tasks.source import Remote, Source
from experiments.tasks.task import Task

FOLDER = "mnist"
FOLDERS = (FOLDER, "MNIST/raw")  # ours, and where torchvision.datasets.MNIST leaves the files
# The checksums are those of the unpacked files: copies differ in their gzip wrapper.
FILES = {
    "train_images": DataFile(
        ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train_labels": DataFile(
        ("train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte"),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "test_images": DataFile(
        ("t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "test_labels": DataFile(
        ("t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte"),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
SOURCE = Source(
    "MNIST: 70,000 grey images 28x28, 10 classes",
    size="11.6 MB to fetch",
    terms="none stated by its authors; often quoted as CC BY-SA 3.0",
    place=FOLDER,
    files=tuple(
        Remote(f"{MNIST.mirrors[0]}{name}", f"{FOLDER}/{name}", f"md5:{md5}")
        for name, md5 in MNIST.resources
    ),
)
HINT = (
    "Fetch it with 'make data TASK=mnist', or set data_dir=FOLDER (with make: DATA=FOLDER) to a "
    f"folder that holds {' or '.join(FOLDERS)} with the four idx files of MNIST."
)
NORMALIZATION = Normalization((0.1307,), (0.3081,))  # of the training images


def build(*, data_dir: Path, cache_dir: Path, validation_fraction: float, split_seed: int) -> Task:
    """Build the task.

    Args:
        data_dir: Holds one of ``FOLDERS``.
        cache_dir: Not used.
        validation_fraction: Share of the training images that is the validation split; 0 for none.
        split_seed: Fixes that stratified cut; it is not the run's seed.

    Raises:
        UserError: If a file is missing, truncated, or another one.
    """
    folder = _folder(data_dir)
    arrays = {
        key: parse_idx(read_verified(folder, file, hint=HINT), name=file.names[0])
        for key, file in FILES.items()
    }
    return image_task(
        "mnist",
        train=(arrays["train_images"][:, None], arrays["train_labels"].long()),
        test=(arrays["test_images"][:, None], arrays["test_labels"].long()),
        num_classes=10,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        normalization=NORMALIZATION,
        checksums={file.names[0]: file.sha256 for file in FILES.values()},
    )


def check(data_dir: Path, **keywords: object) -> None:
    """Raise ``UserError`` if the data are not as ``build`` needs them; arguments as there."""
    for file in FILES.values():
        read_verified(_folder(data_dir), file, hint=HINT)


def _folder(data_dir: Path) -> Path:
    """Find the first of ``FOLDERS`` that holds every file; ``FOLDER`` where none does."""
    for name in FOLDERS:
        folder = data_dir / name
        if all(any((folder / one).is_file() for one in file.names) for file in FILES.values()):
            return folder
    return data_dir / FOLDER


def parse_idx(content: bytes, *, name: str) -> Tensor:
    """Read an array in the idx format.

    The header is big-endian: two zero bytes, the type (8 is uint8), the number of dimensions, and
    each dimension in four bytes.

    Args:
        content: The unpacked file.
        name: Its name, for the error message.

    Returns:
        uint8, in the shape of the header.

    Raises:
        UserError: If the header is not one of uint8 or does not fit the length.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise UserError(f"Data file {name} is no idx file of uint8.")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise UserError(f"Data file {name} ends within its header.")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    size = torch.Size(shape).numel()
    if len(content) - start != size:
        raise UserError(f"Data file {name} has {len(content) - start} bytes of data, not {size}.")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(shape)
