"""Min-Max, the Kronecker diagonal and the preconditioned step as pure functions."""

import pytest
import torch
from torch import Tensor

from adafisher.execution.step import (
    Denominator,
    Hyperparameters,
    Update,
    form_fisher_diag,
    plain_step_,
)
from adafisher.execution.stepper import Stepper
from adafisher.fisher import join_terms, min_max

EPSILON = torch.finfo(torch.float64).eps


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_min_max_spans_zero_to_one_whatever_the_scale() -> None:
    x = vector(2.0, 5.0, 3.0)
    expected = vector(0.0, 1.0, 1 / 3)
    for scale in (1e-30, 1.0, 1e30):
        torch.testing.assert_close(min_max(x * scale), expected, rtol=1e-14, atol=0)


def test_min_max_adds_eps_to_the_range() -> None:
    torch.testing.assert_close(min_max(vector(1.0, 3.0), eps=2.0), vector(0.0, 0.5))


def test_min_max_runs_over_all_groups_together() -> None:
    x = vector(0.0, 1.0, 2.0, 4.0).reshape(2, 2)
    torch.testing.assert_close(min_max(x), x / 4)


@pytest.mark.parametrize(
    "values", [(0.0,), (3.0,), (0.0, 0.0), (7.0, 7.0), (1.0, 1.0 + 16 * EPSILON)]
)
def test_constant_factor_becomes_ones(values: tuple[float, ...]) -> None:
    assert torch.equal(min_max(vector(*values)), torch.ones(len(values), dtype=torch.float64))


@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("values", [(0.0,), (3.0,), (0.0, 0.0), (7.0, 7.0)])
def test_constant_factor_becomes_zeros_on_request(values: tuple[float, ...], eps: float) -> None:
    zeros = min_max(vector(*values), eps, "zeros")
    assert torch.equal(zeros, torch.zeros(len(values), dtype=torch.float64))


def test_an_eps_and_zeros_are_the_formula_without_a_threshold() -> None:
    nearly = vector(1.0, 1.0 + 4 * EPSILON)
    torch.testing.assert_close(
        min_max(nearly, 1e-6, "zeros"), vector(0.0, 4 * EPSILON / 1e-6), rtol=1e-6, atol=0
    )


def test_just_above_constant_is_scaled() -> None:
    assert torch.equal(min_max(vector(1.0, 1.0 + 32 * EPSILON)), vector(0.0, 1.0))


def test_denominator_is_the_diagonal_of_the_kronecker_product() -> None:
    s, h = torch.rand(3, 3, dtype=torch.float64), torch.rand(4, 4, dtype=torch.float64)
    full = torch.diagonal(torch.kron(s, h)).reshape(3, 4)
    terms = [(torch.diagonal(s)[:, None], torch.diagonal(h)[None])]
    param, ones = torch.zeros(3, 4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)
    hyper = Hyperparameters(beta=0.0, coupled_decay=0.0, shrink=0.0, damping=0.25, maximize=False)
    damping, scratch = torch.full((1, 4), 0.25, dtype=torch.float64), torch.empty_like(param)
    denominators = [Denominator(terms, damping, scratch)]
    plain_step_([param], [ones.clone()], denominators, [ones], [-1.0], hyper)
    torch.testing.assert_close(1 / param - 0.25, full, rtol=1e-14, atol=1e-14)
    read = form_fisher_diag(param, terms, damping=0.25)
    torch.testing.assert_close(read - 0.25, full, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_step_divides_by_the_mean_of_the_terms(groups: int) -> None:
    param, exp_avg = (torch.randn(4, 3, dtype=torch.float64) for _ in range(2))
    left = torch.rand(groups, 4 // groups, 1, dtype=torch.float64)
    right = torch.rand(groups, 1, 3, dtype=torch.float64)
    other = torch.rand(4, 1, dtype=torch.float64), torch.rand(1, 3, dtype=torch.float64)
    terms = join_terms([(left, right), other])
    fisher_diag = ((left * right).reshape(4, 3) + other[0] * other[1]) / 2 + 0.1
    expected = param - 0.5 * exp_avg / fisher_diag
    hyper = Hyperparameters(beta=0.0, coupled_decay=0.0, shrink=0.0, damping=0.1, maximize=False)
    read = form_fisher_diag(param, terms, damping=0.1)
    torch.testing.assert_close(read, fisher_diag, rtol=1e-14, atol=1e-14)
    Stepper().run([Update(param, exp_avg.clone(), exp_avg, terms, 0.5, hyper)])
    torch.testing.assert_close(param, expected, rtol=1e-14, atol=1e-14)
