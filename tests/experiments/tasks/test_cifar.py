"""CIFAR-10 and CIFAR-100 in their official layout, with a few images a file."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from experiments.errors import UserError
from experiments.tasks import cifar, cifar10, cifar100
from experiments.tasks.unpack import unpack

KEYWORDS = {
    "download": False,
    "validation_fraction": 0.2,
    "split_seed": 0,
    "crop_padding": 4,
    "flip": True,
    "cutout_size": 16,
}


class Mini(NamedTuple):
    """A data folder in the official layout, and the module that reads it."""

    module: object
    data_dir: Path
    folder: str
    classes: int
    train_files: list[str]
    test_file: str
    meta_file: str
    label_key: str

    def build(self, **changes):
        return self.module.build(
            data_dir=self.data_dir, cache_dir=self.data_dir / "cache", **(KEYWORDS | changes)
        )

    def stored(self, name):
        return pickle.loads((self.data_dir / self.folder / name).read_bytes())


LAYOUTS = {
    "cifar10": (
        *(cifar10, "cifar-10-batches-py", 10),
        *([f"data_batch_{n}" for n in range(1, 6)], "test_batch", "batches.meta", "labels"),
    ),
    "cifar100": (cifar100, "cifar-100-python", 100, ["train"], "test", "meta", "fine_labels"),
}


@pytest.fixture(params=LAYOUTS)
def mini(request, monkeypatch, tmp_path):
    """The official folder, and torchvision's checksums of it; every class is there five times."""
    module, folder, classes, train_files, test_file, meta_file, label_key = LAYOUTS[request.param]
    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[request.param]
    (tmp_path / folder).mkdir()
    random = np.random.RandomState(0)

    def write(name: str, content: dict[str, object]) -> list[str]:
        path = tmp_path / folder / name
        path.write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(count: int) -> dict[str, object]:
        labels = [int(n) for n in random.permutation(np.arange(count) % classes)]
        content = {"data": random.randint(0, 256, (count, 3072)).astype(np.uint8)}
        content |= {label_key: labels, "filenames": [f"{n}.png" for n in range(count)]}
        if classes == 100:
            content["coarse_labels"] = [label // 5 for label in labels]
        return content

    count = 5 * classes // len(train_files)
    train = [write(name, batch(count)) for name in train_files]
    key = {10: "label_names", 100: "fine_label_names"}[classes]
    _, md5 = write(meta_file, {key: [f"class {number}" for number in range(classes)]})
    monkeypatch.setattr(dataset, "train_list", train)
    monkeypatch.setattr(dataset, "test_list", [write(test_file, batch(classes))])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5})
    monkeypatch.setattr(cifar, "fetch", lambda *_: pytest.fail("fetched unasked"))
    return Mini(module, tmp_path, folder, classes, train_files, test_file, meta_file, label_key)


def test_the_official_layout_is_read(mini):
    mini.module.check(mini.data_dir, **KEYWORDS)
    task = mini.build()
    classes = mini.classes
    assert (len(task.train), len(task.validation), len(task.test)) == (
        4 * classes,
        classes,
        classes,
    )
    assert torch.bincount(task.validation.labels).tolist() == [1] * classes
    stored = mini.stored(mini.test_file)
    # A row holds the red, the green and the blue plane, each row by row.
    assert torch.equal(task.test.images.flatten(1), torch.from_numpy(stored["data"]))
    assert task.test.labels.tolist() == stored[mini.label_key]
    path = mini.data_dir / mini.folder / mini.test_file
    assert task.checksums[mini.test_file] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(task.checksums) == len(mini.train_files) + 2
    assert task.model_arguments == {"in_channels": 3, "num_classes": classes, "image_size": 32}


def test_training_images_keep_their_labels(mini):
    task = mini.build(validation_fraction=0)
    label_of = {}
    for name in mini.train_files:
        stored = mini.stored(name)
        label_of |= zip(map(bytes, stored["data"]), stored[mini.label_key], strict=True)
    assert len(label_of) == len(task.train) == 5 * mini.classes
    for image, label in zip(task.train.images, task.train.labels.tolist(), strict=True):
        assert label_of[image.numpy().tobytes()] == label


def test_augmentation_can_be_switched_off(mini):
    plain = mini.build(crop_padding=0, flip=False, cutout_size=0, validation_fraction=0)
    assert plain.validation is None
    ((images, labels),) = plain.train.batches(1000, seed=0)
    ((in_order, in_order_labels),) = plain.train.batches(1000)
    images_of = {tuple(x.flatten().tolist()): y for x, y in zip(images, labels, strict=True)}
    assert len(images_of) == 5 * mini.classes
    for image, label in zip(in_order, in_order_labels, strict=True):
        assert images_of[tuple(image.flatten().tolist())] == label


def test_augmentation_is_for_training_only(mini):
    task = mini.build()
    first, _ = next(task.train.batches(40, seed=0))
    assert int((first[:, 0] == 0).flatten(1).sum(1).min()) >= 64  # the hole of Cutout
    for split in (task.validation, task.test):
        ((images, _),) = split.batches(1000)
        assert torch.equal(images, mini.module.TASK.normalization(split.images))


@pytest.mark.parametrize("which", ["train", "test", "meta"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_file_is_named(mini, which, damage):
    names = {"train": mini.train_files[-1], "test": mini.test_file, "meta": mini.meta_file}
    path = mini.data_dir / mini.folder / names[which]
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-1])
    for call in (lambda: mini.module.check(mini.data_dir, **KEYWORDS), mini.build):
        with pytest.raises(UserError) as error:
            call()
        assert str(path) in str(error.value)
        assert "task.download=true" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_missing_folder_is_named_with_the_command_and_nothing_is_fetched(mini, tmp_path):
    name = mini.module.__name__.rpartition(".")[2]
    with pytest.raises(UserError, match=rf"{mini.folder} does not exist.*make data TASK={name}'"):
        mini.module.check(tmp_path / "elsewhere", **KEYWORDS)


def test_a_download_happens_only_where_files_are_missing(mini, monkeypatch):
    path = mini.data_dir / mini.folder / mini.train_files[0]
    content = path.read_bytes()
    fetched = []

    def fetch(source, data_dir):
        fetched.append(source)
        path.write_bytes(content)

    monkeypatch.setattr(cifar, "fetch", fetch)
    mini.module.check(mini.data_dir, **(KEYWORDS | {"download": True}))
    assert fetched == []
    path.unlink()
    assert len(mini.build(download=True).train) == 4 * mini.classes
    assert fetched == [mini.module.SOURCE]


def test_the_source_is_the_official_archive_and_unpacks_to_where_it_is_read(mini, tmp_path):
    source = mini.module.SOURCE
    (remote,) = source.files
    assert remote.url.startswith("https://www.cs.toronto.edu/~kriz/cifar-10")
    assert remote.unpack
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(mini.data_dir / mini.folder, mini.folder)
    (tmp_path / "there").mkdir()
    archive_path = tmp_path / "there" / remote.path
    archive_path.write_bytes(packed.getvalue())
    unpack(archive_path, tmp_path / "there")
    mini.module.check(tmp_path / "there", **KEYWORDS)
    assert source.place == mini.folder
