from typing import Any

import pytest
import torch
from torch import nn

from experiments.optimizers.kfac import KFAC
from experiments.optimizers.left_alone import TransformCoverage
from experiments.optimizers.shampoo import Shampoo
from experiments.optimizers.transform import (
    GradientTransform,
    PreconditionedSGD,
    check_count,
    check_number,
)


class Scale(GradientTransform):
    """Multiplies every gradient by a number."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        self.params = list(model.parameters())
        self.factor = factor

    def coverage(self) -> TransformCoverage:
        return TransformCoverage((), (), {})

    def update(self) -> None:
        for param in self.params:
            if param.grad is not None:
                param.grad.mul_(self.factor)

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.factor = state_dict["factor"]


def pair() -> tuple[nn.Linear, nn.Linear]:
    models = nn.Linear(3, 2), nn.Linear(3, 2)
    models[1].load_state_dict(models[0].state_dict())
    return models


def set_grads(model: nn.Module, step: int, factor: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(step)
    for param in model.parameters():
        param.grad = factor * torch.randn(param.shape, generator=generator)


def test_without_clipping_it_is_sgd_on_the_transformed_gradient_in_every_step():
    ours, theirs = pair()
    optimizer = PreconditionedSGD(
        ours.parameters(), Scale(ours, 3.0), lr=0.1, momentum=0.9, weight_decay=0.05
    )
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)
    for step in range(5):
        set_grads(ours, step)
        set_grads(theirs, step, factor=3.0)
        optimizer.step()
        sgd.step()
        for first, second in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(first, second)


def test_clipping_is_after_the_transform_and_before_the_decay():
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 10.0)
    optimizer = PreconditionedSGD(
        model.parameters(), Scale(model, 10.0), lr=1.0, momentum=0.0, weight_decay=0.5, max_norm=1.0
    )
    # Raw norm 0.5 is below the threshold, the transformed one is 5. With clipping first the step
    # would be (3, 4); with the decay inside the clipped norm it would have length 1.
    model.weight.grad = torch.tensor([[0.3, 0.4]])
    optimizer.step()
    torch.testing.assert_close(model.weight.data, torch.tensor([[10 - 0.6 - 5, 10 - 0.8 - 5]]))


def test_clipping_uses_one_norm_over_all_groups():
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}]
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = PreconditionedSGD(groups, Scale(model, 1.0), lr=1.0, momentum=0.0, max_norm=1.0)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    optimizer.step()
    torch.testing.assert_close(model.weight.data, torch.tensor([[-0.6]]))
    torch.testing.assert_close(model.bias.data, torch.tensor([-0.4]))


def test_a_torch_schedule_sets_the_rate():
    ours, theirs = pair()
    optimizer = PreconditionedSGD(ours.parameters(), Scale(ours, 1.0), lr=0.1, momentum=0.9)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: 0.5**step) for each in (optimizer, sgd)
    ]
    for step in range(4):
        for model in (ours, theirs):
            set_grads(model, step)
        for each in (optimizer, sgd, *schedules):
            each.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**4
    assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("make", [KFAC, Shampoo])
def test_parameter_groups_and_frozen_parameters(make):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters()}]
    optimizer = make(model, lr=0.1, params=groups)
    before = [param.clone() for param in model.parameters()]
    logits = model(torch.ones(5, 3))
    optimizer.observe(logits)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0, 1])).backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, True, False]


@pytest.mark.parametrize("make", [KFAC, Shampoo])
def test_closure_runs_before_the_transform(make):
    models = pair()
    inputs, labels = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    optimizers = [make(model, lr=0.1) for model in models]

    def backward(index: int) -> torch.Tensor:
        logits = models[index](inputs)
        optimizers[index].observe(logits)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        return loss

    expected = backward(0)
    assert optimizers[0].step() is None
    assert torch.equal(optimizers[1].step(lambda: backward(1)), expected)
    assert torch.equal(models[0].weight, models[1].weight)


def test_state_holds_the_transform_and_loads_into_another():
    ours, theirs = pair()
    optimizer = PreconditionedSGD(ours.parameters(), Scale(ours, 3.0), lr=0.1)
    set_grads(ours, 0)
    optimizer.step()
    state = optimizer.state_dict()
    other = PreconditionedSGD(theirs.parameters(), Scale(theirs, 1.0), lr=0.5)
    other.load_state_dict(state)
    theirs.load_state_dict(ours.state_dict())
    for model, used in ((ours, optimizer), (theirs, other)):
        set_grads(model, 1)
        used.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert state["transform"] == {"factor": 3.0}


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 0, 1])
def test_number_outside_its_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"Invalid beta: .*\. Must be a number > 0 and < 1\."):
        check_number("beta", value, above=0, below=1)


def test_number_at_an_inclusive_bound_passes():
    check_number("beta", 0, at_least=0, below=1)
    check_number("beta", 0.5, above=0, below=1)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_count_below_one_or_not_whole_is_refused(value):
    with pytest.raises(ValueError, match=r"Invalid interval: .*\. Must be a whole number >= 1\."):
        check_count("interval", value)
