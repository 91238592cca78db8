"""Compact Convolutional Transformer.

Hidden states are ``[batch, tokens, width]``.
"""

from itertools import pairwise

import torch
from timm.layers import DropPath
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from experiments.errors import UserError

STEM_CHANNELS = 64  # of all tokenizer convolutions but the last
POSITION_STD = 0.2
INIT_STD = 0.02


class CCT(nn.Module):
    """Convolutions make the tokens, a Transformer mixes them, and a learned mean pools them.

    Each tokenizer step is a 3x3 convolution without bias, ReLU, and a 3x3 max-pooling of stride 2.
    The pooling is ``softmax(x w)^T x`` over the tokens ``x`` (Hassani et al., section 3.2).

    Args:
        convolutions: Steps of the tokenizer.
        stride: Of each of its convolutions.
        width: Size of the hidden states.
        layers: Transformer blocks.
        heads: Attention heads; must divide ``width``.
        mlp_ratio: Hidden width of each block's GELU network, as a multiple of ``width``.
        dropout: Probability on the tokens and on both branches.
        attention_dropout: Probability on the attention weights.
        drop_path: Probability of dropping a branch of the last block; rises linearly from 0.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; decides how many positions there are.
        padding: Of each tokenizer convolution; 1 keeps the side at a stride of 1.

    Raises:
        UserError: If the heads do not divide the width, or the padding is no whole number >= 0.

    Reference:
        Hassani et al. (2021), arXiv 2104.05704.
    """

    def __init__(
        self,
        *,
        convolutions: int,
        stride: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
        in_channels: int,
        num_classes: int,
        image_size: int,
        padding: int = 1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"Invalid heads: {heads}. Must divide width {width}.")
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise UserError(f"Invalid padding: {padding}. Must be a whole number >= 0.")
        channels = [in_channels, *[STEM_CHANNELS] * (convolutions - 1), width]
        side = image_size
        steps: list[nn.Module] = []
        for inner, outer in pairwise(channels):
            steps += [
                nn.Conv2d(inner, outer, 3, stride=stride, padding=padding, bias=False),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            ]
            side = _halved((side + 2 * padding - 3) // stride + 1)
        if side < 1:
            raise UserError(f"Invalid padding: {padding}. {image_size} pixels leave no token.")
        self.tokenizer = nn.Sequential(*steps)
        self.positions = nn.Parameter(torch.empty(1, side**2, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            CCTBlock(
                width=width,
                heads=heads,
                mlp_width=int(width * mlp_ratio),
                dropout=dropout,
                attention_dropout=attention_dropout,
                drop_path=drop_path * number / max(layers - 1, 1),
            )
            for number in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.pooling = nn.Linear(width, 1)
        self.head = nn.Linear(width, num_classes)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, num_classes]``."""
        tokens = self.tokenizer(images).flatten(2).transpose(1, 2)
        tokens = self.dropout(tokens + self.positions)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        weights = self.pooling(tokens).softmax(1)  # [B, T, 1]
        logits: Tensor = self.head((weights * tokens).sum(1))
        return logits

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.positions, std=POSITION_STD)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class CCTBlock(nn.Module):
    """Self-attention and a GELU network, each with a residual sum.

    The second norm acts on the residual sum itself, as in the authors' definition:
    ``y = norm(x + attention(norm(x)))``, ``z = y + mlp(y)``.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(
            width, num_heads=heads, attn_drop=attention_dropout, proj_drop=dropout
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_width, width),
            nn.Dropout(dropout),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to ``[B, T, width]``."""
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        tokens = self.mlp_norm(tokens)
        return tokens + self.drop_path(self.mlp(tokens))


def _halved(side: int) -> int:
    return (side + 1) // 2
