import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from experiments.errors import UserError
from experiments.tasks import mnist

KEYWORDS = {"validation_fraction": 0.25, "split_seed": 0}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture(params=[0, 1], ids=["gz", "plain"])
def mini(request, monkeypatch, tmp_path):
    """Four files in the official layout, with their arrays."""
    random = np.random.RandomState(0)
    arrays = {
        "train_images": random.randint(0, 256, (40, 28, 28)).astype(np.uint8),
        "train_labels": (np.arange(40) % 10).astype(np.uint8),
        "test_images": random.randint(0, 256, (7, 28, 28)).astype(np.uint8),
        "test_labels": np.array([9, 8, 7, 0, 0, 1, 2], dtype=np.uint8),
    }
    files = {}
    (tmp_path / "mnist").mkdir()
    for key, array in arrays.items():
        name = mnist.FILES[key].names[request.param]
        content = idx(array)
        packed = gzip.compress(content) if name.endswith(".gz") else content
        (tmp_path / "mnist" / name).write_bytes(packed)
        files[key] = replace(mnist.FILES[key], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist, "FILES", files)
    return tmp_path, arrays


def test_the_official_layout_is_read(mini):
    folder, arrays = mini
    mnist.check(folder, **KEYWORDS)
    task = mnist.build(data_dir=folder, cache_dir=folder / "cache", **KEYWORDS)
    assert (len(task.train), len(task.validation), len(task.test)) == (30, 10, 7)
    assert torch.bincount(task.validation.labels).tolist() == [1] * 10
    assert task.test.images[:, 0].tolist() == arrays["test_images"].tolist()
    ((images, labels),) = task.test.batches(10)
    expected = (arrays["test_images"] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(images[:, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [9, 8, 7, 0, 0, 1, 2]
    assert labels.dtype == torch.int64
    assert task.model_arguments == {"in_channels": 1, "num_classes": 10, "image_size": 28}


def test_the_layout_of_torchvision_is_found(mini):
    folder, _ = mini
    ours = mnist.build(data_dir=folder, cache_dir=folder, **KEYWORDS)
    (folder / "MNIST").mkdir()
    (folder / "mnist").rename(folder / "MNIST" / "raw")
    (folder / "mnist").mkdir()  # as a download that was broken off leaves it
    mnist.check(folder, **KEYWORDS)
    theirs = mnist.build(data_dir=folder, cache_dir=folder, **KEYWORDS)
    assert torch.equal(ours.train.images, theirs.train.images)
    assert ours.checksums == theirs.checksums


def test_that_is_where_torchvision_leaves_it(tmp_path):
    read = object.__new__(MNIST)  # without its files, which it would ask the network for
    read.root = str(tmp_path)
    assert Path(read.raw_folder) == tmp_path / mnist.FOLDERS[1]


def test_training_images_keep_their_labels(mini):
    folder, arrays = mini
    task = mnist.build(data_dir=folder, cache_dir=folder, validation_fraction=0, split_seed=0)
    assert task.validation is None
    label_of = dict(
        zip(map(bytes, arrays["train_images"]), arrays["train_labels"].tolist(), strict=True)
    )
    for image, label in zip(task.train.images, task.train.labels.tolist(), strict=True):
        assert label_of[image.numpy().tobytes()] == label


@pytest.mark.parametrize("key", mnist.FILES)
def test_a_truncated_file_is_named(mini, key):
    folder, _ = mini
    path = next(
        folder / "mnist" / name
        for name in mnist.FILES[key].names
        if (folder / "mnist" / name).exists()
    )
    path.write_bytes(path.read_bytes()[:-3])
    for call in (
        lambda: mnist.check(folder, **KEYWORDS),
        lambda: mnist.build(data_dir=folder, cache_dir=folder, **KEYWORDS),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_idx_is_big_endian_and_row_major():
    array = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert mnist.parse_idx(idx(array), name="a").tolist() == array.tolist()
    # The first bytes of the real file of training images: 2051 = 0x803, then 60,000 x 28 x 28.
    header = bytes([0, 0, 8, 3, 0, 0, 0xEA, 0x60, 0, 0, 0, 28, 0, 0, 0, 28])
    assert mnist.parse_idx(header + bytes(60_000 * 784), name="a").shape == (60_000, 28, 28)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "no idx file"),
        (b"\x00\x00\x08\x03\x00\x00", "ends within its header"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03ab", "has 2 bytes of data, not 3"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03abcd", "has 4 bytes of data, not 3"),
    ],
)
def test_what_is_no_idx_file_is_refused(content, reason):
    with pytest.raises(UserError, match=f"Data file name .*{reason}"):
        mnist.parse_idx(content, name="name")
