"""A part of train and of validation, and evaluations by steps: options of every task."""

import pytest
import torch

from experiments.engine.build import build, build_task
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.tasks.datasets import DatasetSplit
from experiments.tasks.noisy_quadratic import Noise
from experiments.tasks.tensors import TensorSplit
from experiments.tasks.tokens import NEXT_TOKEN, TokenSplit

INDEX = torch.tensor([1, 3, 4])
SEEDS = ("seed=0", "seed=1")
KEYS = ("train_limit", "validation_limit", "evaluate_every")
TASKS = ["digits", "digits_autoencoder", "tinyshakespeare"]


@pytest.mark.parametrize("name", TASKS)
def test_a_part_is_the_same_samples_in_every_run_and_leaves_test_whole(make_config, name):
    limits = ["task.train_limit=9", "task.validation_limit=5"]
    first, again = (
        build_task(make_config(f"task={name}", *limits, s)) for s in ("seed=0", "seed=1")
    )
    whole = build_task(make_config(f"task={name}"))
    assert (len(first.train), len(first.validation), len(first.test)) == (9, 5, len(whole.test))
    assert len(whole.train) > 9
    for one, other, of in (
        (first.train, again.train, whole.train),
        (first.validation, again.validation, whole.validation),
    ):
        (batch,), (same,), (every,) = (list(split.batches(10**6)) for split in (one, other, of))
        assert torch.equal(batch[0], same[0])
        rows = [row.flatten().tolist() for row in every[0]]
        places = [rows.index(row.flatten().tolist()) for row in batch[0]]
        assert len(set(places)) > 1  # of all over the split, not its beginning
        assert max(places) >= len(batch[0])


def test_a_limit_beyond_the_split_and_none_leave_it_as_it_is(make_config):
    whole = build_task(make_config())
    beyond = build_task(make_config("task.train_limit=1000000"))
    assert len(beyond.train) == len(whole.train)


def test_a_limit_is_another_run_and_none_the_run_as_it_was(make_config):
    config = make_config()
    ids = {
        make_config(f"task.{key}=7").run_id
        for key in ("train_limit", "validation_limit", "evaluate_every")
    }
    assert len(ids | {config.run_id}) == 4
    older = {key: value for key, value in config.values["task"].items() if value is not None}
    assert "train_limit" not in older
    assert config.having(task=older).run_id == config.run_id


def test_evaluations_come_every_so_many_steps_and_at_the_end(make_config):
    config = make_config("task.evaluate_every=3", "budget.steps=8", "task.train_limit=100")
    built = build(config)
    assert built.steps_per_epoch == 2  # of 64 and of 36
    rows = list(Trainer(built, seed=0).run())
    assert [row["step"] for row in rows] == [3, 6, 8]
    assert [row["epoch"] for row in rows] == [1.5, 3.0, 4.0]


@pytest.mark.parametrize(
    "split",
    [
        TensorSplit(torch.arange(6), torch.arange(6)),
        DatasetSplit(torch.utils.data.TensorDataset(torch.arange(6), torch.arange(6))),
    ],
    ids=["tensors", "dataset"],
)
def test_picked_samples_are_those(split):
    ((inputs, targets),) = split.part(INDEX).batches(9)
    assert inputs.tolist() == targets.tolist() == INDEX.tolist()


def test_half_of_the_windows_of_a_text_spell_half_of_its_words():
    split = TokenSplit(torch.arange(21), context=2, words=10, characters=40)
    half = split.part(torch.arange(0, 10, 2))
    assert half.inputs[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert (half.facts["words"], half.facts["characters"]) == (5, 20)
    found = NEXT_TOKEN.measured({"loss": (7.0, 10)}, half.facts)
    assert found["bits_per_character"] == pytest.approx(7 / 20 / 0.6931471805599453)
    assert len(split) == 10


def test_what_cannot_be_cut_says_so():
    with pytest.raises(UserError, match=r"Invalid limit: 3\. A Noise cannot be cut\."):
        Noise(7, torch.ones(2)).part(INDEX)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["0", "2.5", "true"])
def test_a_limit_that_is_none_is_refused(make_config, key, value):
    with pytest.raises(UserError, match=rf"Invalid task\.{key}: .*Must be null, or a whole number"):
        _ = make_config(f"task.{key}={value}").task.batching
