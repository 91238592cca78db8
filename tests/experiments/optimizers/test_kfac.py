"""The factors and the preconditioned gradient against two references."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from tests.experiments.optimizers.kfac_problems import (
    CASES,
    DAMPING,
    WITH_TIED,
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
