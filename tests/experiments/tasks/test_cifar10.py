import hashlib
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from experiments.errors import UserError
from experiments.tasks import cifar10

KEYWORDS = {
    "download": False,
    "validation_fraction": 0.2,
    "split_seed": 0,
    "crop_padding": 4,
    "flip": True,
    "cutout_size": 16,
}
FOLDER = "cifar-10-batches-py"


@pytest.fixture
def mini(monkeypatch, tmp_path):
    """The official folder with ten images a file, and torchvision's checksums of it."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    random = np.random.RandomState(0)

    def write(name: str, content: dict[str, object]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        data = random.randint(0, 256, (10, 3072)).astype(np.uint8)
        labels = random.permutation(10).tolist()
        key = "test_list" if name == "test_batch" else "train_list"
        lists[key].append([name, write(name, {"data": data, "labels": labels})])
    md5 = write("batches.meta", {"label_names": [f"class {number}" for number in range(10)]})
    for key, value in lists.items():
        monkeypatch.setattr(CIFAR10, key, value)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5})
    return tmp_path


def build(folder, **changes):
    return cifar10.build(data_dir=folder, cache_dir=folder / "cache", **(KEYWORDS | changes))


def test_the_official_layout_is_read(mini):
    cifar10.check(mini, **KEYWORDS)
    task = build(mini)
    assert (len(task.train), len(task.validation), len(task.test)) == (40, 10, 10)
    assert torch.bincount(task.validation.labels).tolist() == [1] * 10
    stored = pickle.loads((mini / FOLDER / "test_batch").read_bytes())
    # A row holds the red, the green and the blue plane, each row by row.
    assert torch.equal(task.test.images.flatten(1), torch.from_numpy(stored["data"]))
    assert task.test.labels.tolist() == stored["labels"]
    assert (
        task.checksums["test_batch"]
        == hashlib.sha256((mini / FOLDER / "test_batch").read_bytes()).hexdigest()
    )
    assert len(task.checksums) == 7


def test_augmentation_can_be_switched_off(mini):
    plain = build(mini, crop_padding=0, flip=False, cutout_size=0, validation_fraction=0)
    assert plain.validation is None
    ((images, labels),) = plain.train.batches(50, seed=0)
    ((in_order, in_order_labels),) = plain.train.batches(50)
    images_of = {tuple(x.flatten().tolist()): y for x, y in zip(images, labels, strict=True)}
    assert len(images_of) == 50
    for image, label in zip(in_order, in_order_labels, strict=True):
        assert images_of[tuple(image.flatten().tolist())] == label


def test_augmentation_is_for_training_only(mini):
    task = build(mini)
    ((first, _),) = task.train.batches(40, seed=0)
    assert int((first[:, 0] == 0).flatten(1).sum(1).min()) >= 64  # the hole of Cutout
    for split in (task.validation, task.test):
        ((images, _),) = split.batches(10)
        assert torch.equal(images, cifar10.NORMALIZATION(split.images))


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_file_is_named(mini, name, damage):
    path = mini / FOLDER / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-1])
    for call in (lambda: cifar10.check(mini, **KEYWORDS), lambda: build(mini)):
        with pytest.raises(UserError) as error:
            call()
        assert str(path) in str(error.value)
        assert "task.download=true" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_missing_folder_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "download", lambda self: pytest.fail("downloaded unasked"))
    with pytest.raises(UserError, match=rf"{FOLDER} does not exist.*task\.download=true"):
        cifar10.check(tmp_path, **KEYWORDS)


def test_a_download_happens_only_where_files_are_missing(mini, monkeypatch):
    path = mini / FOLDER / "data_batch_1"
    content = path.read_bytes()
    calls = []

    def download(self):
        calls.append(1)
        path.write_bytes(content)

    monkeypatch.setattr(CIFAR10, "download", download)
    cifar10.check(mini, **(KEYWORDS | {"download": True}))
    assert calls == []
    path.unlink()
    assert len(build(mini, download=True).train) == 40
    assert calls == [1]


@pytest.mark.parametrize(
    "problem",
    [URLError("no network"), RuntimeError("File not found or corrupted."), TimeoutError()],
)
def test_a_failing_download_is_one_line(tmp_path, monkeypatch, problem):
    def download(self):
        raise problem

    monkeypatch.setattr(CIFAR10, "download", download)
    with pytest.raises(UserError, match="CIFAR-10 could not be downloaded to") as error:
        build(tmp_path, download=True)
    assert "\n" not in str(error.value)
