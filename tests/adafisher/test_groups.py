"""Parameter groups: kinds of numbers, cycled momentum, decay, and parameters that come later."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, OneCycleLR

from adafisher import AdaFisher, AdaFisherW
from tests.support.cases import BY_ID, loss_of
from tests.support.side_by_side import SideBySide

CNN = BY_ID["cnn_inplace"]
MLP = BY_ID["mlp_inplace_relu"]
KINDS: dict[str, Callable[[float], Any]] = {
    "numpy_float32": np.float32,
    "numpy_float64": np.float64,
    "numpy_array": np.array,
    "tensor": torch.tensor,
    "tensor_of_one": lambda value: torch.tensor([value]),
}


def rounded(value: Any) -> float:
    """The number that a kind can hold."""
    return float(value)


@pytest.mark.parametrize("kind", KINDS)
def test_hyperparameters_of_other_kinds_are_numbers(kind: str) -> None:
    make = KINDS[kind]
    given = {"lr": 2e-3, "beta": 0.8, "damping": 2e-3, "weight_decay": 0.1}
    as_given = {name: make(value) for name, value in given.items()}
    models = MLP.model(), MLP.model()
    ours = AdaFisher(models[0], **as_given)
    theirs = AdaFisher(models[1], **{name: rounded(value) for name, value in as_given.items()})
    for index in range(3):
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            optimizer.zero_grad()
            loss_of(model(MLP.batch(index)), index).backward()
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    AdaFisher(MLP.model()).load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("lr", float("nan")), ("beta", 1.0)])
def test_numbers_of_other_kinds_are_checked(kind: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^Invalid {name}: {value}\. Must be a finite number"):
        AdaFisher(nn.Linear(2, 2), **{name: KINDS[kind](value)})


def test_lr_of_more_than_one_element_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Invalid lr: tensor\(\[0\.1000, 0\.2000\]\)\. Must be"):
        AdaFisher(nn.Linear(2, 2), lr=torch.tensor([0.1, 0.2]))  # type: ignore[arg-type]


def groups_of(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    return [
        {"params": list(model[0].parameters()), **options},
        {"params": list(model[2].parameters())},
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_tensor_lr_is_read_at_each_step(shared: bool) -> None:
    side = SideBySide(MLP)
    side.optimizer.close()
    lr = torch.tensor(1e-3, dtype=torch.float64)
    own = {} if shared else {"lr": torch.tensor(4e-3, dtype=torch.float64)}
    side.optimizer = AdaFisher(side.model, lr, params=groups_of(side.model, **own))
    for index in range(4):
        lr.fill_(1e-3 * (index + 1))
        side.reference.options["lr"] = float(lr)
        if not shared:
            own["lr"].mul_(0.5)
            first = {"lr": float(own["lr"])}
            side.reference.group_of = {"0.weight": first, "0.bias": first}
        side.train([index])
    assert (side.optimizer.param_groups[0]["lr"] is side.optimizer.param_groups[1]["lr"]) is shared


def test_tensor_lr_that_groups_share_is_shared_in_the_state_and_after_loading() -> None:
    models = MLP.model(), MLP.model()
    optimizers = [AdaFisher(m, torch.tensor(1e-3), params=groups_of(m)) for m in models]
    state = optimizers[0].state_dict()
    assert state["param_groups"][0]["lr"] is state["param_groups"][1]["lr"]
    assert state["param_groups"][0]["lr"] is not optimizers[0].param_groups[0]["lr"]
    optimizers[1].load_state_dict(state)
    first, second = (group["lr"] for group in optimizers[1].param_groups)
    assert first is second


def test_scheduler_writes_into_a_tensor_lr() -> None:
    side = SideBySide(MLP)
    side.optimizer.close()
    side.optimizer = AdaFisher(side.model, torch.tensor(1e-3, dtype=torch.float64))
    scheduler = LambdaLR(side.optimizer, lambda step: 0.5**step)
    for index in range(4):
        side.reference.options["lr"] = 1e-3 * 0.5**index
        side.train([index])
        scheduler.step()


CYCLES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "one_cycle": lambda o: OneCycleLR(o, 2e-3, total_steps=8),
    "cyclic": lambda o: CyclicLR(o, 5e-4, 2e-3, step_size_up=3),
}


@pytest.mark.parametrize("cycle", CYCLES)
def test_cyclic_schedulers_cycle_beta_with_their_defaults(cycle: str) -> None:
    """Beside torch's SGD, whose momentum has the values that beta should have."""
    side = SideBySide(MLP)
    scheduler = CYCLES[cycle](side.optimizer)
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3, momentum=0.9)
    theirs = CYCLES[cycle](sgd)
    betas = []
    for index in range(7):
        group = sgd.param_groups[0]
        betas.append(group["momentum"])
        side.reference.options |= {"lr": group["lr"], "beta": group["momentum"]}
        side.train([index])
        assert side.optimizer.param_groups[0]["beta"] == betas[-1]
        sgd.step()
        scheduler.step()
        theirs.step()
    assert len(set(betas)) > 3


@pytest.mark.parametrize("cycle", CYCLES)
def test_cycled_run_is_restored(cycle: str) -> None:
    models = MLP.model(), MLP.model()
    optimizers = AdaFisher(models[0], params=groups_of(models[0])), None
    schedulers = CYCLES[cycle](optimizers[0]), None

    def train(model: nn.Module, optimizer: AdaFisher, scheduler: Any, indices: range) -> None:
        for index in indices:
            loss_of(model(MLP.batch(index)), index).backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()

    train(models[0], optimizers[0], schedulers[0], range(3))
    state = optimizers[0].state_dict()
    assert "momentum" not in state["param_groups"][0]
    restored = AdaFisher(models[1], params=groups_of(models[1]))
    again = CYCLES[cycle](restored)
    models[1].load_state_dict(models[0].state_dict())
    restored.load_state_dict(state)
    again.load_state_dict(schedulers[0].state_dict())
    train(models[0], optimizers[0], schedulers[0], range(3, 7))
    train(models[1], restored, again, range(3, 7))
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_beta_of_a_group_is_its_own_beside_the_alias() -> None:
    model = MLP.model()
    groups = groups_of(model, beta=0.5)
    groups[1]["momentum"] = 0.7
    optimizer = AdaFisher(model, params=groups)
    loss_of(model(MLP.batch(0)), 0).backward()
    optimizer.step()
    assert [group["beta"] for group in optimizer.param_groups] == [0.5, 0.7]
    assert not any("momentum" in group for group in optimizer.param_groups)
    optimizer.param_groups[0]["momentum"] = 1.5
    with pytest.raises(ValueError, match=r"^Invalid momentum: 1.5. Must be a finite number >= 0"):
        optimizer.step()


@pytest.mark.parametrize("decoupled", [True, False])
def test_norms_and_biases_are_taken_out_of_decay(decoupled: bool) -> None:
    side = SideBySide(CNN, decoupled=decoupled, weight_decay=0.3)
    side.optimizer.close()
    make = AdaFisherW if decoupled else AdaFisher
    side.optimizer = make(side.model, weight_decay=0.3, decay_norms_and_biases=False)
    # Written by hand as users of AdamW do: the batch norm is layer 1.
    without = ("1.weight", "1.bias", "3.bias", "6.bias")
    side.reference.group_of = {name: {"weight_decay": 0.0} for name in without}
    side.train(range(5))


class Parts(nn.Module):
    """Parameters of every shape and name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.LayerNorm((3, 4))
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.scale, self.table = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(5, 4))
        self.temperature = nn.Parameter(torch.ones(()))


@pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning")
def test_which_parameters_decay() -> None:
    model = Parts()
    optimizer = AdaFisherW(model, lr=0.1, weight_decay=0.5, decay_norms_and_biases=False)
    for param in model.parameters():
        torch.nn.init.ones_(param)
        param.grad = torch.zeros_like(param)
    with pytest.warns(UserWarning, match="no rows came"):  # gradients set by hand
        optimizer.step()
    decayed = {name for name, p in model.named_parameters() if not torch.all(p == 1.0)}
    assert decayed == {
        "linear.weight",
        "table",
        "attention.in_proj_weight",
        "attention.bias_k",
        "attention.bias_v",
        "attention.out_proj.weight",
    }


def test_decay_is_a_choice_of_each_group_and_of_older_states() -> None:
    model = MLP.model()
    groups = groups_of(model, decay_norms_and_biases=False)
    optimizer = AdaFisherW(model, params=groups)
    assert [g["decay_norms_and_biases"] for g in optimizer.param_groups] == [False, True]
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["decay_norms_and_biases"]
    optimizer.load_state_dict(state)
    assert [g["decay_norms_and_biases"] for g in optimizer.param_groups] == [True, True]


class Packed(nn.Module):
    """Weights of four bits in a frozen Parameter of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, dtype=torch.uint8), requires_grad=False)


def test_frozen_parameters_may_be_integers() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model.packed = Packed()
    optimizer = AdaFisherW(model, decay_norms_and_biases=False)
    model[0](torch.randn(5, 4)).sum().backward()
    optimizer.step()
    restored = AdaFisherW(model)
    restored.load_state_dict(optimizer.state_dict())
    assert torch.equal(model.packed.weight, torch.zeros(8, dtype=torch.uint8))


def test_trainable_complex_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Invalid dtype of weight: torch.complex64. Must be real"):
        AdaFisher(nn.Linear(2, 2, dtype=torch.complex64))


@pytest.mark.parametrize("bag", [False, True])
def test_layers_of_sparse_gradients_are_refused_at_construction(bag: bool) -> None:
    kind = nn.EmbeddingBag if bag else nn.Embedding
    model = nn.Sequential(kind(5, 4, sparse=True), nn.Linear(4, 2))
    message = r"^Invalid sparse of the layer of 0\.weight: True\. Must be False"
    with pytest.raises(ValueError, match=message):
        AdaFisher(model)
    assert not any(m._forward_hooks for m in model.modules())
    optimizer = AdaFisher(model, params=model[1].parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [model[0].weight]})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_refused_before_anything_moves() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = AdaFisher(model, weight_decay=0.1)
    model(torch.randn(5, 4)).sum().backward()
    model[1].weight.grad = model[1].weight.grad.to_sparse()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"takes no sparse gradients, but 1\.weight has one"):
        optimizer.step()
    for param, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(param, old)
    assert not optimizer.state
    model[1].weight.grad = model[1].weight.grad.to_dense()
    optimizer.step()  # its rows are still there
    assert optimizer.coverage().identity_steps == {}


def test_head_that_replaces_another_is_taken() -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    model = side.model
    head = nn.Linear(6, 3).double()
    model[2] = head
    side.optimizer.add_param_group({"params": head.parameters(), "lr": 2e-3})
    trained = AdaFisher(nn.Linear(6, 3).double(), lr=2e-3)  # the head alone, from now on
    alone = trained._curvature.capture.model
    alone.load_state_dict(head.state_dict())
    hidden: list[Tensor] = []
    model[1].register_forward_hook(lambda m, args, output: hidden.append(output.detach().clone()))
    for index in range(3):
        side.optimizer.zero_grad()
        trained.zero_grad()
        loss_of(model(MLP.batch(index)), index).backward()
        loss_of(alone(hidden[-1]), index).backward()
        side.optimizer.step()
        trained.step()
        for ours, theirs in zip(head.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    names = side.optimizer.coverage().curvature
    assert names.count("2.weight") == 1  # the old head has no layer any more
    with pytest.raises(ValueError, match=r"entry 0 of shape \(2, 2\) is not a parameter of the m"):
        side.optimizer.add_param_group({"params": nn.Linear(2, 2).parameters()})


def test_layer_that_is_added_is_taken_and_restored() -> None:
    def grown() -> tuple[nn.Module, AdaFisher]:
        model = MLP.model()
        optimizer = AdaFisher(model)
        model.append(nn.Linear(3, 2).double())
        optimizer.add_param_group({"params": model[3].parameters()})
        return model, optimizer

    (model, optimizer), (other, restored) = grown(), grown()
    for index in range(2):
        loss_of(model(MLP.batch(index)), index).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.fisher_diag(model[3].weight) is not None
    other.load_state_dict(model.state_dict())
    restored.load_state_dict(optimizer.state_dict())
    for each, stepper in ((model, optimizer), (other, restored)):
        loss_of(each(MLP.batch(5)), 5).backward()
        stepper.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3))


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_lazy_model_has_a_state_before_it_is_called() -> None:
    model = lazy()
    optimizer = AdaFisher(model)
    state = optimizer.state_dict()
    x = torch.randn(6, 4)
    model(x).sum().backward()
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}
    trained = optimizer.state_dict()
    for source in (state, trained):
        fresh = lazy()
        restored = AdaFisher(fresh)
        restored.load_state_dict(source)
    called = lazy()
    called(x)
    AdaFisher(called).load_state_dict(trained)
    AdaFisher(called).load_state_dict(state)
    with pytest.raises(ValueError, match=r"shape of '0.weight: \[5, 4\]' stands where .* \[5, 7\]"):
        AdaFisher(nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))).load_state_dict(
            trained
        )
