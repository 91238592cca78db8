"""What the loop hands to a step and makes of it, and what an evaluation counts."""

import pytest
import torch
from torch.nn import functional as F

from experiments.engine.build import build
from experiments.engine.evaluation import evaluate
from experiments.engine.loop import Trainer
from experiments.tasks.objective import IGNORE
from experiments.tasks.tokens import TokenSplit


def test_each_epoch_has_an_order_of_its_own(make_config, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Trainer, "_step", lambda trainer, inputs, targets: (seen.append(inputs) or 1.0, 1)
    )
    built = build(make_config("budget.steps=36"))
    trainer = Trainer(built, seed=0)
    for _, _ in zip(range(36), trainer.steps(), strict=False):
        pass
    first, second = (torch.cat(seen[at : at + 18]).flatten(1) for at in (0, 18))
    assert len(first) == len(built.task.train)
    assert not torch.equal(first, second)
    assert torch.equal(*(torch.unique(each, dim=0) for each in (first, second)))


def test_the_training_loss_is_the_mean_over_all_rows_that_count(make_config, monkeypatch):
    """As a last batch, or padding, has fewer: a mean of means is another number."""
    steps = iter([(1.0, 10), (2.0, 30), (4.0, 10), (8.0, 50)])
    monkeypatch.setattr(Trainer, "_step", lambda trainer, inputs, targets: next(steps))
    trainer = Trainer(build(make_config("budget.steps=4")), seed=0)
    (row,) = trainer.run()
    assert row["train_loss"] == (10 + 60 + 40 + 400) / 100


def test_a_methods_own_schedule_is_followed_whatever_the_settings_is(make_config):
    typed = ["schedule=constant", "+optimizer.suite.schedule={name: linear}", "optimizer.lr=0.5"]
    built = build(make_config(*typed))
    assert [built.schedule(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_padding_counts_in_no_metric(make_config):
    built = build(make_config("task=generated_text", "task.context=8"))
    tokens = torch.randint(100, (20,), generator=torch.Generator().manual_seed(0))
    split = TokenSplit(tokens, context=8, words=19, characters=100)
    assert int((split.targets == IGNORE).sum()) == 5
    built.model.eval()
    with torch.no_grad():
        logits = built.model(split.inputs).flatten(0, -2)
    losses = [F.cross_entropy(logits[at], tokens[at + 1]).item() for at in range(19)]
    found = evaluate(built, split)
    assert found["loss"] == pytest.approx(sum(losses) / 19, rel=1e-6)
