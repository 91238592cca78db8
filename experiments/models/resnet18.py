"""ResNet-18 for 32x32 images."""

from torch import Tensor, nn
from torchvision.models import resnet18


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with the CIFAR stem: a 3x3 convolution of stride 1, no max-pooling.

    He et al. (2016, arXiv 1512.03385), section 4.2 for the stem; 11,173,962 parameters for three
    channels and ten classes.

    Args:
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; any, because the features are averaged over positions.
    """

    def __init__(self, *, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.network = resnet18(num_classes=num_classes)
        stem = nn.Conv2d(in_channels, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.network.conv1 = stem
        self.network.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, num_classes]``."""
        logits: Tensor = self.network(images)
        return logits
