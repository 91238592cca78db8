"""ImageNet-1k in its official layout, with three classes and a few images each."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from experiments.errors import UserError
from experiments.tasks import imagenet1k

KEYWORDS = {
    "validation_fraction": 0.0,
    "split_seed": 0,
    "image_size": 32,
    "resize": 36,
    "min_crop_area": 0.08,
    "flip": True,
    "workers": 0,
}
WNIDS = ("n02119789", "n01440764", "n15075141")


@pytest.fixture
def mini(monkeypatch, tmp_path):
    random = np.random.RandomState(0)
    for split, count in (("train", 5), ("val", 2)):
        for label, wnid in enumerate(WNIDS):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                name = f"{wnid}_{number}" if split == "train" else f"ILSVRC2012_val_{label}{number}"
                pixels = random.randint(0, 256, (45, 50 + number, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}.JPEG", "JPEG")
    monkeypatch.setattr(imagenet1k, "CLASSES", 3)
    monkeypatch.setattr(imagenet1k, "TRAIN_IMAGES", 15)
    monkeypatch.setattr(imagenet1k, "TEST_IMAGES", 6)
    return tmp_path


def build(folder, **changes):
    return imagenet1k.build(data_dir=folder, cache_dir=folder, **(KEYWORDS | changes))


def test_the_test_split_is_what_torchvision_reads_of_the_folder(mini):
    imagenet1k.check(mini, **KEYWORDS)
    task = build(mini)
    transform = transforms.Compose(
        [
            transforms.Resize(36),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    expected = ImageFolder(str(mini / "imagenet" / "val"), transform)
    assert len(task.test) == len(expected) == 6
    images, labels = (torch.cat(parts) for parts in zip(*task.test.batches(4), strict=True))
    for image, label, (expected_image, expected_label) in zip(
        images, labels, expected, strict=True
    ):
        torch.testing.assert_close(image, expected_image)
        assert label == expected_label
    assert task.model_arguments == {"in_channels": 3, "num_classes": 3, "image_size": 32}
    assert (task.metric, task.unit) == ("accuracy_percent", "images")


def test_training_images_keep_the_labels_of_their_folders(mini):
    task = build(mini)
    expected = ImageFolder(str(mini / "imagenet" / "train"))
    assert task.validation is None
    paths = [path.decode() for path in task.train.paths]
    assert list(zip(paths, task.train.labels.tolist(), strict=True)) == expected.samples


def test_validation_is_cut_from_train(mini):
    task = build(mini, validation_fraction=0.2)
    assert (len(task.train), len(task.validation), len(task.test)) == (12, 3, 6)
    assert torch.bincount(task.validation.labels).tolist() == [1, 1, 1]
    assert not set(task.train.paths) & set(task.validation.paths)


def test_a_training_batch_has_the_size_of_the_model(mini):
    images, labels = next(build(mini).train.batches(15, seed=0))
    assert images.shape == (15, 3, 32, 32)
    assert images.dtype == torch.float32
    assert labels.bincount().tolist() == [5, 5, 5]


def test_the_record_tells_another_set_of_files(mini):
    before = build(mini).checksums
    path = mini / "imagenet" / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    path.rename(path.with_name("another.JPEG"))
    after = build(mini).checksums
    assert set(before) == set(after)
    assert before["names in val"] == after["names in val"]
    assert before["names in train"] != after["names in train"]


def test_a_missing_folder_is_named(mini):
    shutil.rmtree(mini / "imagenet" / "val")
    with pytest.raises(UserError, match=r"imagenet/val does not exist.*make data TASK=imagenet1k"):
        imagenet1k.check(mini)


def test_a_missing_class_is_named(mini):
    shutil.rmtree(mini / "imagenet" / "train" / WNIDS[1])
    with pytest.raises(UserError, match=r"imagenet/train holds 2 class folders, not 3\."):
        imagenet1k.check(mini)


def test_what_a_notebook_leaves_is_no_class(mini):
    (mini / "imagenet" / "train" / ".ipynb_checkpoints").mkdir()
    imagenet1k.check(mini)
    assert build(mini).model_arguments["num_classes"] == 3


def test_flat_validation_images_are_explained(mini):
    folder = mini / "imagenet" / "val"
    for path in folder.rglob("*.JPEG"):
        path.rename(folder / path.name)
    for wnid in WNIDS:
        (folder / wnid).rmdir()
    with pytest.raises(UserError, match=r"not 3 \(its images lie there unsorted\)"):
        imagenet1k.check(mini)


def test_other_classes_in_val_are_named(mini):
    folder = mini / "imagenet" / "val"
    (folder / WNIDS[0]).rename(folder / "n00000000")
    with pytest.raises(UserError, match="train and val hold different classes, as n00000000"):
        build(mini)


def test_a_part_of_imagenet_is_not_imagenet(mini):
    next((mini / "imagenet" / "train" / WNIDS[2]).iterdir()).unlink()
    with pytest.raises(UserError, match="imagenet/train holds 14 images, not 15"):
        build(mini)


def test_the_counts_are_the_official_ones():
    assert (*(1000, 1_281_167, 50_000),) == (
        imagenet1k.CLASSES,
        imagenet1k.TRAIN_IMAGES,
        imagenet1k.TEST_IMAGES,
    )
