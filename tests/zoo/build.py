"""Models and batches of the zoo; its libraries are imported only here, and only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.architectures import CLASSES, FEATURES, VOCABULARY, Architecture

_SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def build(architecture: Architecture) -> nn.Module:
    """The model in float64, in training, without dropout."""
    torch.manual_seed(0)
    model: nn.Module = _BUILDERS[architecture.library](architecture)
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
    return model.double().train()


def loss(architecture: Architecture, model: nn.Module, step: int) -> Tensor:
    """Loss of the model on a batch, which is the same whenever ``step`` is."""
    generator = torch.Generator().manual_seed(step)
    torch.manual_seed(step)
    is_classifier = "num_labels" in architecture.options
    return _LOSSES[architecture.inputs](architecture, model, generator, is_classifier)


def _transformers(architecture: Architecture) -> nn.Module:
    library: Any = importlib.import_module("transformers")
    configuration, model = architecture.build.split()
    tokens = {"vocab_size": VOCABULARY} | dict.fromkeys(_SPECIAL_TOKENS, 0)
    config = getattr(library, configuration)(**tokens, **architecture.options)
    for name in vars(config):
        if "dropout" in name or name == "layerdrop":
            setattr(config, name, 0.0)
    config._experts_implementation = "eager"  # the grouped product takes no float64
    built: nn.Module = getattr(library, model)(config)
    return built


def _timm(architecture: Architecture) -> nn.Module:
    if "." in architecture.build:
        return _within("timm", architecture.build, architecture)
    library: Any = importlib.import_module("timm")
    model: nn.Module = library.create_model(
        architecture.build, num_classes=CLASSES, **architecture.options
    )
    return model


def _torchvision(architecture: Architecture) -> nn.Module:
    return _within("torchvision", f"models.{architecture.build}", architecture)


def _within(package: str, dotted: str, architecture: Architecture) -> nn.Module:
    *path, name = dotted.split(".")
    module = importlib.import_module(".".join([package, *path]))
    model: nn.Module = getattr(module, name)(num_classes=CLASSES, **architecture.options)
    return model


def _geometric(architecture: Architecture) -> nn.Module:
    library: Any = importlib.import_module("torch_geometric.nn.models")
    model: nn.Module = getattr(library, architecture.build)(**architecture.options)
    return model


_BUILDERS: dict[str, Callable[[Architecture], nn.Module]] = {
    "transformers": _transformers,
    "timm": _timm,
    "torchvision": _torchvision,
    "torch_geometric": _geometric,
}


def _tokens(generator: torch.Generator, length: int = 8) -> Tensor:
    return torch.randint(1, VOCABULARY, (4, length), generator=generator)


def _classes(generator: torch.Generator) -> Tensor:
    return torch.randint(CLASSES, (4,), generator=generator)


def _of_tokens(_: Architecture, model: Any, generator: torch.Generator, classes: bool) -> Tensor:
    tokens = _tokens(generator)
    labels = _classes(generator) if classes else tokens
    found: Tensor = model(input_ids=tokens, labels=labels).loss
    return found


def _of_pairs(_: Architecture, model: Any, generator: torch.Generator, _classes: bool) -> Tensor:
    found: Tensor = model(input_ids=_tokens(generator), labels=_tokens(generator, 6)).loss
    return found


def _of_audio(_: Architecture, model: Any, generator: torch.Generator, classes: bool) -> Tensor:
    if classes:
        wave = torch.randn(4, 400, generator=generator, dtype=torch.float64)
        found: Tensor = model(input_values=wave, labels=_classes(generator)).loss
    else:
        mels = torch.randn(4, 8, 40, generator=generator, dtype=torch.float64)
        found = model(input_features=mels, labels=_tokens(generator, 6)).loss
    return found


def _of_images(
    architecture: Architecture, model: Any, generator: torch.Generator, _classes_: bool
) -> Tensor:
    size = architecture.size
    x = torch.randn(4, 3, size, size, generator=generator, dtype=torch.float64)
    return F.cross_entropy(model(x), _classes(generator))


def _of_video(_: Architecture, model: Any, generator: torch.Generator, _classes_: bool) -> Tensor:
    x = torch.randn(4, 3, 4, 32, 32, generator=generator, dtype=torch.float64)
    return F.cross_entropy(model(x), _classes(generator))


def _of_graph(_: Architecture, model: Any, generator: torch.Generator, _classes_: bool) -> Tensor:
    x = torch.randn(12, FEATURES, generator=generator, dtype=torch.float64)
    edges = torch.randint(12, (2, 40), generator=generator)
    targets = torch.randint(CLASSES, (12,), generator=generator)
    return F.cross_entropy(model(x, edges), targets)


_LOSSES: dict[str, Callable[[Architecture, Any, torch.Generator, bool], Tensor]] = {
    "tokens": _of_tokens,
    "pairs": _of_pairs,
    "audio": _of_audio,
    "images": _of_images,
    "video": _of_video,
    "graph": _of_graph,
}
