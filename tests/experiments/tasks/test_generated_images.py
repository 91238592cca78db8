from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from experiments.config.sections import Batching
from experiments.errors import UserError
from experiments.tasks import generated_images

FILE = Path(__file__).parents[3] / "conf" / "task" / "generated_images.yaml"
BATCHING = [one.name for one in fields(Batching)]
ARGUMENTS = {
    key: value
    for key, value in yaml.safe_load(FILE.read_text()).items()
    if key not in {"defaults", "_target_", "_partial_", "suite", *BATCHING}
}


def build(**changes):
    return generated_images.build(data_dir=Path(), cache_dir=Path(), **(ARGUMENTS | changes))


@pytest.mark.parametrize("shape", [(1, 8, 3), (3, 64, 200)])
def test_shapes_are_those_asked_for(shape):
    channels, side, classes = shape
    task = build(in_channels=channels, image_size=side, num_classes=classes)
    images, labels = next(task.train.batches(4, seed=0))
    assert images.shape == (4, channels, side, side)
    assert labels.max() < classes
    assert task.model_arguments["num_classes"] == classes


def test_the_data_seed_fixes_the_images():
    first, again, other = build(), build(), build(data_seed=1)
    assert torch.equal(first.test.images, again.test.images)
    assert first.checksums == again.checksums != other.checksums


def test_nearest_pattern_is_the_label():
    """The classes can be told apart by the means of their training images."""
    task = build(train_images=40, test_images=10, validation_fraction=0)
    means = torch.stack(
        [task.train.images[task.train.labels == c].float().mean(0) for c in range(10)]
    )
    distances = (task.test.images[:, None].float() - means).flatten(2).norm(dim=2)
    assert torch.equal(distances.argmin(1), task.test.labels)


@pytest.mark.parametrize("key", ["image_size", "num_classes", "train_images"])
@pytest.mark.parametrize("value", [0, True, 1.5])
def test_a_count_that_is_none_is_refused(key, value):
    with pytest.raises(UserError, match=rf"Invalid task\.{key}: {value}\. Must be a whole"):
        build(**{key: value})
