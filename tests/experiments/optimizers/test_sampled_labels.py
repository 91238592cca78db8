"""Labels drawn from the model: their gradients have the Fisher matrix as their second moment."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.likelihood import BERNOULLI, GAUSSIAN, Likelihood
from experiments.optimizers.kfac import KFAC
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from experiments.optimizers.sampled_labels import sampled_gradient

DRAWS = 40_000


def test_sampled_gradient_has_the_exact_fisher_as_its_second_moment():
    logits = torch.tensor([1.0, -0.5, 0.3, -3.0], dtype=torch.float64)
    probabilities = logits.softmax(0)
    draws = 40_000
    grads = sampled_gradient(logits.expand(draws, 4), torch.Generator().manual_seed(0))
    # By enumeration of the classes: sum_y p_y (p - e_y)(p - e_y)^T.
    residuals = probabilities - torch.eye(4, dtype=torch.float64)
    fisher = torch.einsum("y,yi,yj->ij", probabilities, residuals, residuals)
    five_sigma = 5 * (0.25 / draws) ** 0.5
    torch.testing.assert_close(grads.mT @ grads / draws, fisher, rtol=0, atol=five_sigma)
    torch.testing.assert_close(grads.mean(0), torch.zeros(4).double(), rtol=0, atol=five_sigma)


def test_sampled_gradient_of_a_certain_model_is_zero():
    logits = torch.tensor([[0.0, 200.0, 0.0], [0.0, 0.0, 200.0]])
    grads = sampled_gradient(logits, torch.Generator().manual_seed(0))
    torch.testing.assert_close(grads, torch.zeros(2, 3))


def test_sampled_labels_follow_the_generator_alone():
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    first, second = (sampled_gradient(logits, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, sampled_gradient(logits, torch.Generator().manual_seed(8)))
    assert torch.equal(before, torch.get_rng_state())


def test_impossible_class_is_not_drawn_at_the_edge(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    logits = torch.tensor([[-200.0, 0.0, 0.0]])
    grad = sampled_gradient(logits, torch.Generator())
    torch.testing.assert_close(grad, torch.tensor([[0.0, -0.5, 0.5]]))


def hessian(loss: object, outputs: Tensor) -> Tensor:
    """Of an exponential family in its natural parameters the Fisher matrix is that of its loss."""
    return torch.autograd.functional.hessian(loss, outputs)


@pytest.mark.parametrize("precision", [1.0, 2.0, 0.25])
def test_a_gaussian_has_the_hessian_of_its_squared_error(precision):
    means = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    likelihood = Likelihood(GAUSSIAN, precision)
    grads = sampled_gradient(means.expand(DRAWS, 3), torch.Generator().manual_seed(0), likelihood)
    fisher = hessian(lambda z: precision / 2 * z.square().sum(), means)
    # A product of two of these has the standard deviation `precision`, a square sqrt(2) times it.
    five_sigma = 5 * 2**0.5 * precision / DRAWS**0.5
    torch.testing.assert_close(grads.mT @ grads / DRAWS, fisher, rtol=0, atol=five_sigma)
    torch.testing.assert_close(
        grads.mean(0), torch.zeros(3).double(), rtol=0, atol=5 * (precision / DRAWS) ** 0.5
    )


def test_bernoullis_have_the_hessian_of_the_binary_cross_entropy():
    logits = torch.tensor([0.0, 1.5, -3.0], dtype=torch.float64)
    likelihood = Likelihood(BERNOULLI)
    grads = sampled_gradient(logits.expand(DRAWS, 3), torch.Generator().manual_seed(0), likelihood)
    labels = torch.zeros(3).double()
    fisher = hessian(
        lambda z: F.binary_cross_entropy_with_logits(z, labels, reduction="sum"), logits
    )
    five_sigma = 5 * (0.25 / DRAWS) ** 0.5
    torch.testing.assert_close(grads.mT @ grads / DRAWS, fisher, rtol=0, atol=five_sigma)


def test_a_label_that_is_drawn_at_the_edge_is_finite(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape).double())
    grads = sampled_gradient(torch.ones(2, 3), torch.Generator(), Likelihood(GAUSSIAN))
    assert bool(grads.isfinite().all())


@pytest.mark.parametrize("terms", [None, 4 * 32])
def test_kfac_of_a_linear_regression_has_the_curvature_of_its_loss(terms):
    """Of one linear layer under squared error, K-FAC is exact: A of the inputs, B is 2 I.

    A loss that is divided by `terms` in place of the rows has a curvature of so much less.
    """
    torch.manual_seed(0)
    rows, outputs = 32, 4
    model = nn.Linear(6, outputs, bias=False).double()
    inputs, targets = torch.randn(rows, 6).double(), torch.randn(rows, outputs).double()
    divisor = rows if terms is None else terms
    moments = torch.zeros(outputs, outputs).double()
    for seed in range(400):
        transform = KFACPreconditioner(model, damping=1e-12, seed=seed)
        found = model(inputs)
        transform.observe(found, likelihood=Likelihood(GAUSSIAN, 2.0), terms=terms)
        loss = (found - targets).square().sum() / divisor
        model.zero_grad()
        loss.backward()
        raw = model.weight.grad.clone()
        transform.update()
        # G = B X A, so B is what is left of the raw gradient.
        moments += raw @ torch.linalg.pinv(model.weight.grad @ (inputs.mT @ inputs / rows)) / 400
    expected = 2 * rows / divisor * torch.eye(outputs).double()
    torch.testing.assert_close(moments, expected, rtol=0, atol=0.15 * rows / divisor)


@pytest.mark.parametrize("likelihood", [None, Likelihood("laplace")])
def test_what_samples_labels_refuses_other_likelihoods_by_name(likelihood):
    optimizer = KFAC(nn.Linear(2, 2), lr=0.1)
    with pytest.raises(ValueError, match=r"K-FAC samples labels, .*categorical, bernoulli, gauss"):
        optimizer.check_likelihood(likelihood)
    optimizer.close()
    empirical = KFAC(nn.Linear(2, 2), lr=0.1, fisher="empirical")
    empirical.check_likelihood(likelihood)
    empirical.close()
