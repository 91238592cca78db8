"""K-FAC in a training loop: freezing, evaluation, memory, resume."""

import copy
import gc
import io
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from tests.support.kfac_problems import (
    backward,
    grads,
    images,
    mlp,
    norm_net,
    train,
    true_labels,
    vectors,
)


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_frozen_and_unused_layers_do_not_disturb_the_others(fisher, monkeypatch):
    class WithSpare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            self.spare = nn.Linear(3, 3).double()

        def forward(self, rows: Tensor) -> Tensor:
            return self.net(rows)

    batch = vectors(8)
    true_labels(monkeypatch, batch[1])
    model, plain = WithSpare(), mlp()
    model.net[0].requires_grad_(False)
    for trained in (model, plain):
        transform = KFACPreconditioner(trained, fisher=fisher)
        backward(trained, transform, batch)
        transform.update()
    assert model.net[0].weight.grad is None
    assert model.spare.weight.grad is None
    for name in ("2.weight", "4.weight", "4.bias"):
        torch.testing.assert_close(
            model.net.get_parameter(name).grad, plain.get_parameter(name).grad
        )


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_bias_of_a_frozen_weight_keeps_its_gradient(fisher):
    model, plain = mlp(), mlp()
    model[0].weight.requires_grad_(False)
    transform = KFACPreconditioner(model, fisher=fisher)
    backward(model, transform, vectors(8))
    transform.update()
    F.cross_entropy(plain(vectors(8)[0]), vectors(8)[1]).backward()
    assert torch.equal(model[0].bias.grad, plain[0].bias.grad)
    assert not torch.equal(model[2].weight.grad, plain[2].weight.grad)


def test_layer_that_joins_later_is_preconditioned_from_the_next_refresh():
    model = mlp()
    model[0].requires_grad_(False)
    transform = KFACPreconditioner(model, interval=2)
    changed = []
    for step in range(4):
        if step == 1:
            model[0].requires_grad_(True)
        backward(model, transform, vectors(8, seed=step))
        raw = grads(model)
        transform.update()
        if step:
            changed.append(not torch.equal(model[0].weight.grad, raw["0.weight"]))
        model.zero_grad()
    assert changed == [False, True, True]


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_evaluation_between_steps_changes_nothing(fisher):
    model, plain = mlp(), mlp()
    first, second = KFAC(model, lr=0.1, fisher=fisher), KFAC(plain, lr=0.1, fisher=fisher)
    for step in range(3):
        with torch.no_grad():
            first.observe(model(vectors(5, seed=99)[0]))
        model(vectors(5, seed=98)[0])  # with a graph, and never used
        train(model, first, [vectors(8, seed=step)])
        train(plain, second, [vectors(8, seed=step)])
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_graph_and_activations_are_free_after_the_step(fisher):
    model = mlp()
    optimizer = KFAC(model, lr=0.1, fisher=fisher)
    inputs, labels = vectors(8)
    hidden = []
    handle = model[0].register_forward_hook(lambda *call: hidden.append(weakref.ref(call[-1])))
    for _ in range(2):
        backward(model, optimizer, (inputs, labels))
        model(inputs)  # looked at after the fact, with a graph
        optimizer.step()
    handle.remove()
    assert len(hidden) == 4
    assert all(reference() is None for reference in hidden)
    assert not optimizer.transform._uses  # they hold inputs and the graph behind the outputs


def test_missing_observe_is_said_in_a_refresh_step():
    model = mlp()
    optimizer = KFAC(model, lr=0.1)
    F.cross_entropy(model(vectors(8)[0]), vectors(8)[1]).backward()
    with pytest.raises(RuntimeError, match=r"observe\(logits\)"):
        optimizer.step()


def test_model_copies_and_later_optimizers_are_not_disturbed():
    model = mlp()
    optimizer = KFAC(model, lr=0.1)
    twin = copy.deepcopy(model)
    backward(model, optimizer, vectors(8))
    twin(vectors(5)[0])
    assert not optimizer.transform._uses
    transform = weakref.ref(optimizer.transform)
    del optimizer
    gc.collect()
    assert transform() is None
    model(vectors(5)[0])


def test_close_removes_the_hooks():
    model = mlp()
    optimizer = KFAC(model, lr=0.1)
    assert any(module._forward_hooks for module in model.modules())
    optimizer.close()
    optimizer.close()
    assert not any(module._forward_hooks for module in model.modules())


def test_nonfinite_factors_keep_the_old_ones():
    model = mlp()
    transform = KFACPreconditioner(model, interval=1, ema_decay=0.5)
    backward(model, transform, vectors(8))
    transform.update()
    stored = transform.state_dict()
    inputs, labels = vectors(8)
    backward(model, transform, (inputs * torch.inf, labels))
    transform.update()
    after = transform.state_dict()
    assert after["skipped_refreshes"] == 3
    for key in ("preconditioners", "running"):
        for name, pair in stored[key].items():
            assert all(torch.equal(a, b) for a, b in zip(pair, after[key][name], strict=True))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("saved_after", range(6))
def test_resume_at_any_step_is_bit_exact(saved_after, ema_decay):
    def make() -> tuple[nn.Module, KFAC]:
        model = norm_net().float()
        arguments = {"lr": 0.1, "weight_decay": 0.01, "interval": 3, "max_norm": 1.0}
        return model, KFAC(model, ema_decay=ema_decay, **arguments)

    batches = [(x.float(), y) for x, y in (images(8, seed=step) for step in range(7))]
    model, optimizer = make()
    train(model, optimizer, batches[:saved_after])
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    train(model, optimizer, batches[saved_after:])

    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed, other = make()
    train(resumed, other, batches[:1])  # loading replaces whatever was there
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    train(resumed, other, batches[saved_after:])
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_snapshot_shares_no_memory_with_the_optimizer():
    model, other = mlp(), mlp()
    optimizer, second = (KFAC(m, lr=0.1, interval=1, ema_decay=0.9) for m in (model, other))
    train(model, optimizer, [vectors(8)])
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    second.load_state_dict(state)
    own = [t for pairs in optimizer.transform._preconditioners.values() for t in pairs]
    own += [t for pairs in optimizer.transform._running.values() for t in pairs]
    addresses = {tensor.data_ptr() for tensor in own}
    for key in ("preconditioners", "running"):
        for pairs in state["transform"][key].values():
            assert not addresses & {tensor.data_ptr() for tensor in pairs}
    for trained, used in ((model, optimizer), (other, second)):
        train(trained, used, [vectors(8, seed=5)] * 2)
    assert torch.equal(state["transform"]["generator"], kept["transform"]["generator"])
    for key in ("preconditioners", "running"):
        for name, pair in kept["transform"][key].items():
            for old, now in zip(pair, state["transform"][key][name], strict=True):
                assert torch.equal(old, now)
    assert torch.equal(state["state"][0]["momentum_buffer"], kept["state"][0]["momentum_buffer"])


def test_seed_decides_the_sampled_labels():
    def run(seed: int) -> Tensor:
        model = mlp()
        train(model, KFAC(model, lr=0.1, seed=seed), [vectors(8)])
        return model[0].weight.detach()

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_state_of_another_model_is_refused():
    model = mlp()
    transform = KFACPreconditioner(model)
    state = transform.state_dict()
    state["preconditioners"]["other.weight"] = [torch.eye(2), torch.eye(2)]
    with pytest.raises(ValueError, match=r"other\.weight"):
        transform.load_state_dict(state)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fisher", "exact"),
        ("damping", 0.0),
        ("damping", "much"),
        ("interval", 0),
        ("ema_decay", 1.0),
        ("max_dimension", 0),
        ("lr", -1.0),
    ],
)
def test_bad_argument_is_named_with_its_value(argument, value):
    arguments = {"lr": 0.1, argument: value}
    with pytest.raises(ValueError, match=f"Invalid {argument}: {value!r}"):
        KFAC(mlp(), **arguments)
