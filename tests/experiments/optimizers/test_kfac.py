import copy
import gc
import io
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.optimizers import kfac_preconditioner
from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner

DAMPING = 1e-3


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 4)
    ).double()


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, (3, 2), stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4),
    ).double()


def norm_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(100, 4),
    ).double()


class TiedGPT(nn.Module):
    """Embedding, one linear layer on every token, head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(6, 5)
        self.norm = nn.LayerNorm(5)
        self.mixer = nn.Linear(5, 5)
        self.head = nn.Linear(5, 6)
        self.head.weight = self.embedding.weight
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.mixer(self.embedding(tokens)).tanh()))


def images(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 2, 5, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(4, (size,), generator=generator)


def vectors(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(4, (size,), generator=generator)


def tokens(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(6, (2, size, 3), generator=generator)
    return drawn[0], drawn[1]


CASES = {"mlp": (mlp, vectors), "conv": (conv_net, images), "norm": (norm_net, images)}
WITH_TIED = CASES | {"tied_gpt": (TiedGPT, tokens)}


def backward(
    model: nn.Module, transform: KFACPreconditioner | KFAC, batch: tuple[Tensor, Tensor], parts=1
) -> Tensor:
    logits = model(batch[0]).flatten(0, -2)
    transform.observe(logits)
    loss = F.cross_entropy(logits, batch[1].flatten())
    (loss / parts).backward()
    return loss


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def train(model: nn.Module, optimizer: KFAC, batches: list[tuple[Tensor, Tensor]]) -> None:
    for batch in batches:
        backward(model, optimizer, batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def true_labels(monkeypatch: pytest.MonkeyPatch, labels: Tensor) -> None:
    """Makes the sampled labels those of the data."""
    monkeypatch.setattr(
        kfac_preconditioner,
        "sampled_gradient",
        lambda logits, _: logits.softmax(-1) - F.one_hot(labels.flatten(), logits.shape[-1]),
    )


def dense_reference(model: nn.Module, layer: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """One layer's preconditioned weight gradient, group by group, by autograd alone."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(
        lambda module, args, out: kept.extend([args[0].detach(), out])
    )
    logits = model(batch[0]).flatten(0, -2)
    hook.remove()
    layer_input, output = kept
    rows = len(logits)
    summed = F.cross_entropy(logits, batch[1].flatten(), reduction="sum")
    weight_grad, out_grad = torch.autograd.grad(summed, [layer.weight, output])
    groups = getattr(layer, "groups", 1)
    probe = layer(layer_input)
    spatial = isinstance(layer, nn.Conv2d)
    per_group = layer.weight.shape[0] // groups
    result = []
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        first = probe[:, channels.start] if spatial else probe[..., 0]
        seen = [
            torch.autograd.grad(value, layer.weight, retain_graph=True)[0][channels.start].flatten()
            for value in first.flatten()
        ]
        inputs = torch.stack(seen)
        outs = out_grad[:, channels].movedim(1, -1) if spatial else out_grad
        outs = outs.reshape(-1, per_group)
        a, b = inputs.T @ inputs / len(inputs), outs.T @ outs / rows
        pi = (a.trace() / len(a) / (b.trace() / len(b))).sqrt()
        a = a + pi * DAMPING**0.5 * torch.eye(len(a), dtype=a.dtype)
        b = b + DAMPING**0.5 / pi * torch.eye(len(b), dtype=b.dtype)
        grad = weight_grad[channels].reshape(per_group, -1) / rows
        result.append(torch.linalg.solve(torch.kron(b, a), grad.flatten()))
    return torch.cat(result).reshape(layer.weight.shape)


# The oracle's hooks are of a kind that torch deprecates.
@pytest.mark.filterwarnings("ignore:Using a non-full backward hook:FutureWarning")
@pytest.mark.parametrize("case", ["mlp", "conv"])
def test_empirical_follows_asdl_in_every_step(case):
    asdl = pytest.importorskip("asdl", reason="oracle: the K-FAC library of the AdaFisher authors")
    make, draw = CASES[case]
    ours, theirs = make(), make()
    transform = KFACPreconditioner(ours, fisher="empirical", damping=DAMPING, interval=1)
    size = 16
    maker = asdl.KfacGradientMaker(
        theirs,
        asdl.PreconditioningConfig(data_size=size, damping=DAMPING, ignore_modules=[]),
        fisher_type="fisher_emp",
    )
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (ours, theirs)]
    for step in range(4):
        batch = draw(size, seed=step)
        backward(ours, transform, batch)
        transform.update()
        output = maker.setup_model_call(theirs, batch[0])
        maker.setup_loss_call(F.cross_entropy, output, batch[1], reduction="sum")
        optimizers[1].zero_grad()
        maker.forward_and_backward()
        for name, grad in grads(theirs).items():
            torch.testing.assert_close(
                ours.get_parameter(name).grad, grad, rtol=1e-10, atol=1e-10, msg=name
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("case", WITH_TIED)
def test_empirical_solves_the_dense_system_of_every_layer(case):
    make, draw = WITH_TIED[case]
    model = make()
    batch = draw(8)
    transform = KFACPreconditioner(model, fisher="empirical", damping=DAMPING)
    assert transform._layers
    twin = make()
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # so that the reference can ask for the gradient before it
    expected = {
        name: dense_reference(twin, twin.get_submodule(name.removesuffix(".weight")), batch)
        for name in transform._layers
    }
    backward(model, transform, batch)
    transform.update()
    for name, grad in expected.items():
        torch.testing.assert_close(
            model.get_parameter(name).grad, grad, rtol=1e-10, atol=1e-10, msg=name
        )


@pytest.mark.parametrize("case", WITH_TIED)
def test_mc_with_the_true_labels_is_the_empirical_fisher(case, monkeypatch):
    make, draw = WITH_TIED[case]
    results = []
    for fisher in ("mc", "empirical"):
        model, batch = make(), draw(8)
        true_labels(monkeypatch, batch[1])
        transform = KFACPreconditioner(model, fisher=fisher, damping=DAMPING)
        backward(model, transform, batch)
        transform.update()
        results.append(grads(model))
    for name, grad in results[0].items():
        torch.testing.assert_close(grad, results[1][name], rtol=1e-10, atol=1e-12, msg=name)


def test_mc_tends_to_the_expected_fisher():
    # A softmax regression on many copies of one input: A = a a^T, B = diag(p) - p p^T.
    torch.manual_seed(0)
    model = nn.Linear(3, 4, bias=False).double()
    row = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    batch = row.expand(40_000, 3), torch.zeros(40_000, dtype=torch.int64)
    probabilities = model(row)[0].detach().softmax(0)
    a, b = row.T @ row, probabilities.diag() - torch.outer(probabilities, probabilities)
    pi = (a.trace() / 3 / (b.trace() / 4)).sqrt()
    root = 0.1**0.5
    transform = KFACPreconditioner(model, fisher="mc", damping=0.1)
    backward(model, transform, batch)
    raw = model.weight.grad.clone()
    transform.update()
    left = torch.linalg.inv(b + root / pi * torch.eye(4).double())
    right = torch.linalg.inv(a + pi * root * torch.eye(3).double())
    expected = left @ raw @ right
    distance = (model.weight.grad - expected).norm() / expected.norm()
    assert distance < 0.02
    assert (raw - expected).norm() / expected.norm() > 0.2


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
        stored = transform.state_dict()["inverses"]
        if step % 3 == 0:
            assert fresh is None or not torch.equal(fresh["0.weight"][0], stored["0.weight"][0])
            fresh = stored
        a, b = fresh["0.weight"][0][0], fresh["0.weight"][1][0]
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
        torch.testing.assert_close(transform.state_dict()["running"]["weight"][0][0], expected)
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
    for key in ("inverses", "running"):
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
    own = [t for pairs in optimizer.transform._inverses.values() for t in pairs]
    own += [t for pairs in optimizer.transform._running.values() for t in pairs]
    addresses = {tensor.data_ptr() for tensor in own}
    for key in ("inverses", "running"):
        for pairs in state["transform"][key].values():
            assert not addresses & {tensor.data_ptr() for tensor in pairs}
    for trained, used in ((model, optimizer), (other, second)):
        train(trained, used, [vectors(8, seed=5)] * 2)
    assert torch.equal(state["transform"]["generator"], kept["transform"]["generator"])
    for key in ("inverses", "running"):
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
    state["inverses"]["other.weight"] = [torch.eye(2), torch.eye(2)]
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
