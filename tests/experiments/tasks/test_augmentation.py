import math

import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from experiments.errors import UserError
from experiments.tasks.augmentation import (
    Augmentation,
    crop_and_flip,
    crop_boxes,
    cutout,
    resized_crop,
)

COUNT, SIDE = 41, 8
IMAGES = torch.randint(256, (COUNT, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("column", range(5))
def test_a_crop_moves_a_single_pixel(row, column):
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[0, 0, 1, 3] = 9
    found = crop_and_flip(image, torch.tensor([[row, column]]), torch.tensor([False]), 2)
    expected = torch.zeros(5, 5, dtype=torch.uint8)
    if 0 <= 3 - row < 5 and 0 <= 5 - column < 5:
        expected[3 - row, 5 - column] = 9
    assert torch.equal(found[0, 0], expected)


def test_a_flip_mirrors_left_to_right_only_where_asked():
    images = torch.arange(12, dtype=torch.uint8).view(2, 1, 2, 3)
    found = crop_and_flip(
        images, torch.zeros(2, 2, dtype=torch.int64), torch.tensor([True, False]), 0
    )
    assert found[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert torch.equal(found[1], images[1])


def test_crop_and_flip_follow_torchvision():
    generator = torch.Generator().manual_seed(1)
    offsets = torch.randint(5, (COUNT, 2), generator=generator)
    flips = torch.randint(2, (COUNT,), generator=generator).bool()
    found = crop_and_flip(IMAGES, offsets, flips, 2)
    for image, (row, column), flip, result in zip(
        IMAGES, offsets.tolist(), flips.tolist(), found, strict=True
    ):
        expected = reference.crop(reference.pad(image, [2]), row, column, SIDE, SIDE)
        assert torch.equal(result, reference.hflip(expected) if flip else expected)


@pytest.mark.parametrize(
    ("center", "area"),
    [((8, 8), 64), ((0, 0), 16), ((0, 8), 32), ((15, 15), 25), ((4, 12), 64), ((3, 8), 56)],
)
def test_cutout_covers_a_square_as_far_as_it_is_inside(center, area):
    found = cutout(torch.ones(1, 2, 16, 16), torch.tensor([center]), 8)
    row, column = center
    expected = torch.ones(2, 16, 16)
    expected[:, max(row - 4, 0) : min(row + 4, 16), max(column - 4, 0) : min(column + 4, 16)] = 0
    assert torch.equal(found[0], expected)
    assert int((found[0, 0] == 0).sum()) == area


@pytest.mark.parametrize(
    "arguments",
    [{"crop_padding": -1}, {"cutout_size": -2}, {"crop_padding": 1.5}, {"flip": "often"}],
    ids=str,
)
def test_an_impossible_augmentation_is_refused(arguments):
    with pytest.raises(UserError, match=f"Invalid {next(iter(arguments))}: "):
        Augmentation(**arguments)


def test_an_image_is_cropped_once():
    with pytest.raises(UserError, match=r"Invalid crop_padding: 4\. Must be 0 where min_crop_area"):
        Augmentation(crop_padding=4, min_crop_area=0.1)


def boxes_of(count: int, sizes: tuple[int, int], min_area: float) -> torch.Tensor:
    repeated = torch.tensor(sizes).expand(count, 2)
    return crop_boxes(repeated, min_area, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sizes", [(64, 64), (40, 90), (90, 40)])
def test_boxes_lie_within_the_image_and_keep_their_bounds(sizes):
    top, left, height, width = boxes_of(5000, sizes, 0.08).double().unbind(1)
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= sizes[0]
    assert (left + width).max() <= sizes[1]
    area = height * width / (sizes[0] * sizes[1])
    # Sides are rounded, so that the bounds hold up to half a pixel on each side.
    slack = (height + width) / 2 / (sizes[0] * sizes[1])
    assert (area >= 0.08 - slack).all()
    for ratio in ((width - 0.5) / (height + 0.5), (height - 0.5) / (width + 0.5)):
        assert ratio.max() <= 4 / 3


def test_areas_and_places_are_uniform():
    """For small areas, which always fit: area and place against their exact moments."""
    count = 20_000
    top, left, height, width = boxes_of(count, (512, 512), 0.08).double().unbind(1)
    area = height * width / 512**2
    below = area[area < 0.4]  # a box of such an area fits for every ratio
    # Standard error of the mean of a uniform variable: its range / sqrt(12 n).
    error = 0.32 / math.sqrt(12 * len(below))
    assert abs(below.mean() - 0.24) < 4 * error
    for start, extent in ((top, height), (left, width)):
        places = (start + 0.5) / (512 - extent + 1)
        assert abs(places.mean() - 0.5) < 4 / math.sqrt(12 * count)
    log_ratio = torch.log(width / height)[area < 0.4]
    bound = math.log(4 / 3)
    assert abs(log_ratio.mean()) < 4 * 2 * bound / math.sqrt(12 * len(log_ratio))
    assert abs(log_ratio.var() - (2 * bound) ** 2 / 12) < 0.05 * (2 * bound) ** 2 / 12


@pytest.mark.parametrize(
    ("sizes", "box"),
    [
        ((100, 10), (43, 0, 13, 10)),  # 10 / (3/4) = 13.3, in the middle of 100
        ((10, 100), (0, 43, 10, 13)),
    ],
)
def test_an_image_that_no_try_fits_gives_its_middle(sizes, box):
    # An area of 1 with a ratio of at most 4/3 fits into no strip.
    found = boxes_of(50, sizes, 1.0)
    assert found[:, 2:].unique(dim=0).tolist() == [list(box[2:])]
    assert found[:, :2].unique(dim=0).tolist() == [list(box[:2])]


def test_the_whole_image_is_itself():
    whole = torch.tensor([0, 0, SIDE, SIDE]).expand(COUNT, 4)
    flips = torch.arange(COUNT) % 2 == 0
    found = resized_crop(IMAGES, whole, flips)
    assert torch.equal(found[~flips], IMAGES[~flips].float())
    assert torch.equal(found[flips], IMAGES[flips].flip(-1).float())


def test_a_single_pixel_fills_the_image():
    box = torch.tensor([[2, 5, 1, 1]])
    found = resized_crop(IMAGES[:1], box, torch.tensor([False]))
    assert torch.equal(found, IMAGES[:1, :, 2:3, 5:6].float().expand(1, 3, SIDE, SIDE))


@pytest.fixture(scope="module")
def cases():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (60, 3, 64, 64), generator=generator).to(torch.uint8)
    boxes = crop_boxes(torch.full((60, 2), 64), 0.05, generator=generator)
    flips = torch.randint(2, (60,), generator=generator).bool()
    return images, boxes, flips


def test_a_resized_crop_follows_torchvision_on_tensors(cases):
    images, boxes, flips = cases
    found = resized_crop(images, boxes, flips)
    for image, box, flip, result in zip(images, boxes.tolist(), flips, found, strict=True):
        expected = reference.resized_crop(image.float(), *box, [64, 64], antialias=True)
        expected = reference.hflip(expected) if flip else expected
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-3)  # of 255


def test_a_resized_crop_is_within_a_grey_level_of_pil(cases):
    """PIL rounds after each direction: at most half a level each, and so one in all."""
    images, boxes, flips = cases
    found = resized_crop(images, boxes, torch.zeros_like(flips))
    for image, box, result in zip(images, boxes.tolist(), found, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        resized = reference.resized_crop(picture, *box, [64, 64], InterpolationMode.BILINEAR)
        expected = reference.pil_to_tensor(resized).float()
        assert (result - expected).abs().max() <= 1.05
