"""Streamed images against torchvision's transforms, and their independence of the workers."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from experiments.errors import UserError
from experiments.system import log
from experiments.tasks.images import Normalization
from experiments.tasks.streaming import Framing, StreamedSplit, frame, image_folder

# Python 3.12 warns of every fork of a process with threads; the workers only read and decode.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

COUNT = 11
SIZES = [(40, 30), (30, 40), (24, 24), (90, 25), (26, 33)]
NORMALIZATION = Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
FRAMING = Framing(size=16, resize=20, min_crop_area=0.08, flip=True)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Files of several sizes and modes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    found = []
    for number in range(COUNT):
        width, height = SIZES[number % len(SIZES)]
        pixels = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.fromarray(pixels)
        image = image.convert(["RGB", "L", "CMYK"][number % 3])
        found.append(str(folder / f"ä {number}.JPEG"))
        image.save(found[-1], "JPEG")
    return found


def make_split(paths, workers=0, framing=FRAMING):
    return StreamedSplit(
        paths,
        torch.arange(len(paths)),
        normalization=NORMALIZATION,
        framing=framing,
        workers=workers,
    )


def test_evaluation_follows_torchvision(paths):
    expected = transforms.Compose(
        [
            transforms.Resize(20),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(NORMALIZATION.mean, NORMALIZATION.std),
        ]
    )
    split = make_split(paths)
    images = torch.cat([images for images, _ in split.batches(4)])
    labels = torch.cat([labels for _, labels in split.batches(4)])
    assert labels.tolist() == list(range(COUNT))
    for path, image in zip(paths, images, strict=True):
        torch.testing.assert_close(image, expected(Image.open(path).convert("RGB")))


def test_the_whole_image_is_only_resized_and_perhaps_mirrored(paths):
    image = Image.open(paths[2]).convert("RGB")  # a square, so that the largest box is all of it
    framing = Framing(size=24, resize=24, min_crop_area=1.0, flip=True)
    seen = set()
    for seed in range(40):
        found = frame(image, framing, seed)
        if found.tobytes() == image.tobytes():
            seen.add("same")
        elif found.tobytes() == transforms.functional.hflip(image).tobytes():
            seen.add("mirrored")
        else:
            # Of an area of 1 the ratio may still round to another side than the image's.
            seen.add("cut")
    assert {"same", "mirrored"} <= seen


@pytest.mark.parametrize("seed", [None, 7])
def test_the_number_of_workers_changes_no_batch(paths, seed):
    passes = [list(make_split(paths, workers).batches(3, seed=seed)) for workers in (0, 1, 2)]
    assert [len(one) for one in passes] == [4, 4, 4]
    for first, *others in zip(*passes, strict=True):
        for other in others:
            assert torch.equal(first[0], other[0])
            assert torch.equal(first[1], other[1])


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_resumed_pass_is_the_tail_of_the_whole_one(paths, seed, start):
    split = make_split(paths)
    every, rest = (list(split.batches(3, seed=seed, start=n)) for n in (0, start))
    assert len(rest) == len(every) - start
    for (images, labels), (expected, expected_labels) in zip(rest, every[start:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_a_resumed_pass_by_workers_is_the_same_tail(paths):
    every = list(make_split(paths).batches(3, seed=7))
    rest = list(make_split(paths, 2).batches(3, seed=7, start=2))
    assert torch.equal(torch.cat([x for x, _ in rest]), torch.cat([x for x, _ in every[2:]]))


def test_the_changes_of_a_sample_depend_on_its_seed_and_index_alone(paths):
    def by_label(seed, size):
        batches = list(make_split(paths).batches(size, seed=seed))
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return images[labels.argsort()], labels

    (one, order), (other, _) = by_label(7, 2), by_label(7, COUNT)
    assert torch.equal(one, other)
    changed, other_order = by_label(8, 2)
    assert not torch.equal(order, other_order)
    assert all(not torch.equal(a, b) for a, b in zip(one, changed, strict=True))


def test_batches_leave_the_global_generator_alone(paths):
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(make_split(paths, workers).batches(6, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["missing", "truncated", "no image"])
def test_a_damaged_file_is_one_line_from_any_process(paths, tmp_path, workers, damage):
    path = tmp_path / "bad.JPEG"
    content = Path(paths[0]).read_bytes()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"<html>")
    split = make_split([*paths[:3], str(path)], workers)
    with pytest.raises(UserError) as error:
        list(split.batches(2))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_of_more_pixels_than_are_allowed_is_one_line(paths, monkeypatch, workers):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1100)  # PIL warns, and refuses twice as many
    with pytest.raises(UserError) as error:
        list(make_split(paths, workers).batches(2))
    assert paths[3] in str(error.value)  # that of 90x25
    assert "(2250 pixels) exceeds limit of 2200 pixels" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_leaves_the_workers_at_work(paths, number):
    """As Ctrl-C and schedulers send it; that the run itself notes it is tested with the run."""
    expected = list(make_split(paths).batches(1, seed=0))
    batches = make_split(paths, 1).batches(1, seed=0)
    found = [next(batches)]
    children = torch.multiprocessing.active_children()
    assert children
    for child in children:
        os.kill(child.pid, number)
    found += batches
    assert torch.equal(torch.cat([x for x, _ in found]), torch.cat([x for x, _ in expected]))


def test_a_pass_that_is_left_early_ends_its_workers(paths):
    batches = make_split(paths, 2).batches(1, seed=0)
    next(batches)
    assert len(torch.multiprocessing.active_children()) == 2
    batches.close()
    del batches
    assert torch.multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "Invalid image_size: 0"),
        ({"resize": 15}, "Invalid resize: 15. Must be >= image_size, 16"),
        ({"min_crop_area": 0.0}, "Invalid min_crop_area: 0.0"),
        ({"min_crop_area": 1.5}, "Invalid min_crop_area: 1.5"),
    ],
    ids=str,
)
def test_an_impossible_framing_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Framing(**({"size": 16, "resize": 20, "min_crop_area": 0.1, "flip": False} | changes))


@pytest.mark.parametrize("workers", [-1, 1.5, "two"])
def test_an_impossible_number_of_workers_is_refused(paths, workers):
    with pytest.raises(UserError, match=f"Invalid workers: {workers}"):
        make_split(paths, workers)


def test_left_open_there_are_as_many_workers_as_cores(paths, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(3), raising=False)
    assert make_split(paths, None)._workers == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(99), raising=False)
    assert make_split(paths, None)._workers == 16


def test_an_image_folder_is_listed_in_order(tmp_path):
    for name in ("n2/b.JPEG", "n2/a.JPEG", "n1/z.jpeg", "n1/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "README").touch()
    assert image_folder(tmp_path, (".jpeg",)) == {
        "n1": [str(tmp_path / "n1" / "z.jpeg")],
        "n2": [str(tmp_path / "n2" / "a.JPEG"), str(tmp_path / "n2" / "b.JPEG")],
    }


def test_hidden_folders_and_files_are_no_classes_and_no_images(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(log, "once", said.append)
    for name in ("n1/a.jpeg", "n1/._a.jpeg", ".ipynb_checkpoints/a.jpeg", ".cache/b.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_folder(tmp_path, (".jpeg",)) == {"n1": [str(tmp_path / "n1" / "a.jpeg")]}
    assert said == [f"Data folder {tmp_path}: left out, as hidden: .cache, .ipynb_checkpoints"]


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_on_the_device_and_are_the_same(paths, workers):
    here, there = make_split(paths), make_split(paths, workers)
    there.to(torch.device("cuda"))
    for (images, labels), (found, found_labels) in zip(
        here.batches(3, seed=1), there.batches(3, seed=1), strict=True
    ):
        assert found.is_cuda
        assert found_labels.is_cuda
        assert torch.equal(found.cpu(), images)
        assert torch.equal(found_labels.cpu(), labels)
