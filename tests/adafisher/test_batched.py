"""The factors of all layers at once, against one at a time."""

import pytest
import torch
from torch import Tensor

from adafisher.execution.batched import all_finite, min_max_all
from adafisher.fisher import min_max


@pytest.fixture
def factors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7,), (1, 5), (3, 4), (1,), (6,), (2, 2)]
    made = [torch.rand(shape, generator=generator) * 10.0**i for i, shape in enumerate(shapes)]
    return [*made, torch.full((4,), 3.0), torch.rand(2, 5).T, *(x.double() + 1 for x in made)]


@pytest.mark.parametrize("constant", ["ones", "zeros"])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 2.0])
def test_min_max_is_bitwise_that_of_each(factors: list[Tensor], eps: float, constant: str) -> None:
    for ours, factor in zip(min_max_all(factors, eps, constant), factors, strict=True):
        assert ours.dtype is factor.dtype
        assert torch.equal(ours, min_max(factor, eps, constant))


def test_min_max_leaves_its_argument(factors: list[Tensor]) -> None:
    before = [x.clone() for x in factors]
    min_max_all(factors)
    assert all(torch.equal(a, b) for a, b in zip(before, factors, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", [0, 3, 9])
def test_a_bad_factor_makes_its_own_estimate_bad(
    factors: list[Tensor], bad: float, position: int
) -> None:
    factors[position].view(-1)[0] = bad
    estimates = list(zip(factors[::2], factors[1::2], strict=True))
    expected = [i != position // 2 for i in range(len(estimates))]
    assert all_finite(estimates) == expected


def test_large_numbers_are_finite() -> None:
    assert all_finite([(torch.tensor([1e300], dtype=torch.float64), torch.tensor([3e38]))]) == [
        True
    ]


def test_nothing_to_do() -> None:
    assert min_max_all([]) == []
    assert all_finite([]) == []
