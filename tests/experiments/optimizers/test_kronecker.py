import pytest
import torch
from torch import nn

from experiments.optimizers import kronecker_factors
from experiments.optimizers.kronecker_factors import input_rows, output_rows

# torch warns that "same" padding of even kernels may copy the input.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

CONVS = {
    "plain": {"kernel_size": 3},
    "stride_padding": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2)},
    "dilation": {"kernel_size": 3, "dilation": (2, 1), "padding": 2},
    "groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4},
    "grouped_dilated_strided": {"kernel_size": 3, "groups": 2, "dilation": 2, "stride": 2},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "reflect_same": {"kernel_size": (3, 2), "padding": "same", "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "replicate"},
    "1x1": {"kernel_size": 1},
}


def patches_by_autograd(layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """The derivative of one output by its filter is the patch that it saw."""
    output = layer(images)
    per_group = layer.out_channels // layer.groups
    rows = []
    for group in range(layer.groups):
        channel = output[:, group * per_group].flatten()
        found = [
            torch.autograd.grad(value, layer.weight, retain_graph=True)[0][group * per_group]
            for value in channel
        ]
        rows.append(torch.stack([patch.flatten() for patch in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("arguments", CONVS.values(), ids=CONVS.keys())
def test_conv_rows_are_the_patches_that_the_outputs_saw(arguments):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, **arguments).double()
    images = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    rows = torch.cat(list(input_rows(layer, images)), dim=1)
    torch.testing.assert_close(rows, patches_by_autograd(layer, images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("arguments", CONVS.values(), ids=CONVS.keys())
def test_rows_of_both_sides_multiply_to_the_weight_gradient(arguments):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, **arguments).double()
    images = torch.randn(3, 4, 6, 7, dtype=torch.float64)
    output = layer(images)
    grad = torch.randn_like(output)
    output.backward(grad)
    inputs = torch.cat(list(input_rows(layer, images)), dim=1)
    outputs = output_rows(layer, grad)
    weight = (outputs.mT @ inputs).reshape(layer.weight.shape)
    torch.testing.assert_close(weight, layer.weight.grad)
    torch.testing.assert_close(outputs.sum(1).flatten(), layer.bias.grad)


def test_unbatched_inputs_are_a_batch_of_one():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3)
    image = torch.randn(2, 5, 5)
    (batched,), (alone,) = input_rows(layer, image[None]), input_rows(layer, image)
    assert torch.equal(alone, batched)
    grad = torch.randn(3, 3, 3)
    assert torch.equal(output_rows(layer, grad), output_rows(layer, grad[None]))


def test_large_batches_come_in_chunks_that_hold_the_same_rows(monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3)
    images = torch.randn(5, 2, 6, 6)
    (whole,) = input_rows(layer, images)
    monkeypatch.setattr(kronecker_factors, "PATCH_ELEMENTS", 2 * whole[:, :16].numel() * 36 // 16)
    chunks = list(input_rows(layer, images))
    assert len(chunks) == 3
    assert torch.equal(torch.cat(chunks, dim=1), whole)
