"""The factors and the preconditioned gradient against two references."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from tests.support.kfac_problems import (
    CASES,
    DAMPING,
    WITH_TIED,
    PatchNet,
    backward,
    dense_reference,
    grads,
    true_labels,
)


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


def distances_to_asdl(side: int, positions: str) -> dict[str, float]:
    """Of each preconditioned weight gradient of ``PatchNet`` on ``side ** 2`` tokens, relative."""
    asdl = pytest.importorskip("asdl", reason="oracle: the K-FAC library of the AdaFisher authors")
    generator = torch.Generator().manual_seed(side)
    inputs = torch.randn(16, 2, side, side, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (16,), generator=generator)
    ours, theirs = PatchNet(), PatchNet()
    transform = KFACPreconditioner(ours, fisher="empirical", damping=DAMPING, positions=positions)
    backward(ours, transform, (inputs, labels))
    transform.update()
    config = asdl.PreconditioningConfig(data_size=16, damping=DAMPING, ignore_modules=[])
    maker = asdl.KfacGradientMaker(theirs, config, fisher_type="fisher_emp")
    output = maker.setup_model_call(theirs, inputs)
    maker.setup_loss_call(F.cross_entropy, output, labels, reduction="sum")
    maker.forward_and_backward()
    return {
        name: float((ours.get_parameter(name).grad - grad).norm() / grad.norm())
        for name, grad in grads(theirs).items()
    }


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook:FutureWarning")
@pytest.mark.parametrize("side", [1, 3, 8])
def test_the_sum_over_positions_follows_asdl_on_tokens(side):
    distances = distances_to_asdl(side, "sum")
    assert len(distances) == 7
    assert max(distances.values()) < 1e-12


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook:FutureWarning")
def test_the_mean_over_positions_is_another_direction_on_tokens_alone():
    assert max(distances_to_asdl(1, "mean").values()) < 1e-12
    distances = distances_to_asdl(8, "mean")
    assert min(distances[f"{name}.weight"] for name in ("on_grid", "on_tokens")) > 0.5
    # A convolution is divided by its positions in both.
    assert max(distances["patches.weight"], distances["head.weight"]) < 1e-12


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
