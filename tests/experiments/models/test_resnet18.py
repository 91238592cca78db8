import torch
from torch import nn

from experiments.models.resnet18 import ResNet18


def make(in_channels: int = 3, num_classes: int = 10) -> ResNet18:
    torch.manual_seed(0)
    return ResNet18(in_channels=in_channels, num_classes=num_classes, image_size=32)


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


def test_feature_maps_have_the_sizes_of_the_cifar_stem():
    model = make().eval()
    sizes = {}
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        model.network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sizes == {
        "conv1": (64, 32, 32),
        "maxpool": (64, 32, 32),
        "layer1": (64, 32, 32),
        "layer2": (128, 16, 16),
        "layer3": (256, 8, 8),
        "layer4": (512, 4, 4),
    }


def test_channels_and_classes_are_the_tasks():
    model = make(in_channels=1, num_classes=7)
    assert model.network.conv1.in_channels == 1
    assert model.network.fc.out_features == 7


def test_every_convolution_starts_alike():
    # torchvision draws them with variance 2 / fan_out; the new stem must not stand out.
    for module in make().modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            ratio = module.weight.var() * fan_out / 2
            assert 0.9 < ratio.item() < 1.1
