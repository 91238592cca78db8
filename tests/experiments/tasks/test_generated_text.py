from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.errors import UserError
from experiments.tasks import generated_text
from experiments.tokenizations import word

COUNTS = {"context": 16, "words": 20, "train_lines": 8, "test_lines": 3, "data_seed": 0}


def build(**changes):
    return generated_text.build(
        data_dir=Path(), cache_dir=Path(), tokenization=partial(word.encode), **(COUNTS | changes)
    )


def test_sizes_are_those_asked_for():
    task = build()
    assert task.model_arguments == {"vocab_size": 21, "context": 16}  # and <eos>
    inputs, targets = next(task.train.batches(4, seed=0))
    assert inputs.shape == targets.shape == (4, 16)
    # A line has its words and an end; the first token is no target.
    assert sum(int((t >= 0).sum()) for _, t in task.test.batches(2)) == 3 * 17 - 1


def test_the_data_seed_fixes_the_text():
    first, again, other = build(), build(), build(data_seed=1)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert first.checksums == again.checksums != other.checksums


@pytest.mark.parametrize("key", ["context", "words", "train_lines", "test_lines"])
@pytest.mark.parametrize("value", [0, True, 1.5])
def test_a_count_that_is_none_is_refused(key, value):
    with pytest.raises(UserError, match=rf"Invalid task\.{key}: {value}\. Must be a whole"):
        build(**{key: value})
