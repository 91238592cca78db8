"""Tiny-ImageNet in its official layout with a few images, and its validation part alone."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.errors import UserError
from experiments.tasks import tiny_imagenet, tiny_imagenet_val
from experiments.tasks.unpack import unpack

WHOLE = {
    "validation_fraction": 0.25,
    "split_seed": 0,
    "min_crop_area": 0.08,
    "flip": True,
    "cutout_size": 0,
}
PART = WHOLE | {"test_fraction": 0.5, "validation_fraction": 0.0}
# In the order of wnids.txt, which is not that of the labels.
WNIDS = ["n02124075", "n04067472", "n01443537"]
FOLDER = "tiny-imagenet-200"


def jpeg(grey: int, mode: str = "RGB") -> bytes:
    packed = io.BytesIO()
    Image.new("L", (64, 64), grey).convert(mode).save(packed, "JPEG")
    return packed.getvalue()


@pytest.fixture
def files():
    """The official files by path; the grey of an image tells its class: 20, 60 or 100 and more."""
    grey = {wnid: 20 + 40 * label for label, wnid in enumerate(sorted(WNIDS))}
    content = {"wnids.txt": "\n".join(WNIDS).encode(), "words.txt": b"n02124075\tcat\n"}
    for wnid in WNIDS:
        content[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for number in range(4):
            mode = "L" if number == 3 else "RGB"  # as some of the official ones
            content[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(grey[wnid] + number, mode)
    lines = []
    for number in (10, 2, 0, 1, 3, 4):
        wnid = WNIDS[number % 3]
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62")
        content[f"val/images/val_{number}.JPEG"] = jpeg(grey[wnid] + number)
    content["val/val_annotations.txt"] = "\n".join([*lines, ""]).encode()
    content["test/images/test_0.JPEG"] = jpeg(0)
    return {f"{FOLDER}/{name}": data for name, data in content.items()}


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    for name, value in (("CLASSES", 3), ("TRAIN_IMAGES", 12), ("TEST_IMAGES", 6)):
        monkeypatch.setattr(tiny_imagenet, name, value)


@pytest.fixture
def folder(tmp_path, files):
    """The data folder, unpacked from a zip like the official one."""
    archive = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    unpack(archive, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def packed(tmp_path, files, monkeypatch):
    """A data folder that holds the validation part as an archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        for name, data in files.items():
            if "/val/" in name or name.endswith(".txt"):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    path = tmp_path / "packed" / "tiny-imagenet" / "val.tar.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()
    monkeypatch.setattr(tiny_imagenet_val, "FILE", replace(tiny_imagenet_val.FILE, sha256=sha256))
    return tmp_path / "packed"


def build(module, data_dir, **changes):
    keywords = (WHOLE if module is tiny_imagenet else PART) | changes
    return module.build(data_dir=data_dir, cache_dir=data_dir / "cache", **keywords)


def greys(split):
    return split.images.float().mean((1, 2, 3)).round().int().tolist()


def test_the_official_layout_is_read(folder):
    tiny_imagenet.check(folder, **WHOLE)
    task = build(tiny_imagenet, folder)
    assert (len(task.train), len(task.validation), len(task.test)) == (9, 3, 6)
    assert torch.bincount(task.validation.labels).tolist() == [1, 1, 1]
    for split in (task.train, task.validation, task.test):
        for grey, label in zip(greys(split), split.labels.tolist(), strict=True):
            assert 0 <= grey - (20 + 40 * label) <= 10
    # In the order of their numbers 0, 1, 2, 3, 4, 10, not of their lines or names.
    label_of = [sorted(WNIDS).index(wnid) for wnid in WNIDS]
    assert task.test.labels.tolist() == [label_of[n % 3] for n in (0, 1, 2, 3, 4, 10)]
    assert task.train.images.shape == (9, 3, 64, 64)
    assert task.model_arguments == {"in_channels": 3, "num_classes": 3, "image_size": 64}


def test_images_are_decoded_once(folder, monkeypatch):
    first = build(tiny_imagenet, folder)
    monkeypatch.setattr(tiny_imagenet, "decode", lambda *_, **__: pytest.fail("again"))
    second = build(tiny_imagenet, folder)
    assert torch.equal(first.train.images, second.train.images)
    assert first.checksums == second.checksums


def test_other_files_are_decoded_anew(folder):
    first = build(tiny_imagenet, folder)
    path = folder / FOLDER / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG"
    path.write_bytes(jpeg(255) + b" ")
    second = build(tiny_imagenet, folder)
    assert max(greys(second.train) + greys(second.validation)) == 255
    assert first.checksums != second.checksums


def test_training_batches_are_crops_and_evaluation_the_whole(folder):
    task = build(tiny_imagenet, folder)
    images, labels = next(task.train.batches(9, seed=0))
    assert images.shape == (9, 3, 64, 64)
    # A crop of one colour is of that colour: the labels stay with their images.
    grey = images[:, 0, 5, 5] * (0.229 * 255) + 0.485 * 255
    assert ((grey - 20 - 40 * labels).abs() < 5).all()
    ((whole, _),) = task.test.batches(6)
    assert torch.equal(whole, tiny_imagenet.NORMALIZATION(task.test.images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wnids.txt", "wnids.txt is missing"),
        ("val/val_annotations.txt", "val_annotations.txt is missing"),
        ("val/images/val_10.JPEG", "val_10.JPEG is missing or empty"),
        (f"train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG", "train holds 11 images, not 12"),
    ],
)
def test_a_missing_file_is_named(folder, name, message):
    (folder / FOLDER / name).unlink()
    with pytest.raises(UserError, match=f"{message}.*make data TASK=tiny_imagenet'") as error:
        tiny_imagenet.check(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn99999999", "x\tn01443537", "\t"])
def test_damaged_annotations_are_named(folder, line):
    (folder / FOLDER / "val" / "val_annotations.txt").write_text(line)
    for module in (tiny_imagenet, tiny_imagenet_val):
        with pytest.raises(UserError, match=r"val_annotations\.txt is damaged") as error:
            module.check(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"<html>", jpeg(9)[:300]], ids=["no image", "truncated"])
def test_an_image_that_cannot_be_decoded_is_named(folder, content):
    path = folder / FOLDER / "val" / "images" / "val_2.JPEG"
    path.write_bytes(content)
    for module in (tiny_imagenet, tiny_imagenet_val):
        with pytest.raises(UserError, match=r"val_2\.JPEG cannot be decoded") as error:
            build(module, folder)
        assert "\n" not in str(error.value)


def test_a_picture_of_more_pixels_than_are_allowed_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(UserError, match=r"\.JPEG cannot be decoded.*4096 pixels.*4000 pixels"):
        build(tiny_imagenet, folder)


def test_an_image_of_another_size_is_named(folder):
    path = folder / FOLDER / "val" / "images" / "val_2.JPEG"
    Image.new("RGB", (32, 64)).save(path)
    with pytest.raises(UserError, match=r"val_2\.JPEG has the shape \(64, 32, 3\), not 64x64"):
        build(tiny_imagenet, folder)


def test_the_validation_part_is_the_same_from_archive_and_folder(folder, packed):
    tiny_imagenet_val.check(packed, **PART)
    tiny_imagenet_val.check(folder, **PART)
    one, other = build(tiny_imagenet_val, packed), build(tiny_imagenet_val, folder)
    for first, second in ((one.train, other.train), (one.test, other.test)):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
    assert (len(one.train), one.validation, len(one.test)) == (3, None, 3)
    whole = build(tiny_imagenet, folder).test
    both = greys(one.train) + greys(one.test)
    assert sorted(both) == sorted(greys(whole))
    assert one.model_arguments == {"in_channels": 3, "num_classes": 200, "image_size": 64}


def test_the_archive_is_decoded_once(packed, monkeypatch):
    first = build(tiny_imagenet_val, packed)
    monkeypatch.setattr(tiny_imagenet_val, "decode_archive", lambda _: pytest.fail("again"))
    np.testing.assert_array_equal(first.train.images, build(tiny_imagenet_val, packed).train.images)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_archive_is_named(packed, damage):
    path = packed / "tiny-imagenet" / "val.tar.xz"
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-5])
    for call in (
        lambda: tiny_imagenet_val.check(packed),
        lambda: build(tiny_imagenet_val, packed),
    ):
        with pytest.raises(UserError, match="make data TASK=tiny_imagenet_val'") as error:
            call()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
