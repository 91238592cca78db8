import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from experiments.errors import UserError
from experiments.tasks import cifar10_jpeg

KEYWORDS = {
    "validation_fraction": 0.0,
    "split_seed": 0,
    "crop_padding": 4,
    "flip": True,
    "cutout_size": 16,
}
# Grey levels, which JPEG keeps to within one; in an order that the reader has to undo.
MEMBERS = {
    "cifar10/train/cat/0010.jpg": 30,
    "cifar10/train/cat/0002.jpg": 20,
    "cifar10/test/ship/0001.jpg": 70,
    "cifar10/train/airplane/0001.jpg": 10,
    "cifar10/train/ship/0001.jpg": 40,
    "cifar10/test/airplane/0001.jpg": 50,
    "cifar10/test/cat/0001.jpg": 60,
}


@pytest.fixture
def mini(monkeypatch, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        archive.addfile(tarfile.TarInfo("cifar10/README"), io.BytesIO())
        for name, grey in MEMBERS.items():
            image = io.BytesIO()
            Image.new("RGB", (32, 32), (grey,) * 3).save(image, "JPEG")
            info = tarfile.TarInfo(name)
            info.size = len(image.getvalue())
            archive.addfile(info, io.BytesIO(image.getvalue()))
    (tmp_path / "cifar10-jpeg.tar.xz").write_bytes(packed.getvalue())
    sha256 = hashlib.sha256(packed.getvalue()).hexdigest()
    monkeypatch.setattr(cifar10_jpeg, "FILE", replace(cifar10_jpeg.FILE, sha256=sha256))
    return tmp_path


def build(folder):
    return cifar10_jpeg.build(data_dir=folder, cache_dir=folder / "cache", **KEYWORDS)


def test_images_are_in_the_order_of_class_and_number(mini):
    task = build(mini)
    assert task.train.images.shape == (4, 3, 32, 32)
    means = task.train.images.float().mean((1, 2, 3))
    np.testing.assert_allclose(means.numpy(), [10, 20, 30, 40], atol=1)
    assert task.train.labels.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(task.test.images[:, 0, 0, 0].numpy(), [50, 60, 70], atol=1)
    assert task.test.labels.tolist() == [0, 1, 2]
    assert task.name == "cifar10_jpeg"


def test_colours_are_red_green_blue(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for split in ("train", "test"):
            image = io.BytesIO()
            Image.new("RGB", (32, 32), (200, 100, 0)).save(image, "JPEG")
            info = tarfile.TarInfo(f"cifar10/{split}/cat/0001.jpg")
            info.size = len(image.getvalue())
            archive.addfile(info, io.BytesIO(image.getvalue()))
    images = cifar10_jpeg.decode_archive(packed.getvalue())["train_images"]
    np.testing.assert_allclose(images[0, :, 5, 5], [200, 100, 0], atol=3)


def test_the_archive_is_decoded_once(mini, monkeypatch):
    first = build(mini)
    monkeypatch.setattr(cifar10_jpeg, "decode_archive", lambda archive: pytest.fail("again"))
    second = build(mini)
    assert (first.train.images == second.train.images).all()


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_archive_is_named_even_with_a_cache(mini, damage):
    build(mini)
    path = mini / "cifar10-jpeg.tar.xz"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-9])
    for call in (lambda: cifar10_jpeg.check(mini, **KEYWORDS), lambda: build(mini)):
        with pytest.raises(UserError) as error:
            call()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
