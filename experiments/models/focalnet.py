"""FocalNet-T of timm, with small patches, and with full convolutions as the paper's code has it."""

from timm.models.focalnet import FocalModulation, FocalNet
from torch import nn

from experiments.errors import UserError

DEPTHS = (2, 2, 6, 2)
INIT_STD = 0.02  # as timm draws the other convolutions


def build(
    *,
    patch_size: int,
    embed_dim: int,
    focal_levels: int,
    focal_window: int,
    drop_path: float,
    ungrouped: bool,
    in_channels: int,
    num_classes: int,
    image_size: int,
) -> FocalNet:
    """Make FocalNet-T (four stages of 2, 2, 6, 2 blocks).

    Args:
        patch_size: Side of the patches that the stem makes tokens of.
        embed_dim: Channels of the first stage; they double in each of the others.
        focal_levels: Levels of context, besides the global one.
        focal_window: Kernel of the first level; each further one is larger by 2.
        drop_path: Probability of dropping a branch of the last block; rises linearly from 0.
        ungrouped: Whether the context convolutions are full ones instead of depthwise.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; a multiple of eight patches.

    Raises:
        UserError: If the image does not divide into patches and three halvings.

    Reference:
        Yang et al. (2022), arXiv 2203.11926, Table 1.
    """
    if image_size % (8 * patch_size):
        raise UserError(
            f"Invalid image_size: {image_size}. Must be a multiple of {8 * patch_size}: patches of "
            f"{patch_size} pixels, halved three times."
        )
    network = FocalNet(
        in_chans=in_channels,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depths=DEPTHS,
        focal_levels=(focal_levels,) * 4,
        focal_windows=(focal_window,) * 4,
        drop_path_rate=drop_path,
    )
    # timm's zero bias would leave the patches inside a Cutout hole exactly zero, where every norm
    # multiplies the gradient by 1 / sqrt(eps), to 1e20 in all. torch's own draw is not zero.
    network.stem.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
    if ungrouped:
        for module in network.modules():
            if isinstance(module, FocalModulation):
                for level, size in zip(module.focal_layers, module.kernel_sizes, strict=True):
                    full = nn.Conv2d(module.dim, module.dim, size, padding=size // 2, bias=False)
                    level.register_module("0", _drawn(full))
    return network


def _drawn(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.trunc_normal_(conv.weight, std=INIT_STD)
    return conv
