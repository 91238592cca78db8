"""A narrow residual network for small images, whose width is chosen."""

from collections import OrderedDict

from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

from experiments.errors import UserError


def build(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    width: int = 16,
    stem_stride: int = 1,
) -> nn.Sequential:
    """Make the CIFAR network of He et al. (section 4.2, ``n = 1``) of torchvision's blocks.

    A 3x3 stem, three stages of one basic block each, of ``width``, twice and four times as many
    channels, the last two of stride 2, and a linear layer on the mean over positions. Where a
    block changes the size its shortcut is a projection (option B of section 3.3; the paper's
    CIFAR networks pad with zeros, which has no weights for a preconditioner to see).

    Args:
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; any, because the features are averaged over positions.
        width: Channels of the stem and of the first stage; the paper's are 16.
        stem_stride: 1, or 2, which halves the side of every map and so quarters the cost.

    Returns:
        A model from images ``[B, C, H, W]`` to logits ``[B, num_classes]``.

    Raises:
        UserError: If ``width`` is no whole number >= 1, or ``stem_stride`` neither 1 nor 2.

    Reference:
        He et al. (2016), arXiv 1512.03385.
    """
    if type(width) is not int or width < 1:
        raise UserError(f"Invalid width: {width}. Must be a whole number >= 1.")
    if type(stem_stride) is not int or stem_stride not in (1, 2):
        raise UserError(f"Invalid stem_stride: {stem_stride}. Must be 1 or 2.")
    network = nn.Sequential(
        OrderedDict(
            stem=conv3x3(in_channels, width, stem_stride),
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            stage1=BasicBlock(width, width),
            stage2=_halving(width),
            stage3=_halving(2 * width),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(4 * width, num_classes),
        )
    )
    for module in network.modules():  # as torchvision's ResNet draws them
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _halving(channels: int) -> BasicBlock:
    """Make a block that doubles the channels and halves the side."""
    shortcut = nn.Sequential(conv1x1(channels, 2 * channels, 2), nn.BatchNorm2d(2 * channels))
    return BasicBlock(channels, 2 * channels, stride=2, downsample=shortcut)
