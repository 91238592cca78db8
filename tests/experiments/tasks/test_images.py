import pytest
import torch

from experiments.errors import UserError
from experiments.tasks import images as images_module
from experiments.tasks.augmentation import Augmentation
from experiments.tasks.images import (
    ImageSplit,
    Normalization,
    image_task,
    stratified_cut,
)

COUNT, SIDE = 41, 8
IMAGES = torch.randint(256, (COUNT, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)
LABELS = torch.arange(COUNT)
NORMALIZATION = Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
FULL = Augmentation(crop_padding=2, flip=True, cutout_size=4)


def make_split(augmentation: Augmentation, images: torch.Tensor = IMAGES) -> ImageSplit:
    return ImageSplit(
        images, LABELS[: len(images)], normalization=NORMALIZATION, augmentation=augmentation
    )


def test_normalization_is_of_each_channel():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(0.0 - 0.1) / 0.4, (0.2 - 0.2) / 0.5, (1.0 - 0.3) / 0.6]
    torch.testing.assert_close(NORMALIZATION(images).flatten(), torch.tensor(expected))


def test_evaluation_is_in_order_and_without_augmentation():
    split = make_split(FULL)
    images = torch.cat([images for images, _ in split.batches(7)])
    labels = torch.cat([labels for _, labels in split.batches(7)])
    assert torch.equal(images, NORMALIZATION(IMAGES))
    assert torch.equal(labels, LABELS)


def test_training_without_augmentation_only_shuffles():
    split = make_split(Augmentation())
    images = torch.cat([images for images, _ in split.batches(7, seed=5)])
    labels = torch.cat([labels for _, labels in split.batches(7, seed=5)])
    assert not torch.equal(labels, LABELS)
    assert torch.equal(labels.sort().values, LABELS)
    assert torch.equal(images, NORMALIZATION(IMAGES[labels]))


@pytest.mark.parametrize("start", range(8))
def test_left_out_batches_do_not_change_those_that_follow(start):
    split = make_split(FULL)
    every = list(split.batches(6, seed=3))
    rest = list(split.batches(6, seed=3, start=start))
    assert len(rest) == len(every) - start
    for (images, labels), (expected_images, expected_labels) in zip(
        rest, every[start:], strict=True
    ):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_the_changes_of_a_sample_do_not_depend_on_the_batch_size():
    split = make_split(FULL)
    one, other = (torch.cat([x for x, _ in split.batches(size, seed=3)]) for size in (6, 41))
    assert torch.equal(one, other)


def test_another_seed_shuffles_and_augments_in_another_way():
    split = make_split(FULL)
    (images, labels), (other_images, other_labels) = (
        next(split.batches(COUNT, seed=seed)) for seed in (0, 1)
    )
    assert not torch.equal(labels, other_labels)
    assert not torch.equal(images[labels.argsort()], other_images[other_labels.argsort()])


def test_batches_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_split(FULL).batches(8, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_offset_and_half_of_the_flips_occur():
    # One bright pixel in the middle shows where its image was moved.
    images = torch.zeros(2000, 1, SIDE, SIDE, dtype=torch.uint8)
    images[:, :, 3, 3] = 255
    split = ImageSplit(
        images,
        torch.zeros(2000, dtype=torch.int64),
        normalization=Normalization((0.0,), (1.0,)),
        augmentation=Augmentation(crop_padding=2),
    )
    moved, _ = next(split.batches(2000, seed=0))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in range(1, 6) for column in range(1, 6)}
    flipping = ImageSplit(
        images,
        torch.zeros(2000, dtype=torch.int64),
        normalization=Normalization((0.0,), (1.0,)),
        augmentation=Augmentation(flip=True),
    )
    flipped, _ = next(flipping.batches(2000, seed=0))
    # Binomial(2000, 1/2) has standard deviation 22.
    assert 900 < int((flipped[:, 0, 3, 4] == 1).sum()) < 1100
    assert int((flipped[:, 0, 3, 3:5] == 1).sum()) == 2000


def test_cutout_is_zero_after_normalisation():
    split = make_split(Augmentation(cutout_size=4), torch.full_like(IMAGES, 255))
    images, _ = next(split.batches(COUNT, seed=0))
    white = NORMALIZATION(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    hole = images[:, 0] == 0
    assert torch.equal(images, torch.where(hole[:, None], 0.0, white))
    areas = hole.flatten(1).sum(1)
    assert areas.max() == 16
    assert areas.min() >= 4


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.2, 0.37, 0.5, 0.9])
def test_a_stratified_cut_is_disjoint_complete_and_in_proportion(fraction):
    labels = torch.tensor([0] * 50 + [1] * 31 + [2] * 7 + [3])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    rest, part = stratified_cut(labels, fraction, 0)
    assert sorted(rest.tolist() + part.tolist()) == list(range(len(labels)))
    assert len(part) == round(fraction * len(labels))
    for label in range(4):
        exact = fraction * int((labels == label).sum())
        assert abs(int((labels[part] == label).sum()) - exact) < 1


def test_a_stratified_cut_is_fixed_by_its_seed():
    labels = torch.arange(100) % 10
    assert torch.equal(stratified_cut(labels, 0.2, 1)[1], stratified_cut(labels, 0.2, 1)[1])
    assert not torch.equal(stratified_cut(labels, 0.2, 1)[1], stratified_cut(labels, 0.2, 2)[1])
    # Golden: another cut would change every result.
    assert stratified_cut(torch.arange(20) % 2, 0.3, 0)[1].tolist() == [3, 4, 7, 8, 11, 16]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, 0.999])
def test_an_impossible_cut_is_refused(fraction):
    with pytest.raises(UserError, match=f"Invalid split fraction: {fraction}"):
        stratified_cut(torch.arange(20) % 2, fraction, 0)


def test_image_task_cuts_validation_from_train_only():
    task = image_task(
        "case",
        train=(IMAGES[:30], LABELS[:30] % 3),
        test=(IMAGES[30:], LABELS[30:] % 3),
        num_classes=7,
        validation_fraction=0.2,
        split_seed=0,
        normalization=NORMALIZATION,
        augmentation=FULL,
        checksums={},
    )
    assert task.validation is not None
    assert (len(task.train), len(task.validation), len(task.test)) == (24, 6, 11)
    parts = [*task.train.images, *task.validation.images]
    assert sorted(x.flatten().tolist() for x in parts) == sorted(
        x.flatten().tolist() for x in IMAGES[:30]
    )
    assert torch.equal(task.test.images, IMAGES[30:])
    assert torch.bincount(task.validation.labels).tolist() == [2, 2, 2]
    assert task.model_arguments == {"in_channels": 3, "num_classes": 7, "image_size": SIDE}
    assert (task.metric, task.higher_is_better, task.unit) == ("accuracy_percent", True, "images")


def test_without_a_cut_the_images_are_not_copied():
    task = image_task(
        "case",
        train=(IMAGES, LABELS % 3),
        test=(IMAGES, LABELS % 3),
        num_classes=3,
        validation_fraction=0.0,
        split_seed=0,
        normalization=NORMALIZATION,
        checksums={},
    )
    assert task.validation is None
    assert task.train.images.data_ptr() == IMAGES.data_ptr()


RESIZED = Augmentation(min_crop_area=0.2, flip=True, cutout_size=4)


@pytest.mark.parametrize("augmentation", [FULL, RESIZED], ids=["padded", "resized"])
@pytest.mark.parametrize("start", [1, 6])
def test_a_resumed_pass_is_the_tail_of_the_whole_one(augmentation, start):
    split = make_split(augmentation)
    every, rest = list(split.batches(6, seed=3)), list(split.batches(6, seed=3, start=start))
    for (images, labels), (expected, expected_labels) in zip(rest, every[start:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_a_crop_that_is_resized_leaves_the_other_draws_alone():
    # The order comes after the boxes, and may differ; flips and holes may not.
    padded = make_split(Augmentation(cutout_size=4))
    resized = make_split(Augmentation(cutout_size=4, min_crop_area=1.0), IMAGES.clamp(min=200))
    holes = {}
    for split in (padded, resized):
        ((images, labels),) = split.batches(COUNT, seed=0)
        holes[split] = (images == 0).all(1)[labels.argsort()]
    assert torch.equal(holes[padded], holes[resized])


@pytest.mark.parametrize(("free", "moves"), [(3, False), (4, True)])
def test_a_split_moves_if_it_takes_a_quarter_of_the_free_memory(monkeypatch, free, moves):
    split = make_split(FULL)
    size = split.images.nbytes + split.labels.nbytes
    monkeypatch.setattr(images_module, "free_bytes", lambda device: free * size)
    split.to(torch.device("meta"))  # a device of its own on any machine
    assert (split.images.is_meta, split.labels.is_meta) == (moves, moves)


def test_a_device_without_memory_of_its_own_gets_nothing():
    split = make_split(FULL)
    before = split.images
    split.to(torch.device("cpu"))
    assert split.images is before


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", [FULL, RESIZED], ids=["padded", "resized"])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_resident_split_gives_the_same_batches_on_its_device(augmentation, seed):
    device = torch.device("cuda")
    stays, moves = make_split(augmentation), make_split(augmentation)
    moves.to(device)
    pairs = zip(stays.batches(6, seed=seed), moves.batches(6, seed=seed), strict=True)
    for (images, labels), (found, found_labels) in pairs:
        assert found.device.type == found_labels.device.type == "cuda"
        assert torch.equal(found.cpu(), images)
        assert torch.equal(found_labels.cpu(), labels)


def test_existing_draws_stay_what_they_were():
    """Golden: the draws of the padded crop decide every recorded run."""
    split = ImageSplit(
        torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8),
        torch.arange(4),
        normalization=Normalization((0.0,), (1.0,), largest=1.0),
        augmentation=Augmentation(crop_padding=2, flip=True),
    )
    images, labels = next(split.batches(4, seed=0))
    assert labels.tolist() == [2, 3, 1, 0]
    assert images[:, 0, 4, 4].tolist() == [173, 229, 105, 53]
