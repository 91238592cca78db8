"""torchvision's DenseNet-121 with the stem for 32x32 images."""

from torch import nn
from torchvision import models

from experiments.models.initial import TORCH, check_init, draw_as_torch


def build(
    *,
    dropout: float,
    in_channels: int,
    num_classes: int,
    image_size: int,
    init: str = "torchvision",
) -> models.DenseNet:
    """Make DenseNet-121 with the CIFAR stem: one 3x3 convolution of stride 1.

    Neither BatchNorm nor ReLU nor pooling follow it: each dense layer starts with its own (Huang et
    al., section 4.2: a single convolution before the first dense block).

    Args:
        dropout: Probability after each dense layer.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; at least 8, for three halvings.
        init: Initial weights: ``torchvision`` draws convolutions with variance ``2 / fan_in`` and
            starts the classifier without bias, ``torch`` leaves all at torch's defaults.

    Raises:
        UserError: If ``init`` is not one of the known.

    Reference:
        Huang et al. (2017), arXiv 1608.06993.
    """
    check_init(init, "torchvision")
    network = models.densenet121(num_classes=num_classes, drop_rate=dropout)
    conv = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight)  # as torchvision draws the other convolutions
    network.features.conv0 = conv
    for name in ("norm0", "relu0", "pool0"):
        setattr(network.features, name, nn.Identity())
    if init == TORCH:
        draw_as_torch(network)
    return network
