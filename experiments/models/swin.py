"""Swin-T of timm for small images, and the Swin that the paper's code trains.

Hidden states are ``[batch, height, width, channels]``.
"""

from collections.abc import Sequence

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor, nn

from experiments.errors import UserError


def build(
    *,
    patch_size: int,
    window: int,
    embed_dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    drop_path: float,
    in_channels: int,
    num_classes: int,
    image_size: int,
) -> SwinTransformer:
    """Make timm's Swin Transformer.

    Args:
        patch_size: Side of the patches; must divide ``image_size``.
        window: Side of the attention windows in patches; a stage with smaller maps takes its map.
        embed_dim: Channels of the first stage; they double in each of the others.
        depths: Blocks of each stage.
        heads: Attention heads of each stage.
        drop_path: Probability of dropping a branch of the last block; rises linearly from 0.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images.

    Raises:
        UserError: If the patches do not divide the image.

    Reference:
        Liu et al. (2021), arXiv 2103.14030, section 3.3.
    """
    if image_size % patch_size:
        raise UserError(f"Invalid patch_size: {patch_size}. Must divide image_size {image_size}.")
    return SwinTransformer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=in_channels,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_size=window,
        drop_path_rate=drop_path,
    )


class ReleasedSwin(nn.Module):
    """The Swin that the paper's code trains: timm's blocks in another frame.

    Against Liu et al.: patches merge by a linear layer with a bias and no norm; query, key and
    value have no bias; all heads of a block share one relative position bias, drawn from N(0, 1);
    nothing is dropped; linear layers are drawn as torch does.

    Args:
        factors: Side of the patches that merge before each stage; 1 keeps the map.
        window: Side of the attention windows.
        embed_dim: Channels of the first stage; they double in each of the others.
        depths: Blocks of each stage; every second one has shifted windows.
        heads: Attention heads of each stage.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images.

    Raises:
        UserError: If the factors do not divide the image, or the window does not divide a map.
    """

    def __init__(
        self,
        *,
        factors: Sequence[int],
        window: int,
        embed_dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        in_channels: int,
        num_classes: int,
        image_size: int,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        side, channels = image_size, in_channels
        for stage, (factor, depth, count) in enumerate(zip(factors, depths, heads, strict=True)):
            if side % (factor * window):
                raise UserError(
                    f"Invalid image_size: {image_size}. Stage {stage + 1} cuts its map of {side} "
                    f"by {factor} and by windows of {window}."
                )
            side, width = side // factor, embed_dim * 2**stage
            self.stages.append(
                nn.Sequential(
                    PatchMerging(channels, width, factor),
                    *(
                        _block(width, side, count, window=window, shifted=bool(number % 2))
                        for number in range(depth)
                    ),
                )
            )
            channels = width
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, num_classes]``."""
        hidden = images.permute(0, 2, 3, 1)
        for stage in self.stages:
            hidden = stage(hidden)
        # the mean before the norm; Liu et al. take it after
        logits: Tensor = self.head(self.norm(hidden.mean((1, 2))))
        return logits


class PatchMerging(nn.Module):
    """One linear layer on each square of ``factor**2`` pixels, as a convolution of that stride."""

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(in_channels, out_channels, factor, stride=factor)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[B, H, W, C]`` to ``[B, H / factor, W / factor, D]``."""
        merged: Tensor = self.merge(hidden.permute(0, 3, 1, 2))
        return merged.permute(0, 2, 3, 1)


def _block(
    width: int, side: int, heads: int, *, window: int, shifted: bool
) -> SwinTransformerBlock:
    block = SwinTransformerBlock(
        width,
        input_resolution=(side, side),
        num_heads=heads,
        window_size=window,
        shift_size=window // 2 if shifted else 0,
        qkv_bias=False,
    )
    offsets = (2 * block.window_size[0] - 1) ** 2
    block.attn.relative_position_bias_table = nn.Parameter(torch.randn(offsets, 1))
    return block
