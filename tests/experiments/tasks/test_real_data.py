"""The data folder that the suite is used with; set ADAFISHER_TEST_DATA to read another one."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.tasks import cifar10_jpeg, mnist, ptb, tiny_imagenet_val, wikitext2
from experiments.tasks.constant import constant_prediction
from experiments.tokenizations import bpe, word

DEFAULT = Path(__file__).parents[4] / "shared" / "data"
DATA = Path(os.environ.get("ADAFISHER_TEST_DATA", DEFAULT))


def need(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"no {name} in {DATA} (ADAFISHER_TEST_DATA names another data folder)")


def counted(split) -> int:
    return sum(int((targets != -100).sum()) for _, targets in split.batches(64))


@pytest.mark.parametrize(
    ("module", "tokens", "types"),
    [
        (wikitext2, (2_088_628, 217_646, 245_569), 33_278),
        (ptb, (929_589, 73_760, 82_430), 10_000),
    ],
    ids=["wikitext2", "ptb"],
)
def test_token_counts_are_the_official_ones(tmp_path, module, tokens, types):
    need(module.FOLDER)
    task = module.build(data_dir=DATA, cache_dir=tmp_path, context=256, tokenization=word.encode)
    splits = (task.train, task.validation, task.test)
    # The first token of a split is no target.
    assert tuple(counted(split) + 1 for split in splits) == tokens
    assert task.model_arguments["vocab_size"] == types
    largest = max(int(split.inputs.max()) for split in splits)
    assert largest == types - 1
    assert [split.words for split in splits] == [counted(split) for split in splits]


def test_trained_byte_pairs_cover_the_same_text_as_words(tmp_path):
    need(ptb.FOLDER)
    keywords = {"data_dir": DATA, "cache_dir": tmp_path, "context": 256}
    pairs = partial(bpe.encode, vocab_size=512, min_frequency=2)
    words = ptb.build(**keywords, tokenization=word.encode)
    task = ptb.build(**keywords, tokenization=pairs)
    assert task.model_arguments["vocab_size"] == 512
    for split, other in ((task.train, words.train), (task.test, words.test)):
        assert 0 <= split.words - other.words <= 1
        assert counted(split) > counted(other)
        assert int(split.inputs.max()) < 512


def test_mnist_is_complete(tmp_path):
    need("mnist")
    task = mnist.build(data_dir=DATA, cache_dir=tmp_path, validation_fraction=0.1, split_seed=0)
    assert (len(task.train), len(task.validation), len(task.test)) == (54_000, 6_000, 10_000)
    # Images of each class as MNIST has them, 5,923 zeros and so on.
    labels = torch.cat([task.train.labels, task.validation.labels])
    assert torch.bincount(labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    images = next(task.train.batches(54_000))[0]
    assert images.mean().abs() < 2e-3
    assert (images.std() - 1).abs() < 2e-3
    # 1,135 of the test images show a one, the digit that most training images show.
    assert constant_prediction(task, task.test)["accuracy_percent"] == pytest.approx(11.35)


@pytest.mark.slow
def test_cifar10_jpeg_is_complete(tmp_path):
    need("cifar10-jpeg.tar.xz")
    keywords = {"crop_padding": 4, "flip": True, "cutout_size": 16}
    for _ in range(2):  # decoded, then from the cache
        task = cifar10_jpeg.build(
            data_dir=DATA, cache_dir=tmp_path, validation_fraction=0.1, split_seed=0, **keywords
        )
        assert torch.bincount(task.train.labels).tolist() == [4500] * 10
        assert torch.bincount(task.validation.labels).tolist() == [500] * 10
        assert torch.bincount(task.test.labels).tolist() == [1000] * 10
        # The means of CIFAR-10 itself, which the JPEG encoding keeps.
        means = task.train.images.double().mean((0, 2, 3)) / 255
        np.testing.assert_allclose(means.numpy(), [0.4914, 0.4822, 0.4465], atol=2e-3)


def test_the_checksum_of_cifar10_jpeg_holds():
    need("cifar10-jpeg.tar.xz")
    cifar10_jpeg.check(DATA)


def test_tiny_imagenet_val_is_complete(tmp_path):
    need("tiny-imagenet/val.tar.xz")
    keywords = {"min_crop_area": 0.08, "flip": True, "cutout_size": 0, "split_seed": 0}
    task = tiny_imagenet_val.build(
        data_dir=DATA, cache_dir=tmp_path, test_fraction=0.2, validation_fraction=0.1, **keywords
    )
    assert torch.bincount(task.train.labels).tolist() == [36] * 200
    assert torch.bincount(task.validation.labels).tolist() == [4] * 200
    assert torch.bincount(task.test.labels).tolist() == [10] * 200
    images = torch.cat([s.images for s in (task.train, task.validation, task.test)])
    grey = (images[:, 0] == images[:, 1]) & (images[:, 1] == images[:, 2])
    # 168 files have one channel; a colour file may happen to hold only grey as well.
    assert 168 <= int(grey.flatten(1).all(1).sum()) < 200
