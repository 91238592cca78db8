"""Whole models of torchvision, timm and the suite: every parameter is stepped, once, and moves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from adafisher import AdaFisher
from experiments.models.gpt import GPT

timm: Any = pytest.importorskip("timm")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.meshgrid.*indexing:UserWarning"),
]
SIZE, CLASSES = 32, 5


def torchvision_mobilenet() -> nn.Module:
    config = models.mobilenetv3.InvertedResidualConfig
    blocks = [
        config(8, 3, 16, 8, True, "RE", 1, 1, 1.0),
        config(8, 5, 24, 16, True, "HS", 2, 1, 1.0),
    ]
    return models.MobileNetV3(blocks, 32, num_classes=CLASSES)


def torchvision_swin(**options: Any) -> nn.Module:
    return models.SwinTransformer(
        [2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES, stochastic_depth_prob=0, **options
    )


def torchvision_convnext() -> nn.Module:
    blocks = [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(blocks, num_classes=CLASSES)


def by_timm(name: str, **options: Any) -> nn.Module:
    model: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return model


def focalnet(**options: Any) -> nn.Module:
    model: nn.Module = timm.models.focalnet.FocalNet(
        num_classes=CLASSES, embed_dim=16, depths=(1, 1), **options
    )
    return model


def gpt(norm: str) -> nn.Module:
    return GPT(
        vocab_size=11,
        context=8,
        layers=2,
        heads=2,
        width=8,
        mlp_width=16,
        norm=norm,
        dropout=0.1,
        tied_head=True,
    )


# name: model, and the ends of the names of the parameters that are in no layer
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "torchvision_resnet": (
        lambda: models.ResNet(
            models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=CLASSES, width_per_group=8
        ),
        (),
    ),
    "torchvision_densenet": (lambda: models.DenseNet(4, (2, 2), 8, num_classes=CLASSES), ()),
    "torchvision_mobilenet": (torchvision_mobilenet, ()),
    "torchvision_swin": (torchvision_swin, ("relative_position_bias_table",)),
    "torchvision_swin_v2": (
        lambda: torchvision_swin(
            block=models.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=models.swin_transformer.PatchMergingV2,
        ),
        ("logit_scale",),
    ),
    "torchvision_vit": (
        lambda: models.VisionTransformer(SIZE, 8, 2, 2, 16, 32, num_classes=CLASSES),
        ("class_token", "pos_embedding"),
    ),
    "torchvision_convnext": (torchvision_convnext, ("layer_scale",)),
    "timm_resnet": (lambda: by_timm("resnet18", channels=(8, 8, 16, 16)), ()),
    "timm_densenet": (lambda: by_timm("densenet121", growth_rate=4, block_config=(2, 2)), ()),
    "timm_mobilenet": (lambda: by_timm("mobilenetv3_small_050"), ()),
    "timm_swin": (
        lambda: by_timm(
            "swin_tiny_patch4_window7_224",
            img_size=SIZE,
            patch_size=2,
            window_size=4,
            embed_dim=16,
            depths=(2, 2),
            num_heads=(2, 4),
        ),
        ("relative_position_bias_table",),
    ),
    "timm_vit": (
        lambda: by_timm(
            "vit_tiny_patch16_224",
            img_size=SIZE,
            patch_size=8,
            embed_dim=16,
            depth=2,
            num_heads=2,
            init_values=0.1,
        ),
        ("cls_token", "pos_embed", "gamma"),
    ),
    "timm_focalnet": (focalnet, ()),
    "timm_focalnet_post_norm": (
        lambda: focalnet(
            use_post_norm=True,
            use_post_norm_in_modulation=True,
            use_overlap_down=True,
            layerscale_value=1e-4,
        ),
        ("gamma",),
    ),
    "timm_convnext": (
        lambda: by_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
        ("gamma",),
    ),
    "gpt_pre_norm": (lambda: gpt("pre"), ("position_embedding.weight",)),
    "gpt_post_norm": (lambda: gpt("post"), ("position_embedding.weight",)),
}
FULL: dict[str, Callable[[], nn.Module]] = {
    "torchvision_resnet50": lambda: models.resnet50(num_classes=CLASSES),
    "torchvision_densenet121": lambda: models.densenet121(num_classes=CLASSES),
    "torchvision_mobilenet_v3_large": lambda: models.mobilenet_v3_large(num_classes=CLASSES),
    "torchvision_swin_t": lambda: models.swin_t(num_classes=CLASSES),
    "torchvision_swin_v2_t": lambda: models.swin_v2_t(num_classes=CLASSES),
    "torchvision_vit_b": lambda: models.VisionTransformer(
        SIZE, 8, 12, 12, 384, 1536, num_classes=CLASSES
    ),
    "torchvision_convnext_tiny": lambda: models.convnext_tiny(num_classes=CLASSES),
    "timm_swin_tiny": lambda: by_timm(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, patch_size=2
    ),
    "timm_vit_small": lambda: by_timm("vit_small_patch16_224", img_size=64),
    "timm_focalnet_tiny": lambda: by_timm("focalnet_tiny_srf"),
    "timm_convnext_tiny": lambda: by_timm("convnext_tiny"),
    "timm_mobilenet_v3_large": lambda: by_timm("mobilenetv3_large_100"),
}


def train(model: nn.Module, optimizer: AdaFisher, steps: int, size: int = SIZE) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        targets = torch.randint(CLASSES, (4,), generator=generator)
        if isinstance(model, GPT):
            tokens = torch.randint(11, (4, 8), generator=generator)
            loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        else:
            x = torch.randn(4, 3, size, size, generator=generator, dtype=torch.float64)
            loss = F.cross_entropy(model(x), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def check(model: nn.Module, *, size: int = SIZE) -> AdaFisher:
    """Train in float64, where no step is lost to rounding."""
    model = model.double().train()
    optimizer = AdaFisher(model)
    before = {name: param.clone() for name, param in model.named_parameters()}
    train(model, optimizer, 2, size)
    assert {optimizer.state[p]["step"] for p in model.parameters()} == {2}
    stuck = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert stuck == []
    coverage = optimizer.coverage()
    assert coverage.identity_steps == {}
    assert coverage.dropped == {}
    return optimizer


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_stepped_once_and_moves(name: str) -> None:
    build, endings = MODELS[name]
    torch.manual_seed(0)
    model = build()
    coverage = check(model).coverage()
    names = [name for name, _ in model.named_parameters()]
    assert sorted(coverage.curvature + coverage.identity) == sorted(names)
    assert coverage.identity == tuple(n for n in names if n.endswith(endings or ("\0",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_models_of_full_size(name: str) -> None:
    torch.manual_seed(0)
    check(FULL[name](), size=64 if name.startswith("timm") else SIZE)
