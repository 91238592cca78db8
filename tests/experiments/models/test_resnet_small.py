import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.models import resnet_small


def make(**changes) -> nn.Sequential:
    torch.manual_seed(0)
    sizes = {"in_channels": 3, "num_classes": 10, "image_size": 32}
    return resnet_small.build(**{**sizes, **changes})


@pytest.mark.parametrize(("width", "parameters"), [(16, 78_042), (8, 19_954)])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_its_size_is_the_sum_of_its_layers(width, parameters, stem_stride):
    w = width
    stem, first = 9 * 3 * w + 2 * w, 2 * (9 * w * w + 2 * w)
    halving = [9 * c * 2 * c + 9 * (2 * c) ** 2 + c * 2 * c + 3 * 2 * 2 * c for c in (w, 2 * w)]
    expected = stem + first + sum(halving) + 4 * w * 10 + 10
    model = make(width=width, stem_stride=stem_stride)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected == parameters


@pytest.mark.parametrize(("stem_stride", "sides"), [(1, [32, 32, 16, 8]), (2, [16, 16, 8, 4])])
def test_its_maps_have_the_sides_of_the_stem(stem_stride, sides):
    model, found = make(stem_stride=stem_stride, width=4), []
    for name in ("stem", "stage1", "stage2", "stage3"):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: found.append(output.shape[-1])
        )
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert found == sides


@pytest.mark.parametrize("image_size", [1, 7, 28])
def test_any_image_fits(image_size):
    model = make(width=4, stem_stride=2, in_channels=1, image_size=image_size)
    assert model(torch.zeros(2, 1, image_size, image_size)).shape == (2, 10)


def test_the_forward_pass_follows_the_equations():
    model = make(width=4, stem_stride=2).double()
    images = torch.randn(5, 3, 12, 12, dtype=torch.float64)

    def normed(maps: Tensor) -> Tensor:
        mean = maps.mean((0, 2, 3), keepdim=True)
        variance = (maps - mean).square().mean((0, 2, 3), keepdim=True)
        return (maps - mean) / (variance + 1e-5).sqrt()

    hidden = normed(F.conv2d(images, model.stem.weight, stride=2, padding=1)).clamp(min=0)
    for stage, stride in ((model.stage1, 1), (model.stage2, 2), (model.stage3, 2)):
        inner = F.conv2d(hidden, stage.conv1.weight, stride=stride, padding=1)
        inner = F.conv2d(normed(inner).clamp(min=0), stage.conv2.weight, padding=1)
        shortcut = hidden
        if stride == 2:
            shortcut = normed(F.conv2d(hidden, stage.downsample[0].weight, stride=2))
        hidden = (normed(inner) + shortcut).clamp(min=0)
    expected = hidden.mean((2, 3)) @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, r"Invalid width: 0\. Must be a whole number >= 1\."),
        ({"width": 2.5}, r"Invalid width: 2\.5\."),
        ({"stem_stride": 3}, r"Invalid stem_stride: 3\. Must be 1 or 2\."),
    ],
)
def test_an_impossible_network_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)
