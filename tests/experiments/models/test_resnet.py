import pytest
import torch
from torch import nn

from experiments.errors import UserError
from experiments.models import resnet


def make(depth: int = 18, stem: str = "cifar", channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return resnet.build(depth=depth, stem=stem, in_channels=channels, num_classes=10, image_size=32)


def test_parameter_count_is_that_of_the_cifar_network():
    # He et al.: stem, four stages of two basic blocks, classifier; all but the classifier unbiased.
    def block(inner, outer, *, projected):
        count = 9 * inner * outer + 9 * outer * outer + 2 * 2 * outer
        return count + (inner * outer + 2 * outer if projected else 0)

    expected = 9 * 3 * 64 + 2 * 64 + 512 * 10 + 10
    for inner, outer in ((64, 64), (64, 128), (128, 256), (256, 512)):
        expected += block(inner, outer, projected=inner != outer)
        expected += block(outer, outer, projected=False)
    assert sum(parameter.numel() for parameter in make().parameters()) == expected == 11_173_962


@pytest.mark.parametrize(
    ("stem", "sides"),
    [("cifar", (32, 32, 32, 16, 8, 4)), ("imagenet", (16, 8, 8, 4, 2, 1))],
)
@pytest.mark.parametrize("depth", [18, 50, 101])
def test_feature_maps_have_the_sizes_of_the_stem(stem, sides, depth):
    with torch.device("meta"):
        model = make(depth, stem)
        found = []
        for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output: found.append(output.shape[-2:])
            )
        model(torch.zeros(2, 3, 32, 32))
    assert found == [(side, side) for side in sides]


def test_every_convolution_starts_alike():
    # torchvision draws them with variance 2 / fan_out; the new stem must not stand out.
    for module in make().modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            ratio = module.weight.var() * fan_out / 2
            assert 0.9 < ratio.item() < 1.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 34}, r"Invalid depth: 34\. Must be one of: 18, 50, 101"),
        ({"stem": "wide"}, r"Invalid stem: 'wide'\. Must be one of: cifar, imagenet"),
    ],
)
def test_an_unknown_network_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)
