"""An epoch whose last batch has one sample: 1,150 digits in batches of 383."""

import pytest
import torch

from experiments.config.sections import Batching
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.errors import UserError

ONE_LEFT = "task.batch_size=383"
EPOCH = ("budget=epochs", "budget.epochs=1")


@pytest.mark.parametrize(
    "budget", [EPOCH, ("budget.steps=4",), ("budget=train_seconds", "budget.train_seconds=9")]
)
def test_a_model_that_cannot_be_trained_on_it_is_refused_before_the_first_step(make_config, budget):
    with pytest.raises(UserError) as error:
        build(make_config("model=resnet18", ONE_LEFT, *budget))
    line = str(error.value)
    assert line.startswith("Invalid task.batch_size: 383. The last of 1,150 training images would")
    assert "model=resnet18" in line
    assert line.endswith("or task.drop_last=true, which leaves that batch out.")


def test_the_way_out_and_a_run_that_ends_before_it_are_taken(make_config):
    for overrides, steps in (
        ((*EPOCH, "task.drop_last=true"), 3),
        (("budget.steps=3",), 4),
        ((*EPOCH, "model=small_cnn"), 4),  # its norms have more than one place a channel
    ):
        built = build(make_config("model=resnet18", ONE_LEFT, *overrides))
        assert built.steps_per_epoch == steps


def test_batches_of_one_are_refused_without_a_way_out_that_is_none(make_config):
    for drop_last in ("true", "false"):
        with pytest.raises(UserError, match=r"Each of 1,150 .* Choose a larger one\."):
            build(make_config("model=resnet18", "task.batch_size=1", f"task.drop_last={drop_last}"))


def test_trying_it_changes_neither_the_weights_nor_what_is_drawn_later(make_config):
    drawn = []
    for size in (383, 384):
        built = build(make_config(*EPOCH, f"task.batch_size={size}"))
        drawn.append({**built.model.state_dict(), "next": torch.rand(3)})
    first, second = drawn
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_left_out_is_the_last_batch_of_every_epoch(make_config, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        Trainer, "_step", lambda trainer, inputs, targets: (sizes.append(len(inputs)) or 1.0, 1)
    )
    built = build(make_config(ONE_LEFT, "task.drop_last=true", "budget.steps=6"))
    trainer = Trainer(built, seed=0)
    trainer.counters.step = 1  # as after a resumption
    for _, _ in zip(range(5), trainer.steps(), strict=False):
        pass
    assert sizes == [383] * 5
    assert trainer.counters.step == 6


@pytest.mark.parametrize(
    ("samples", "size", "drop_last", "steps", "smallest"),
    [
        (10, 5, False, 2, 5),
        (11, 5, False, 3, 1),
        (11, 5, True, 2, 5),
        (3, 5, False, 1, 3),
        (5, 1, False, 5, 1),
    ],
)
def test_steps_and_the_smallest_batch_of_an_epoch(samples, size, drop_last, steps, smallest):
    batching = Batching(size, 1, 1, drop_last=drop_last)
    assert (batching.steps_per_epoch(samples), batching.smallest(samples)) == (steps, smallest)


def test_an_epoch_without_a_batch_is_refused():
    with pytest.raises(UserError, match=r"task\.batch_size: 5\. Must be <= 3"):
        Batching(5, 1, 1, drop_last=True).steps_per_epoch(3)
    with pytest.raises(UserError, match=r"task\.drop_last: 1\. Must be true or false"):
        Batching(5, 1, 1, drop_last=1)


def test_a_record_of_before_the_argument_came_is_the_same_run(make_config):
    config = make_config()
    older = {key: value for key, value in config.values["task"].items() if key != "drop_last"}
    older["suite"] = {key: value for key, value in older["suite"].items() if key != "neutral"}
    before = config.having(task=older)
    assert before.run_id == config.run_id
    assert before.task.batching == config.task.batching
    assert make_config("task.drop_last=true").run_id != config.run_id
