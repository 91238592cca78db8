"""Which rows and layers count, and when the factors are refreshed."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from experiments.optimizers.left_alone import left_alone_percent, remarks
from experiments.optimizers.symmetric import pack, unpack
from tests.support.kfac_problems import (
    WITH_TIED,
    TiedGPT,
    backward,
    conv_net,
    grads,
    images,
    mlp,
    tokens,
    true_labels,
    vectors,
)


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
@pytest.mark.parametrize("case", WITH_TIED)
def test_observe_leaves_gradients_statistics_and_global_random_state(case, fisher):
    make, draw = WITH_TIED[case]
    observed, plain = make(), make()
    transform = KFACPreconditioner(observed, fisher=fisher)
    for first, second in zip(observed.parameters(), plain.parameters(), strict=True):
        first.grad = torch.ones_like(first)
        second.grad = torch.ones_like(second)
    before = torch.get_rng_state()
    logits = observed(draw(8)[0]).flatten(0, -2)
    transform.observe(logits)
    assert all(bool((p.grad == 1).all()) for p in observed.parameters())
    F.cross_entropy(logits, draw(8)[1].flatten()).backward()
    F.cross_entropy(plain(draw(8)[0]).flatten(0, -2), draw(8)[1].flatten()).backward()
    assert torch.equal(before, torch.get_rng_state())
    for name, grad in grads(plain).items():
        assert torch.equal(observed.get_parameter(name).grad, grad)
    for (name, first), second in zip(observed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(first, second), name


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_micro_batches_pool_to_the_whole_batch(fisher, monkeypatch):
    inputs, labels = images(8)
    model, whole = conv_net(), conv_net()
    transform = KFACPreconditioner(whole, fisher=fisher)
    true_labels(monkeypatch, labels)
    backward(whole, transform, (inputs, labels))
    transform.update()
    transform = KFACPreconditioner(model, fisher=fisher)
    for part in (slice(0, 4), slice(4, 8)):
        true_labels(monkeypatch, labels[part])
        backward(model, transform, (inputs[part], labels[part]), parts=2)
    transform.update()
    for name, grad in grads(whole).items():
        torch.testing.assert_close(model.get_parameter(name).grad, grad, msg=name)


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_calls_of_one_layer_are_pooled(fisher, monkeypatch):
    # The same row twice through one layer is the same layer on twice the rows.
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, pair: Tensor) -> Tensor:
            return self.layer(pair[:, 0]) + self.layer(pair[:, 1]) * 2

    class Once(Twice):
        def forward(self, pair: Tensor) -> Tensor:
            return (self.layer(pair) * torch.tensor([1.0, 2.0]).view(1, 2, 1)).sum(1)

    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(6, 2, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (6,), generator=generator)
    true_labels(monkeypatch, labels)
    results = []
    for model in (Twice(), Once()):
        transform = KFACPreconditioner(model, fisher=fisher)
        backward(model, transform, (pair, labels))
        transform.update()
        results.append(grads(model))
        model.zero_grad()
        transform.close()
    for name, grad in results[0].items():
        torch.testing.assert_close(grad, results[1][name])


@pytest.mark.parametrize("fisher", ["mc", "empirical"])
def test_factors_are_refreshed_at_the_interval_and_hooks_rest_between(fisher, monkeypatch):
    model = mlp()
    transform = KFACPreconditioner(model, fisher=fisher, interval=3)
    fresh = None
    for step in range(7):
        if step % 3:
            # Between refreshes nothing may look at inputs, outputs or logits.
            monkeypatch.setattr(transform, "_pool", None)
        else:
            monkeypatch.undo()
        batch = vectors(16, seed=step)
        backward(model, transform, batch)
        assert bool(transform._pools) == (step % 3 == 0)
        assert not transform._uses
        raw = grads(model)
        transform.update()
        stored = transform.state_dict()["preconditioners"]
        if step % 3 == 0:
            assert fresh is None or not torch.equal(fresh["0.weight"][0], stored["0.weight"][0])
            fresh = stored
        a, b = unpack(fresh["0.weight"][0], 6)[0], unpack(fresh["0.weight"][2], 5)[0]
        torch.testing.assert_close(model[0].weight.grad, b @ raw["0.weight"] @ a)
        torch.testing.assert_close(model[0].bias.grad, b @ raw["0.bias"])
        model.zero_grad()


def test_running_average_weighs_old_and_new(monkeypatch):
    model = nn.Linear(3, 2, bias=False).double()
    transform = KFACPreconditioner(model, fisher="mc", interval=1, ema_decay=0.75)
    expected = None
    for step in range(3):
        row = torch.tensor([[1.0, 2.0 + step, -1.0]], dtype=torch.float64)
        true_labels(monkeypatch, torch.tensor([0]))
        backward(model, transform, (row, torch.tensor([0])))
        transform.update()
        new = row.T @ row
        expected = new if expected is None else 0.75 * expected + 0.25 * new
        torch.testing.assert_close(
            transform.state_dict()["running"]["weight"][0], pack(expected[None])
        )
        model.zero_grad()


def test_tied_head_norms_and_embeddings_keep_their_gradient_and_are_listed():
    model, plain = TiedGPT(), TiedGPT()
    transform = KFACPreconditioner(model)
    assert transform.left_alone == {
        "embedding.weight": "no factors for Embedding",
        "head.weight": "shared by several modules",
        "head.bias": "shared by several modules",
        "norm.weight": "no factors for LayerNorm",
        "norm.bias": "no factors for LayerNorm",
    }
    backward(model, transform, tokens(8))
    transform.update()
    F.cross_entropy(plain(tokens(8)[0]).flatten(0, -2), tokens(8)[1].flatten()).backward()
    for name, grad in grads(plain).items():
        same = torch.equal(model.get_parameter(name).grad, grad)
        assert same == (not name.startswith("mixer")), name


def test_coverage_counts_a_shared_weight_once_and_no_frozen_one():
    model = TiedGPT()
    model.norm.bias.requires_grad_(False)
    found = KFACPreconditioner(model).coverage()
    assert found.curvature == ("mixer.weight", "mixer.bias")
    assert found.identity == ("embedding.weight", "norm.weight", "head.bias")
    assert found.reasons["norm.weight"] == "no factors for LayerNorm"
    optimizer = KFAC(model, lr=0.1)
    # 30 + 5 + 6 of 30 + 5 + 6 + 25 + 5.
    assert left_alone_percent(optimizer, model) == pytest.approx(100 * 41 / 71)
    (line,) = remarks("kfac", optimizer, model)
    assert line.startswith("kfac: 57.7 % of the weights keep their raw gradient: 42.3 % no factors")


def test_a_remark_begins_above_one_percent():
    layers = nn.Linear(99, 100), nn.LayerNorm(50), nn.Linear(50, 1, bias=False)
    model = nn.Sequential(*layers)  # 9900 + 100 + 100 + 50 numbers
    assert remarks("kfac", KFAC(model, lr=0.1), model) == []
    model.append(nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    assert remarks("kfac", KFAC(model, lr=0.1), model) == []
    model.append(nn.LayerNorm(50))
    assert len(remarks("kfac", KFAC(model, lr=0.1), model)) == 1
    assert remarks("sgd", torch.optim.SGD(model.parameters()), model) == []


def test_without_a_limit_no_layer_is_too_large():
    model = nn.Linear(9000, 1, bias=False)
    assert set(KFACPreconditioner(model).left_alone) == {"weight"}
    assert not KFACPreconditioner(model, max_dimension=None).left_alone


def test_two_layers_with_one_weight_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    assert not KFACPreconditioner(model)._layers


def test_shared_bias_is_left_alone_and_its_weights_are_not():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].bias = model[0].bias
    transform = KFACPreconditioner(model)
    assert set(transform._layers) == {"0.weight", "2.weight"}
    assert set(transform.left_alone) == {"0.bias", "2.bias"}
    backward(model, transform, (torch.randn(8, 4), torch.randint(4, (8,))))
    before = model[0].bias.grad.clone()
    transform.update()
    assert torch.equal(model[0].bias.grad, before)


def test_large_layers_and_subclasses_with_their_own_forward_are_left_alone():
    class Doubled(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return F.linear(rows, 2 * self.weight, self.bias)

    model = nn.Sequential(nn.Linear(20, 3), Doubled(3, 3), nn.Conv2d(20, 20, 1, groups=4))
    transform = KFACPreconditioner(model, max_dimension=10)
    assert transform.left_alone == {
        "0.weight": "a factor above 10",
        "0.bias": "a factor above 10",
        "1.weight": "no factors for Doubled",
        "1.bias": "no factors for Doubled",
    }
    assert set(transform._layers) == {"2.weight"}
