"""Damped inverses of both kinds of factor, and what they make of gradients."""

import pytest
import torch
from torch import Tensor, nn

from experiments.optimizers.inverses import (
    Factor,
    Inverse,
    RowSum,
    invert,
    invert_pair,
    precondition,
)
from experiments.optimizers.symmetric import packed_size


def of_matrix(matrices: Tensor) -> Factor:
    return Factor(matrices, is_rows=False)


def dense(inverse: Inverse, size: int) -> Tensor:
    """What the inverse makes of the unit vectors, from either side."""
    eye = torch.eye(size, dtype=inverse.tensor.dtype).expand(len(inverse.tensor), size, size)
    (found,) = inverse.times(eye)
    torch.testing.assert_close(found, inverse.after(eye))
    return found


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("parts", [[2], [1, 2], [5], [2, 3, 4]])
def test_rows_and_matrices_are_one_inverse(parts, groups):
    """Few rows stay rows, many become a matrix: both against the inverse of the dense matrix."""
    torch.manual_seed(0)
    size = 7
    rows = [torch.randn(groups, count, size, dtype=torch.float64) for count in parts]
    damping = torch.linspace(0.1, 0.3, groups, dtype=torch.float64)
    total = RowSum(keeps_rows=True)
    for part in rows:
        total.add(part)
    factor = total.factor(0.5)
    assert factor.is_rows == (2 * sum(parts) <= size)
    everything = torch.cat(rows, dim=1)
    matrix = 0.5 * torch.einsum("gri,grj->gij", everything, everything)
    eye = torch.eye(size, dtype=torch.float64)
    expected = torch.linalg.inv(matrix + damping.view(-1, 1, 1) * eye)
    torch.testing.assert_close(dense(invert(factor, damping), size), expected)
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    torch.testing.assert_close(factor.mean_eigenvalue(), mean)
    torch.testing.assert_close(2 * matrix, total.matrix())


def test_an_inverse_takes_no_more_than_a_triangle():
    torch.manual_seed(0)
    for count in (3, 4, 5, 50):
        total = RowSum(keeps_rows=True)
        total.add(torch.randn(1, count, 9))
        inverse = invert(total.factor(1.0), torch.ones(1))
        assert inverse.tensor.numel() <= packed_size(9)


def test_rows_may_be_overwritten_after_they_were_added():
    rows = torch.ones(1, 2, 8)
    total = RowSum(keeps_rows=True)
    total.add(rows)
    rows.zero_()
    assert torch.equal(total.matrix(), torch.full((1, 8, 8), 2.0))


def test_float32_rows_are_as_accurate_as_the_float32_matrix():
    # The gradient lies in the span of the rows, where the Woodbury form takes a difference.
    torch.manual_seed(0)
    rows = torch.randn(1, 20, 200, dtype=torch.float64)
    grad = torch.randn(1, 5, 20, dtype=torch.float64) @ rows
    damping = torch.tensor([1e-3], dtype=torch.float64)
    exact = grad @ torch.linalg.inv(rows.mT @ rows / 20 + 1e-3 * torch.eye(200).double())
    errors = []
    for keeps_rows in (True, False):
        total = RowSum(keeps_rows=keeps_rows)
        total.add(rows.float())
        found = invert(total.factor(1 / 20), damping.float()).after(grad.float())
        errors.append(((found - exact).norm() / exact.norm()).item())
    assert errors[0] < 2 * errors[1] + 1e-5


def test_damping_is_split_by_the_mean_eigenvalues():
    # tr A / d = 4, tr B / d = 1/4, so pi = 4; sqrt(lambda) = 0.1.
    first = torch.diag(torch.tensor([2.0, 6.0], dtype=torch.float64))[None]
    second = torch.diag(torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64))[None]
    both = invert_pair(of_matrix(first), of_matrix(second), 0.01)
    first_inverse, second_inverse = dense(both[0], 2)[0], dense(both[1], 3)[0]
    torch.testing.assert_close(first_inverse.diagonal(), 1 / torch.tensor([2.4, 6.4]).double())
    expected = 1 / torch.tensor([0.025, 0.275, 0.525]).double()
    torch.testing.assert_close(second_inverse.diagonal(), expected)


def test_each_group_splits_its_own_damping():
    first = torch.eye(2).double() * torch.tensor([4.0, 1.0]).double().view(2, 1, 1)
    second = torch.eye(3).double() * torch.tensor([1.0, 4.0]).double().view(2, 1, 1)
    both = invert_pair(of_matrix(first), of_matrix(second), 0.01)
    for group in range(2):
        part = slice(group, group + 1)
        alone = invert_pair(of_matrix(first[part]), of_matrix(second[part]), 0.01)
        torch.testing.assert_close(both[0].tensor[part], alone[0].tensor)
        torch.testing.assert_close(both[1].tensor[part], alone[1].tensor)


def test_zero_factor_takes_the_whole_damping():
    zero, one = torch.zeros(1, 2, 2), torch.eye(3)[None]
    first, second = invert_pair(of_matrix(zero), of_matrix(one), 0.5)
    torch.testing.assert_close(dense(first, 2)[0], 2 * torch.eye(2))
    torch.testing.assert_close(dense(second, 3)[0], torch.eye(3) / 1.5)


def test_rank_deficient_factor_is_inverted():
    torch.manual_seed(0)
    row = torch.randn(1, 1, 6)
    inverse = dense(invert(of_matrix(row.mT @ row), torch.tensor([1e-2])), 6)
    # Sherman-Morrison: (d I + r r^T)^-1 = (I - r r^T / (d + |r|^2)) / d.
    norm = row.square().sum()
    expected = (torch.eye(6) - (row.mT @ row) / (1e-2 + norm)) / 1e-2
    torch.testing.assert_close(inverse, expected, rtol=1e-3, atol=1e-3)


def test_indefinite_factor_gets_more_damping_and_nan_gives_up():
    # The damping lifts -1e-3 above zero only when it is ten times as large.
    factor = torch.diag(torch.tensor([1.0, -1e-3]))[None]
    inverse = dense(invert(of_matrix(factor), torch.tensor([2e-4])), 2)
    expected = 1 / torch.tensor([1.0 + 2e-3, 1e-3])
    torch.testing.assert_close(inverse[0].diagonal(), expected)
    assert invert(of_matrix(torch.full((1, 2, 2), torch.nan)), torch.ones(1)) is None
    assert invert(of_matrix(-torch.eye(2)[None]), torch.tensor([1e-3])) is None


@pytest.mark.parametrize("with_bias", [True, False])
def test_preconditioning_solves_the_kronecker_system_of_each_layer_and_group(with_bias):
    torch.manual_seed(0)
    damping = torch.full((2,), 0.1, dtype=torch.float64)
    layers, factors = [], []
    for _ in range(3):
        layers.append(nn.Conv2d(4, 6, (2, 1), groups=2, bias=with_bias).double())
        rows = torch.randn(2, 9, 4, dtype=torch.float64), torch.randn(2, 9, 3, dtype=torch.float64)
        factors.append([part.mT @ part for part in rows])
        for param in layers[-1].parameters():
            param.grad = torch.randn_like(param)
    before = [[param.grad.clone() for param in layer.parameters()] for layer in layers]
    precondition(
        [layer.weight.grad for layer in layers],
        [layer.bias.grad for layer in layers if with_bias],
        [invert(of_matrix(first), damping) for first, _ in factors],
        [invert(of_matrix(second), damping) for _, second in factors],
    )
    for layer, raw, pair in zip(layers, before, factors, strict=True):
        first, second = (f + 0.1 * torch.eye(f.shape[-1]).double() for f in pair)
        for group in range(2):
            part = slice(3 * group, 3 * group + 3)
            expected = torch.linalg.solve(
                torch.kron(second[group], first[group]), raw[0][part].flatten()
            )
            torch.testing.assert_close(layer.weight.grad[part].flatten(), expected)
            if with_bias:
                expected = torch.linalg.solve(second[group], raw[1][part])
                torch.testing.assert_close(layer.bias.grad[part], expected)
