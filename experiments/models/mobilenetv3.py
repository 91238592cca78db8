"""MobileNetV3-Large of torchvision, and what the paper's code trains under that name."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNetV3
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig
from torchvision.ops import SqueezeExcitation

# Howard et al., Table 1: input channels, kernel, expanded channels, output channels, squeeze and
# excitation, activation, stride. The first 2 is replaced by an argument.
LARGE = (
    (16, 3, 16, 16, False, "RE", 1),
    (16, 3, 64, 24, False, "RE", 2),
    (24, 3, 72, 24, False, "RE", 1),
    (24, 5, 72, 40, True, "RE", 2),
    (40, 5, 120, 40, True, "RE", 1),
    (40, 5, 120, 40, True, "RE", 1),
    (40, 3, 240, 80, False, "HS", 2),
    (80, 3, 200, 80, False, "HS", 1),
    (80, 3, 184, 80, False, "HS", 1),
    (80, 3, 184, 80, False, "HS", 1),
    (80, 3, 480, 112, True, "HS", 1),
    (112, 3, 672, 112, True, "HS", 1),
    (112, 5, 672, 160, True, "HS", 2),
    (160, 5, 960, 160, True, "HS", 1),
    (160, 5, 960, 160, True, "HS", 1),
)


def build(
    *,
    strides: Sequence[int],
    dropout: float,
    ungrouped: bool,
    in_channels: int,
    num_classes: int,
    image_size: int,
) -> MobileNetV3:
    """Make MobileNetV3-Large.

    Args:
        strides: Of the stem and of the first block with stride 2; ``[2, 2]`` as published.
        dropout: Probability before the last layer.
        ungrouped: Whether every depthwise convolution is a full one, and the other differences of
            the released definition hold: squeeze and excitation to a quarter of the channels,
            without biases and before the activation; no bias in the last hidden layer; torch's
            BatchNorm defaults.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; any, because the features are averaged over positions.

    Reference:
        Howard et al. (2019), arXiv 1905.02244, Table 1.
    """
    stem_stride, first_stride = strides
    rows = [list(row) for row in LARGE]
    rows[1][-1] = first_stride
    network = MobileNetV3(
        [InvertedResidualConfig(*row, dilation=1, width_mult=1.0) for row in rows],
        last_channel=1280,
        num_classes=num_classes,
        dropout=dropout,
        **({"block": UngroupedResidual, "norm_layer": nn.BatchNorm2d} if ungrouped else {}),
    )
    stem = nn.Conv2d(in_channels, 16, 3, stride=stem_stride, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    network.features[0][0] = stem
    if ungrouped:
        network.classifier[0].bias = None
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = HardSigmoid()
    return network


class HardSigmoid(nn.Module):
    """``nn.Hardsigmoid`` in operations that can be differentiated twice, which torch's cannot."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map any shape to the same, into [0, 1]."""
        return F.relu6(inputs + 3) / 6


class SqueezeExcite(nn.Module):
    """Gates of a channel from the means of all channels; no biases, a quarter in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1, bias=False),
            HardSigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, H, W]``."""
        gated: Tensor = maps * self.gate(maps)
        return gated


class UngroupedResidual(InvertedResidual):
    """The inverted residual block with full convolutions in place of the depthwise ones."""

    def __init__(self, config: InvertedResidualConfig, norm_layer: partial[nn.Module]) -> None:
        super().__init__(config, norm_layer)
        *before, project = list(self.get_submodule("block"))
        if config.use_se:
            before.pop()
        *expand, spatial = before
        conv, norm, activation = spatial
        full = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            bias=False,
        )
        gates = [SqueezeExcite(conv.out_channels)] if config.use_se else []
        self.block = nn.Sequential(*expand, nn.Sequential(full, norm, *gates, activation), project)
