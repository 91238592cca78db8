"""Random changes of training images: what chance decides, and what is done to a batch.

Images are ``[B, C, H, W]``. Draws are made on the CPU, one for each sample, and the changes are
applied to the whole batch on whatever device it is.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.errors import UserError

TRIES = 10
RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image; zero or False turns one off.

    Attributes:
        crop_padding: Pixels of zero padding on every side before a crop of the original size.
        flip: Mirror left to right with probability 1/2.
        cutout_size: Side of the square that is set to the mean (zero after normalisation).
            DeVries and Taylor (2017, arXiv 1708.04552): the centre is uniform over the image, so
            that the square may reach over its edge.
        min_crop_area: Smallest share of the area that a random crop keeps, which is then resized
            to the full size; its aspect ratio is between 3/4 and 4/3. Szegedy et al. (2015,
            arXiv 1409.4842), section 6, with torchvision's ``RandomResizedCrop`` as its form.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout_size: int = 0
    min_crop_area: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no size and no switch."""
        for key, value in (("crop_padding", self.crop_padding), ("cutout_size", self.cutout_size)):
            if not isinstance(value, int) or value < 0:
                raise UserError(f"Invalid {key}: {value}. Must be an integer >= 0.")
        if not isinstance(self.flip, bool):
            raise UserError(f"Invalid flip: {self.flip}. Must be true or false.")
        if not 0 <= self.min_crop_area <= 1:
            raise UserError(f"Invalid min_crop_area: {self.min_crop_area}. Must be in [0, 1].")
        if self.min_crop_area and self.crop_padding:
            raise UserError(
                f"Invalid crop_padding: {self.crop_padding}. Must be 0 where min_crop_area is "
                f"{self.min_crop_area}: an image is cropped once."
            )


NO_AUGMENTATION = Augmentation()


class Draws(NamedTuple):
    """What chance decides for each of N samples.

    Attributes:
        offsets: Where the padded image is cropped, ``[N, 2]`` int64.
        flips: Which images are mirrored, ``[N]`` bool.
        centers: Centres of the Cutout squares, ``[N, 2]`` int64.
        boxes: Crops that are resized, ``[N, 4]`` int64 as ``crop_boxes`` has them, or None.
    """

    offsets: Tensor
    flips: Tensor
    centers: Tensor
    boxes: Tensor | None

    def to(self, device: torch.device) -> "Draws":
        """Copy the draws to ``device``."""
        boxes = None if self.boxes is None else self.boxes.to(device)
        return Draws(self.offsets.to(device), self.flips.to(device), self.centers.to(device), boxes)


def draw(augmentation: Augmentation, count: int, *, side: int, generator: torch.Generator) -> Draws:
    """Draw for ``count`` samples of a side of ``side`` pixels.

    What is turned off is drawn all the same, so that turning it on moves no other draw. Only the
    boxes come last and where they are used: a run without them keeps its stream.
    """
    size = (count, 2)
    offsets = torch.randint(2 * augmentation.crop_padding + 1, size, generator=generator)
    flips = torch.randint(2, (count,), generator=generator).bool()
    centers = torch.randint(side, size, generator=generator)
    boxes = None
    if augmentation.min_crop_area:
        sides = torch.full(size, side)
        boxes = crop_boxes(sides, augmentation.min_crop_area, generator=generator)
    return Draws(offsets, flips & augmentation.flip, centers, boxes)


def crop_boxes(sizes: Tensor, min_area: float, *, generator: torch.Generator) -> Tensor:
    """Draw crops by torchvision's rule of ``RandomResizedCrop``, for many images at once.

    The area is uniform in ``[min_area, 1]`` of the image's, the logarithm of width / height
    uniform in ``[log 3/4, log 4/3]``; of ten tries the first that fits is taken. If none fits, it
    is the largest crop in the middle with the nearest ratio.

    Args:
        sizes: Height and width of each image, ``[N, 2]`` int64.
        min_area: Smallest share of the area.
        generator: Source of the draws.

    Returns:
        Top, left, height and width of each crop, ``[N, 4]`` int64.
    """
    count = len(sizes)
    uniform = torch.rand(count, TRIES + 1, 2, generator=generator, dtype=torch.float64)
    full = sizes.double()
    area = full.prod(1, keepdim=True) * (min_area + (1 - min_area) * uniform[:, :TRIES, 0])
    low, high = (math.log(ratio) for ratio in RATIOS)
    ratio = torch.exp(low + (high - low) * uniform[:, :TRIES, 1])
    tries = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], -1).round()
    fits = ((tries > 0) & (tries <= full[:, None])).all(-1)
    first = fits.to(torch.uint8).argmax(1)
    chosen = tries[torch.arange(count), first]
    height, width = full.unbind(1)
    limited = torch.stack(
        [
            torch.minimum(height, (width / RATIOS[0]).round()),
            torch.minimum(width, (height * RATIOS[1]).round()),
        ],
        1,
    )
    found = fits.any(1, keepdim=True)
    extent = torch.where(found, chosen, limited)
    room = full - extent
    # A draw of just below 1 times the number of places can round up to it.
    start = torch.minimum((uniform[:, TRIES] * (room + 1)).floor(), room)
    start = torch.where(found, start, (room / 2).floor())
    return torch.cat([start, extent], 1).long()


def resized_crop(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Cut a box out of each image, enlarge it to the full size, and mirror some of the results.

    Output pixel i of n lies at ``(i + 1/2) * extent / n - 1/2`` within its box; the two nearest
    pixels of the box are mixed in each direction. No box is larger than the image, so nothing is
    reduced, and PIL's antialiasing would change nothing; PIL rounds to whole grey levels after
    each direction, this does not, so the two differ by less than one level.

    Args:
        images: uint8 or float ``[B, C, H, W]``.
        boxes: Top, left, height, width, ``[B, 4]`` int64, within the image.
        flips: Which results to mirror left to right, ``[B]`` bool.

    Returns:
        float32 ``[B, C, H, W]``, on the scale of ``images``.
    """
    height, width = images.shape[-2:]
    top, left, box_height, box_width = boxes.unbind(1)
    above, below, row_share = _neighbours(top, box_height, height)
    before, after, column_share = _neighbours(left, box_width, width)
    mirrored = flips[:, None]
    before = torch.where(mirrored, before.flip(1), before)
    after = torch.where(mirrored, after.flip(1), after)
    column_share = torch.where(mirrored, column_share.flip(1), column_share)
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None]
    upper = images[sample, channel, above[:, None]].float()
    lower = images[sample, channel, below[:, None]].float()
    rows = upper + (lower - upper) * row_share[:, None, :, None]
    first = rows.gather(3, before[:, None, None].expand_as(rows))
    second = rows.gather(3, after[:, None, None].expand_as(rows))
    return first + (second - first) * column_share[:, None, None]


def _neighbours(start: Tensor, extent: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each output position the two input positions and the second's share, ``[B, size]``."""
    place = (torch.arange(size, device=start.device) + 0.5) * (extent / size)[:, None] - 0.5
    place = place.clamp(min=0.0)
    last = extent[:, None] - 1
    lower = torch.minimum(place.floor().long(), last)
    upper = torch.minimum(lower + 1, last)
    return start[:, None] + lower, start[:, None] + upper, place - lower


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pad with zeros, crop to the original size, and mirror some of the crops.

    Args:
        images: ``[B, C, H, W]``.
        offsets: Row and column where the crop starts in the padded image, ``[B, 2]`` int64, each
            in ``0 .. 2 * padding``; ``padding`` is the middle.
        flips: Which crops to mirror left to right, ``[B]`` bool.
        padding: Pixels added on every side.

    Returns:
        ``[B, C, H, W]`` of the same type.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    device = images.device
    columns = torch.arange(width, device=device).expand(len(images), -1)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + offsets[:, 1:]
    rows = torch.arange(height, device=device) + offsets[:, :1]
    sample = torch.arange(len(images), device=device)[:, None, None]
    # The slice between index tensors puts the channels last.
    cropped = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


def cutout(images: Tensor, centers: Tensor, size: int) -> Tensor:
    """Set a square of each image to zero.

    Args:
        images: ``[B, C, H, W]``.
        centers: Row and column of each square's centre, ``[B, 2]`` int64. The square covers
            ``center - size // 2 .. center - size // 2 + size - 1``, as far as it is in the image.
        size: Side of the square.

    Returns:
        ``[B, C, H, W]``.
    """
    height, width = images.shape[-2:]
    first = centers - size // 2
    rows = torch.arange(height, device=images.device) - first[:, :1]
    columns = torch.arange(width, device=images.device) - first[:, 1:]
    in_rows = (rows >= 0) & (rows < size)
    in_columns = (columns >= 0) & (columns < size)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(hole[:, None], 0.0)
