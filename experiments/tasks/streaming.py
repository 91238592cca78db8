"""Images that are too many for memory: read and decoded by workers while the model trains.

Files are decoded to uint8 ``[B, 3, S, S]``; batches are float32 of that shape, normalised.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from experiments.errors import UserError
from experiments.seeding import derive
from experiments.system import log, signals
from experiments.tasks.augmentation import crop_boxes
from experiments.tasks.images import Normalization
from experiments.tasks.task import Split

UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)
"""What PIL raises for a picture that is broken, as a PNG, or of more pixels than it allows."""

MOST_WORKERS = 16
"""Workers that are taken where their number is left open."""


@dataclass(frozen=True)
class Framing:
    """How an image of any size becomes a square.

    Attributes:
        size: Side of the square.
        resize: In evaluation the shorter side becomes this long, then the middle is cut out.
        min_crop_area: Smallest share of the area that the random crop of training keeps.
        flip: Whether half of the training images are mirrored.
    """

    size: int
    resize: int
    min_crop_area: float
    flip: bool

    def __post_init__(self) -> None:
        """Refuse what is no size and no share."""
        if self.size < 1:
            raise UserError(f"Invalid image_size: {self.size}. Must be >= 1.")
        if self.resize < self.size:
            raise UserError(f"Invalid resize: {self.resize}. Must be >= image_size, {self.size}.")
        if not 0 < self.min_crop_area <= 1:
            raise UserError(f"Invalid min_crop_area: {self.min_crop_area}. Must be in (0, 1].")


def frame(image: Image.Image, framing: Framing, seed: int | None) -> Image.Image:
    """Cut a square out of an image.

    Args:
        image: Of any size.
        framing: How.
        seed: Fixes the random crop and flip; None for the evaluation's crop of the middle.

    Returns:
        An image of ``framing.size`` on both sides.
    """
    side = [framing.size, framing.size]
    if seed is None:
        resized = transforms.resize(image, framing.resize, InterpolationMode.BILINEAR)
        middle: Image.Image = transforms.center_crop(resized, side)
        return middle
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([[image.height, image.width]])
    (box,) = crop_boxes(sizes, framing.min_crop_area, generator=generator).tolist()
    flips = bool(torch.randint(2, (), generator=generator)) and framing.flip
    cut: Image.Image = transforms.resized_crop(image, *box, side, InterpolationMode.BILINEAR)
    return transforms.hflip(cut) if flips else cut


class _Reader(Dataset[tuple[Tensor, Tensor] | str]):
    """Reads whole batches by their indices; what is wrong with a file comes back as text.

    An exception would reach the main process wrapped in the traceback of a worker.
    """

    def __init__(
        self, paths: np.ndarray, labels: Tensor, framing: Framing, seed: int | None
    ) -> None:
        self.paths, self.labels, self.framing, self.seed = paths, labels, framing, seed

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor] | str:
        images = []
        for number in index.tolist():
            seed = None if self.seed is None else derive(self.seed, number)
            path = os.fsdecode(self.paths[number])
            try:
                with Image.open(path) as opened:
                    square = frame(opened.convert("RGB"), self.framing, seed)
            except UNREADABLE as error:
                return f"Data file {path} cannot be read: {error}."
            images.append(transforms.pil_to_tensor(square))
        return torch.stack(images), self.labels[index]


class StreamedSplit(Split):
    """Labelled image files of one split.

    Each sample's random changes are drawn from the seed and its own index, so that neither the
    number of workers nor where a pass begins changes a batch.

    Args:
        paths: The files.
        labels: int64 ``[N]``.
        normalization: What every batch goes through.
        framing: How a file becomes a square.
        workers: Processes that read and decode; 0 reads in this one, None takes one for each core
            of this process.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Tensor,
        *,
        normalization: Normalization,
        framing: Framing,
        workers: int | None,
    ) -> None:
        if workers is not None and (not isinstance(workers, int) or workers < 0):
            raise UserError(f"Invalid workers: {workers}. Must be an integer >= 0, or null.")
        # One array, not a list: reading a list's items writes to their reference counts, and so
        # copies its memory into every worker.
        self.paths = np.array([os.fsencode(path) for path in paths])
        self.labels = labels
        self._normalise = normalization
        self._framing = framing
        self._workers = usable_cores() if workers is None else workers
        self._device = torch.device("cpu")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def known_targets(self) -> Tensor:
        """The labels, ``[N]``."""
        return self.labels

    def to(self, device: torch.device) -> None:
        """Move each batch to ``device`` as bytes, a quarter of what its numbers take."""
        self._device = device

    def part(self, index: Tensor) -> "StreamedSplit":
        """Return some of the images. See ``Split``."""
        return StreamedSplit(
            [os.fsdecode(path) for path in self.paths[index.numpy()]],
            self.labels[index],
            normalization=self._normalise,
            framing=self._framing,
            workers=self._workers,
        )

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: float32 ``[B, 3, S, S]``, int64 ``[B]``. See ``Split``."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        loader = DataLoader(
            _Reader(self.paths, self.labels, self._framing, seed),
            batch_size=None,  # the reader makes the batches
            sampler=list(self._index_batches(batch_size, start, generator)),
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # or each pass would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise UserError(batch)
            images, labels = (part.to(self._device, non_blocking=True) for part in batch)
            yield self._normalise(images), labels


def usable_cores() -> int:
    """Cores that this process may use, as far as the system tells, and at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


def image_folder(folder: Path, endings: tuple[str, ...]) -> dict[str, list[str]]:
    """List a folder of class folders.

    Returns:
        The paths of each class, both in alphabetical order; nothing that is hidden.
    """
    listed = {}
    for name in class_folders(folder):
        files = (entry.name for entry in os.scandir(folder / name))
        own = sorted(
            file
            for file in files
            if file.lower().endswith(endings) and not file.startswith(".")  # as of macOS: ._x.jpeg
        )
        listed[name] = [os.path.join(folder, name, file) for file in own]
    return listed


def class_folders(folder: Path) -> list[str]:
    """Name the folders of classes in alphabetical order; hidden ones are none, and are told once.

    Notebooks and file managers leave such: ``.ipynb_checkpoints`` would be one more class.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        log.once(f"Data folder {folder}: left out, as hidden: {', '.join(hidden)}")
    return [name for name in names if not name.startswith(".")]


def _leave_signals_to_the_run(worker: int) -> None:
    """Ctrl-C, or a scheduler, reaches every process of the run; only the main one answers."""
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
