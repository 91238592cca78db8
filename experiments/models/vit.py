"""timm's Vision Transformer for small images."""

from timm.models.vision_transformer import VisionTransformer

from experiments.errors import UserError


def build(
    *,
    patch_size: int,
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
) -> VisionTransformer:
    """Make a Vision Transformer with a class token and learned positions.

    Args:
        patch_size: Side of the patches; must divide ``image_size``.
        width: Size of the hidden states.
        layers: Blocks.
        heads: Attention heads.
        mlp_ratio: Hidden width of each block's GELU network, as a multiple of ``width``.
        dropout: Probability on the outputs of attention and GELU network.
        attention_dropout: Probability on the attention weights.
        drop_path: Probability of dropping a branch of the last block; rises linearly from 0.
        in_channels: Channels of the images.
        num_classes: Classes.
        image_size: Side of the images; decides how many positions there are.

    Raises:
        UserError: If the patches do not divide the image.

    Reference:
        Dosovitskiy et al. (2021), arXiv 2010.11929; S is Touvron et al. (2021), arXiv 2012.12877.
    """
    if image_size % patch_size:
        raise UserError(f"Invalid patch_size: {patch_size}. Must divide image_size {image_size}.")
    return VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=in_channels,
        num_classes=num_classes,
        embed_dim=width,
        depth=layers,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        proj_drop_rate=dropout,
        attn_drop_rate=attention_dropout,
        drop_path_rate=drop_path,
    )
