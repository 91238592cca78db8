"""Inputs that are nested or sparse: their rows are those of the dense rows that they stand for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adafisher import AdaFisher
from adafisher.factors import sparse_square_sum

pytestmark = [
    # torch's own, of layouts that it calls a prototype or in beta
    pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse .* tensor).*:UserWarning"),
]
SAMPLES = [torch.randn(3, 4), torch.randn(5, 4)]
DENSE = torch.randn(8, 4).relu()


def padded(x: Tensor) -> Tensor:
    return torch.nested.to_padded_tensor(x, 0.0)


INPUTS: dict[str, tuple[Callable[[], Tensor], Tensor, Callable[[Tensor], Tensor]]] = {
    # input, the dense rows that it is, how its output becomes a dense one with zeros elsewhere
    "jagged": (
        lambda: torch.nested.nested_tensor(SAMPLES, layout=torch.jagged),
        torch.cat(SAMPLES),
        lambda y: y.values(),
    ),
    "strided": (lambda: torch.nested.nested_tensor(SAMPLES), torch.cat(SAMPLES), padded),
    "coo": (DENSE.to_sparse, DENSE, lambda y: y),
    "csr": (DENSE.to_sparse_csr, DENSE, lambda y: y),
}


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)]
    return nn.Sequential(*layers, *([nn.LayerNorm(3)] if norm else []))


@pytest.mark.parametrize("name", INPUTS)
def test_nested_and_sparse_inputs_of_linear_layers(name: str) -> None:
    make, dense, as_dense = INPUTS[name]
    models = network(norm=name == "jagged"), network(norm=name == "jagged")
    optimizers = [AdaFisher(model, damping=0.1) for model in models]
    for _ in range(3):
        as_dense(models[0](make())).square().sum().backward()
        models[1](dense).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    layers = [optimizer._curvature.capture.layers for optimizer in optimizers]
    for layer, other in zip(layers[0].values(), layers[1].values(), strict=True):
        for ours, theirs in zip(layer.averages() or (), other.averages() or (), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert optimizers[0].coverage().identity_steps == {}


LAYOUTS: list[Callable[[Tensor], Any]] = [
    Tensor.to_sparse_coo,
    Tensor.to_sparse_csr,
    Tensor.to_sparse_csc,
    lambda x: x.to_sparse_bsr((2, 2)),
    lambda x: x.to_sparse(1),  # its last axis is dense
]


@pytest.mark.parametrize("convert", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_sums_of_squares_of_sparse_tensors(
    convert: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    x = torch.randn(6, 4, dtype=torch.float64).relu().to(dtype)
    sums = sparse_square_sum(convert(x))
    wide = torch.promote_types(dtype, torch.float32)
    assert sums.dtype is wide
    torch.testing.assert_close(sums, x.to(wide).square().sum(0))


def test_entries_that_stand_twice_are_added_before_they_are_squared() -> None:
    x = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [2, 2, 0]]), torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(sparse_square_sum(x), torch.tensor([9.0, 0.0, 9.0]))
