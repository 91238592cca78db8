from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from experiments.config import commandline
from experiments.engine.evaluated import set_training
from experiments.engine.step import backward, differentiable_forward

CONF = Path(__file__).parents[3] / "conf"
BASELINES = [name for name in commandline.choices("optimizer") if "adafisher" not in name]
PAPER = sorted((CONF / "paper").glob("*/*.yaml"))
SUITE_KEYS = {"_target_", "_partial_", "_convert_", "suite", "decay_norms_and_biases"}
# How torch computes a step, not which step: no hyperparameters.
EXECUTION = {"foreach", "fused", "capturable", "differentiable", "maximize"}
EXECUTION |= {"decoupled_weight_decay"}  # Adam's switch to AdamW, which is a method of its own


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def optimizer_config(name: str) -> dict[str, Any]:
    return read(CONF / "optimizer" / f"{name}.yaml")


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


class TinyGPT(nn.Module):
    """One causal block with a tied head."""

    def __init__(self, vocabulary: int = 11, width: int = 16, context: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(context, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        query, key, value = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.projection(F.scaled_dot_product_attention(query, key, value, is_causal=True))
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x))


def image_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The brightest quadrant of a noisy image."""
    labels = torch.randint(4, (32,), generator=generator)
    images = torch.randn(32, 1, 8, 8, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 1
    return images, labels


def token_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Counting modulo 11 from random starts."""
    start = torch.randint(11, (16, 1), generator=generator)
    sequence = (start + 3 * torch.arange(9)) % 11
    return sequence[:, :-1], sequence[:, 1:]


FASTER = {
    "lion": {"lr": 1e-3}
}  # a step is of the size of the rate, and its default is for long runs
TASKS = {"conv": (conv_net, image_batch), "gpt": (TinyGPT, token_batch)}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", BASELINES)
def test_loss_falls_with_the_defaults(name, task):
    torch.manual_seed(0)
    make, draw = TASKS[task]
    model, generator = make(), torch.Generator().manual_seed(0)
    config = optimizer_config(name)
    own = {key: value for key, value in config.items() if key not in SUITE_KEYS}
    own |= {key: config[key] for key in ("_target_", "_partial_", "_convert_") if key in config}
    own |= FASTER.get(name, {})
    needs = config["suite"]["needs"]
    optimizer = instantiate(own)(model if needs["model"] else model.parameters())
    set_training(optimizer, True)
    losses = []
    for _ in range(120):
        inputs, labels = draw(generator)
        with differentiable_forward(needs["create_graph"]):
            logits = model(inputs).flatten(0, -2)
        if needs["logits"]:
            optimizer.observe(logits)
        loss = F.cross_entropy(logits, labels.flatten())
        backward(loss, create_graph=needs["create_graph"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.8 * losses[0]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_paper_values_are_hyperparameters_of_their_optimizer(path):
    text = path.read_text()
    assert text.startswith("# @package _global_\n# ")
    values = read(path)
    assert set(values) == {"ruleset", "optimizer"}
    assert values["ruleset"] == "paper"
    values["optimizer"].pop("suite", None)
    assert set(values["optimizer"]) <= set(optimizer_config(path.stem)) - SUITE_KEYS
    for line in text[text.index("optimizer:\n") :].splitlines()[1:]:
        assert "  # " in line, f"no source: {line}"


def test_every_folder_of_published_values_is_a_family() -> None:
    families = {path.stem for path in (CONF / "family").glob("*.yaml")} - {"none"}
    assert {path.parent.name for path in PAPER} == families


# The ones on CIFAR and on text; on ImageNet the literature has its own.
@pytest.mark.parametrize(
    ("family", "method", "decoupled"),
    [("cnn", "adafisher", False), ("vit", "adafisherw", True), ("lm", "adafisherw", True)],
)
def test_sgd_is_the_control_that_the_released_rule_comes_down_to(
    family: str, method: str, decoupled: bool
) -> None:
    """At F = damping a step of AdaFisher is lr / damping times the mean of the gradients."""
    released = read(CONF / "paper" / family / f"{method}_released.yaml")["optimizer"]
    sgd = read(CONF / "paper" / family / "sgd.yaml")["optimizer"]
    rate = released["lr"] / released["damping"]
    assert sgd["momentum"] == released["beta"]
    assert sgd["lr"] == pytest.approx(rate * (1 - sgd["momentum"]), rel=2e-3)
    shrinkage = (released["lr"] if decoupled else rate) * released["weight_decay"]
    ours = sgd["lr"] / (1 - sgd["momentum"]) * sgd["weight_decay"]
    assert ours == pytest.approx(shrinkage, rel=2e-3)


# spec: hyperparameters of the runs, arXiv 2405.16397v3 and the released configurations.
@pytest.mark.parametrize(
    ("family", "name", "lr", "weight_decay"),
    [
        ("cnn", "adam", 1e-3, 5e-4),
        ("cnn", "adahessian", 0.15, 5e-4),
        ("cnn", "adafisher_v3", 1e-3, 5e-4),
        ("cnn", "sgd", 0.1, 5e-4),
        ("cnn", "kfac", 0.3, 5e-4),
        ("cnn", "shampoo", 0.3, 5e-4),
        ("cnn", "adafisher_released", 1e-3, 5e-4),
        ("vit", "adamw", 1e-4, 1e-2),
        ("vit", "adahessian", 0.01, 1e-2),
        ("vit", "adafisherw_v3", 1e-3, 1e-2),
        ("vit", "kfac", 0.003, 0.06),
        ("vit", "shampoo", 0.003, 1e-2),
        ("vit", "adafisherw_released", 1e-3, 1e-2),
        ("lm", "adamw", 1e-5, 0.1),
        ("lm", "shampoo", 0.003, 0.1),
        ("lm", "adahessian", 0.15, 0.1),
        ("lm", "adafisherw_released", 1e-4, 0.1),
        ("imagenet", "adam", 1e-3, 1e-4),
        ("imagenet", "adafisher_released", 1e-3, 1e-4),
        ("imagenet", "kfac", 0.01, 1e-4),
        ("imagenet", "shampoo", 0.3, 1e-4),
    ],
)
def test_published_rates_and_decays(family, name, lr, weight_decay):
    values = read(CONF / "paper" / family / f"{name}.yaml")["optimizer"]
    assert (values["lr"], values["weight_decay"]) == (lr, weight_decay)
