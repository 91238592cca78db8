"""A small convolutional network with BatchNorm, for digits and MNIST."""

import math

from torch import Tensor, nn

from experiments.errors import UserError


class SmallCNN(nn.Module):
    """Three 3x3 convolutions with BatchNorm and ReLU, the last two of stride 2, and a classifier.

    Convolutions have no bias, because BatchNorm adds one.

    Args:
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the square images in pixels.
        width: Channels of the first convolution; the others have two and four times as many.

    Raises:
        UserError: If ``width`` is not a positive integer.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, image_size: int, width: int = 16
    ) -> None:
        super().__init__()
        if not isinstance(width, int) or width < 1:
            raise UserError(f"Invalid width: {width}. Must be an integer >= 1.")
        self.features = nn.Sequential(
            _block(in_channels, width, stride=1),
            _block(width, 2 * width, stride=2),
            _block(2 * width, 4 * width, stride=2),
        )
        side = math.ceil(math.ceil(image_size / 2) / 2)
        self.classifier = nn.Linear(4 * width * side**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, num_classes]``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _block(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
