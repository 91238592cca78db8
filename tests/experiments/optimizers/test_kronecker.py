import pytest
import torch
from torch import nn

from experiments.optimizers import kronecker_factors
from experiments.optimizers.kronecker_factors import input_rows, output_rows, sampled_gradient

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
