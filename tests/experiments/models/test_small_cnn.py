import pytest
import torch
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.models.small_cnn import SmallCNN


@pytest.mark.parametrize(
    ("image_size", "side", "parameters"),
    [
        (8, 2, 25_978),  # digits
        (28, 7, 54_778),  # MNIST
    ],
)
def test_size_and_shape(image_size, side, parameters):
    model = SmallCNN(in_channels=1, num_classes=10, image_size=image_size)
    images = torch.zeros(3, 1, image_size, image_size)
    assert model.features(images).shape == (3, 64, side, side)
    assert model(images).shape == (3, 10)
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    norms = 2 * (16 + 32 + 64)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert convolutions + norms + 64 * side**2 * 10 + 10 == parameters


@pytest.mark.parametrize("image_size", [1, 2, 5, 7, 9, 31])
def test_any_image_size_fits(image_size):
    model = SmallCNN(in_channels=2, num_classes=3, image_size=image_size, width=4)
    assert model(torch.zeros(2, 2, image_size, image_size)).shape == (2, 3)


def test_all_parameters_get_a_gradient():
    torch.manual_seed(0)
    model = SmallCNN(in_channels=1, num_classes=10, image_size=8)
    F.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("width", [0, -3, 2.5])
def test_an_impossible_width_is_refused(width):
    with pytest.raises(UserError, match="Invalid width: "):
        SmallCNN(in_channels=1, num_classes=10, image_size=8, width=width)


def test_the_forward_pass_follows_the_equations():
    torch.manual_seed(0)
    model = SmallCNN(in_channels=2, num_classes=3, image_size=6, width=4).double()
    images = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    hidden = images
    for block, stride in zip(model.features, (1, 2, 2), strict=True):
        convolution, norm, _ = block
        hidden = F.conv2d(hidden, convolution.weight, stride=stride, padding=1)
        mean = hidden.mean((0, 2, 3), keepdim=True)
        variance = (hidden - mean).square().mean((0, 2, 3), keepdim=True)
        hidden = ((hidden - mean) / (variance + norm.eps).sqrt()).clamp(min=0)
    expected = hidden.flatten(1) @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)
