"""What an optimizer draws in its step is drawn from streams of its own."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.engine.step import take_step
from experiments.engine.step_stream import StepStream


class Drawing(torch.optim.SGD):
    """Adds noise of three generators; its module has ``random`` and ``numpy`` by name."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.drawn = []

    def step(self, closure=None):
        loss = None if closure is None else closure()
        self.drawn.append((torch.rand(()).item(), random.random(), np.random.random()))
        super().step()
        return loss


def draws(*, seed, takes_closure=False, stream=True):
    """Take steps of a model with dropout; gives what the step drew, and the masks."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    model = nn.Linear(3, 2)
    torch.manual_seed(2)
    optimizer = Drawing(model.parameters(), lr=0.1)
    own = StepStream(optimizer, seed=seed, device=torch.device("cpu")) if stream else None
    masks = []

    def loss():
        masks.append(nn.functional.dropout(torch.ones(8)))
        value = model(torch.ones(1, 3)).sum()
        value.backward()
        return value

    for _ in range(3):
        take_step(optimizer, loss, takes_closure=takes_closure, stream=own)
    return optimizer.drawn, torch.stack(masks), (random.random(), np.random.random())


@pytest.mark.parametrize("takes_closure", [False, True])
def test_the_masks_are_those_of_a_method_that_draws_nothing(takes_closure):
    torch.manual_seed(2)
    undisturbed = torch.stack([nn.functional.dropout(torch.ones(8)) for _ in range(3)])
    random.seed(1)
    np.random.seed(1)
    others = (random.random(), np.random.random())
    drawn, masks, after = draws(seed=5, takes_closure=takes_closure)
    assert torch.equal(masks, undisturbed)
    assert after == others
    assert len(set(drawn)) == 3
    _, disturbed, _ = draws(seed=5, takes_closure=takes_closure, stream=False)
    assert not torch.equal(disturbed, undisturbed)  # else this test shows nothing


def test_a_seed_has_draws_of_its_own():
    assert draws(seed=5)[0] == draws(seed=5)[0]
    assert set(draws(seed=5)[0]).isdisjoint(draws(seed=6)[0])


def test_a_state_goes_on_where_it_was():
    optimizer = Drawing([torch.zeros(1, requires_grad=True)], lr=0.1)

    def rest(stream, count):
        found = []
        for _ in range(count):
            with stream.inside():
                found.append((torch.rand(()).item(), random.random(), np.random.random()))
        return found

    stream = StepStream(optimizer, seed=0, device=torch.device("cpu"))
    rest(stream, 4)
    state = stream.state_dict()
    other = StepStream(optimizer, seed=1, device=torch.device("cpu"))
    other.load_state_dict(state)
    assert rest(other, 3) == rest(stream, 3)


def test_a_run_that_draws_sees_the_dropout_of_one_that_does_not(make_config):
    """Two methods at one seed: the loss of the first step is the same, and that of the second
    differs by the weights alone, which a rate of 0 leaves alike."""
    overrides = (
        *("task=generated_text", "model=gpt_tiny", "model.dropout=0.5", "task.context=8"),
        *("optimizer.lr=0.0", "optimizer.weight_decay=0", "budget.steps=6"),
    )
    losses = []
    for name in ("adamw", "pytorch_optimizer.AdaHessian"):
        trainer = Trainer(build(make_config(f"optimizer={name}", *overrides)), seed=0)
        losses.append(list(itertools.islice(trainer.steps(), 4)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
