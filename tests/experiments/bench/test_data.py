"""The data part of the benchmark: its sources and its table; times are never asserted."""

import json
from pathlib import Path

import pytest
import torch

from experiments.bench import sources
from experiments.bench.bench import main
from experiments.errors import UserError
from experiments.tasks.cifar10 import TASK as CIFAR10

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

AUGMENTATION = {"crop_padding": 4, "flip": True, "cutout_size": 16}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "COUNT", 24)


@pytest.fixture
def split():
    keywords = {"validation_fraction": 0.1, "split_seed": 0, **AUGMENTATION}
    return sources.make_task(data_dir=Path(), cache_dir=Path(), **keywords).train


def test_one_batch_is_repeated_for_as_long_as_a_pass(split) -> None:
    batches = list(sources.RepeatedBatch(split, 5, torch.device("cpu")).batches(5, seed=1))
    assert len(batches) == split.num_batches(5) == 5
    assert all(images is batches[0][0] for images, _ in batches)
    assert batches[0][0].shape == (5, 3, 32, 32)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_plain_loader_gives_every_image_with_its_label(split, workers: int) -> None:
    plain = {"crop_padding": 0, "flip": False, "cutout_size": 8}
    pictures = sources.Pictures(split, plain)
    loader = sources.PlainLoader(pictures, len(split), workers=workers, pin=False)
    batches = list(loader.batches(5))
    labels = torch.cat([labels for _, labels in batches])
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 4]
    assert torch.equal(labels.sort().values, split.labels.sort().values)
    # Apart from the erased square and the flip each is an image of the split.
    originals = CIFAR10.normalization(split.images)
    both = torch.cat([originals, originals.flip(-1)])
    for image in torch.cat([images for images, _ in batches]):
        hole = (image == 0).all(0)
        assert int(hole.sum()) == 64
        errors = ((both - image).abs() * ~hole).flatten(1).amax(1)
        assert errors.min() < 1e-5


def test_the_table_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["part=data", "model=small_cnn", "quick=true", "device=cpu", f"out={tmp_path}"])
    printed = capsys.readouterr().out
    names = ["one batch", "suite", "DataLoader, 0 workers", "DataLoader, 2 workers"]
    assert all(f"\n  {name} " in printed for name in names)
    (result,) = json.loads((tmp_path / "bench" / "data.json").read_text("utf-8"))["results"]
    assert [turns["name"] for turns in result["measured"]] == names
    assert all(len(turns["wall"]) == len(turns["cpu"]) == 2 for turns in result["measured"])
    assert result["ratios_to_one_batch"]["one batch"]["wall"]["median"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch=0"], "Invalid batch: 0. Must be >= 1"),
        (["rounds=1"], "Invalid rounds: 1. Must be >= 2"),
        (["batch=8", "steps=3"], "Invalid steps: 3. A pass has 2"),
        (["model=vgg", "batch=2"], "Unknown model: 'vgg'"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["part=data", *arguments, "device=cpu"])
