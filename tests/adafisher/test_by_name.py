"""The state by names; several ranks are in ``fsdp_checks`` and ``ddp_checks``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict as torchs_own

from adafisher import AdaFisher, get_optimizer_state_dict, set_optimizer_state_dict
from tests.support.cases import BY_ID, loss_of

MLP = BY_ID["mlp_inplace_relu"]
TOKENS = BY_ID["mixed_tokens"]

# torch's own, without a process group
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)")


def train(model: nn.Module, optimizer: AdaFisher, indices: range, case: Any = MLP) -> None:
    for index in indices:
        loss_of(model(case.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("case", [MLP, TOKENS], ids=lambda case: case.id)
@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("used", [False, True])
def test_restored_run_equals_the_unbroken_one(
    case: Any, steps: int, used: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"update_interval": 3, "embeddings": case.embeddings}
    model = case.model()
    optimizer = AdaFisher(model, lr=2e-3, **options)
    train(model, optimizer, range(steps), case)
    loss_of(model(case.batch(50)), 50).backward()  # gradients are not saved, nor their rows
    saved = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(optimizer)}
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    model.zero_grad()
    other = case.model(seed=1)
    restored = AdaFisher(other, **options)
    if used:
        train(other, restored, range(2), case)
    state = {"model": other.state_dict(), "optimizer": get_optimizer_state_dict(restored)}
    dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    other.load_state_dict(state["model"])
    set_optimizer_state_dict(restored, state["optimizer"])
    assert restored.param_groups[0]["lr"] == 2e-3
    for each, stepper in ((model, optimizer), (other, restored)):
        train(each, stepper, range(steps, steps + 4), case)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def wrapped() -> nn.Module:
    model = MLP.model()
    model[0] = torch.compile(model[0], backend="eager")
    return model


@pytest.mark.parametrize(("source", "target"), [(wrapped, MLP.model), (MLP.model, wrapped)])
def test_names_are_those_without_wrappers(
    source: Callable[[], nn.Module], target: Callable[[], nn.Module]
) -> None:
    model = source()
    optimizer = AdaFisher(model)
    for param in model.parameters():
        optimizer.state[param] = {"step": 1, "exp_avg": torch.full_like(param, 0.5)}
    state = get_optimizer_state_dict(optimizer)
    assert set(state["exp_avg"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    other = target()
    restored = AdaFisher(other)
    set_optimizer_state_dict(restored, state)
    for param in other.parameters():
        assert restored.state[param]["step"] == 1
        assert torch.all(restored.state[param]["exp_avg"] == 0.5)


def test_nothing_is_counted_or_stepped_by_asking() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    loss_of(model(MLP.batch(0)), 0).backward()
    before = [p.clone() for p in model.parameters()]
    get_optimizer_state_dict(optimizer)
    assert not optimizer.state
    assert optimizer.state_dict()["curvature"]["step"] == 0
    assert optimizer.state_dict()["curvature"]["layers"]["0"]["rows"] == 5
    for param, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(param, old)


def test_what_does_not_fit_is_refused() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    other = AdaFisher(nn.Sequential(nn.Linear(4, 6)))
    with pytest.raises(ValueError, match=r"^Invalid state_dict: parameter of group 0 '2.weight' s"):
        set_optimizer_state_dict(other, get_optimizer_state_dict(optimizer))
    with pytest.raises(ValueError, match=r"^Invalid state: it has no 'rest'"):
        set_optimizer_state_dict(optimizer, optimizer.state_dict())
    train(model, optimizer, range(1))
    with pytest.raises(ValueError, match=r"no 'curvature'.*torch's get_optimizer_state_dict drops"):
        optimizer.load_state_dict(torchs_own(model, optimizer))
