"""Full factors against autograd and against the diagonals that the optimizer keeps."""

import pytest
import torch
from torch import nn

from adafisher import AdaFisher
from experiments.errors import UserError
from experiments.studies.full_factors import FullFactors


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_of_one_row_the_kronecker_product_is_the_outer_product_of_the_gradient(kind, bias):
    torch.manual_seed(0)
    if kind == "linear":
        layer: nn.Module = nn.Linear(3, 2, bias=bias)
        x = torch.randn(1, 3, dtype=torch.float64)
    else:
        layer = nn.Conv2d(2, 3, (2, 3), bias=bias)  # the kernel covers the image: one position
        x = torch.randn(1, 2, 2, 3, dtype=torch.float64)
    layer = layer.double()
    factors = FullFactors(layer, gammas=(0.0, 0.0), update_interval=1)
    layer(x).pow(2).sum().backward()
    gradient = layer.weight.grad.flatten(1)
    if bias:
        gradient = torch.cat([gradient, layer.bias.grad.unsqueeze(1)], 1)
    flat = gradient.flatten()
    torch.testing.assert_close(torch.kron(factors.grad, factors.activation), flat.outer(flat))


def network() -> nn.Sequential:
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, bias=False)
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3)).double()


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("layer", ["0", "3"])
def test_the_diagonals_are_those_that_the_optimizer_keeps(layer, interval):
    model, gammas = network(), (0.92, 0.008)
    optimizer = AdaFisher(model, gammas=gammas, update_interval=interval)
    factors = FullFactors(model.get_submodule(layer), gammas=gammas, update_interval=interval)
    for step in range(4):
        x = torch.randn(5, 2, 6, 6, dtype=torch.float64)
        nn.functional.cross_entropy(model(x), torch.arange(5) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()
        kept = optimizer._curvature.capture.layers[layer].averages()
        for diagonal, full in zip(kept, (factors.activation, factors.grad), strict=True):
            torch.testing.assert_close(full.diagonal(), diagonal.flatten(), msg=f"step {step}")


def test_evaluation_leaves_no_trace_and_closed_is_closed():
    model = network()
    factors = FullFactors(model[3], gammas=(0.9, 0.9), update_interval=1)
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        model(x)
    model(x)
    assert factors.activation is None
    factors.close()
    model(x).sum().backward()
    assert factors.activation is None


@pytest.mark.parametrize(
    "module", [nn.BatchNorm2d(2), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(1, 1, 3, padding="same")]
)
def test_other_layers_are_refused(module):
    with pytest.raises(UserError, match="Invalid layer"):
        FullFactors(module, gammas=(0.9, 0.9), update_interval=1)
