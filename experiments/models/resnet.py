"""ResNets of torchvision, with the stem for 32x32 or for 224x224 images."""

from torch import nn
from torchvision import models

from experiments.errors import UserError
from experiments.models.initial import TORCH, check_init, draw_as_torch

DEPTHS = {18: models.resnet18, 50: models.resnet50, 101: models.resnet101}
STEMS = ("cifar", "imagenet")


def build(
    *,
    depth: int,
    stem: str,
    in_channels: int,
    num_classes: int,
    image_size: int,
    init: str = "torchvision",
) -> models.ResNet:
    """Make torchvision's ResNet.

    Args:
        depth: 18, 50 or 101 layers.
        stem: ``imagenet`` is a 7x7 convolution of stride 2 and a max-pooling, as in He et al.
            Table 1; ``cifar`` a 3x3 convolution of stride 1 and no pooling, as in section 4.2.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; any, because the features are averaged over positions.
        init: Initial weights: ``torchvision`` draws convolutions with variance ``2 / fan_out`` (He
            et al. 2015, arXiv 1502.01852), ``torch`` leaves them at torch's defaults.

    Raises:
        UserError: If ``depth``, ``stem`` or ``init`` is not one of the known.

    Reference:
        He et al. (2016), arXiv 1512.03385.
    """
    if depth not in DEPTHS:
        known = ", ".join(map(str, DEPTHS))
        raise UserError(f"Invalid depth: {depth}. Must be one of: {known}.")
    if stem not in STEMS:
        raise UserError(f"Invalid stem: {stem!r}. Must be one of: {', '.join(STEMS)}.")
    check_init(init, "torchvision")
    network = DEPTHS[depth](num_classes=num_classes)
    size, stride = (3, 1) if stem == "cifar" else (7, 2)
    conv = nn.Conv2d(in_channels, 64, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = conv
    if stem == "cifar":
        network.maxpool = nn.Identity()
    if init == TORCH:
        draw_as_torch(network)
    return network
