"""Every preset in ``conf/optimizer`` against its own recursion, written out with its numbers.

The model is a layer norm and a linear layer; rows and gradients are taken from the functional form,
so that nothing here passes through hooks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from adafisher import AdaFisher, AdaFisherW

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
LR, BETA, DAMPING = 0.001, 0.9, 0.001
BATCH, TOKENS, WIDTH = 3, 2, 4
SCALE = 0.05  # of the loss; steps reach lr / damping = 1 times the gradient, so keep that small


def load(name: str) -> Any:
    return OmegaConf.load(CONF / f"{name}.yaml")


def build(name: str, model: nn.Module) -> AdaFisher:
    config = load(name)
    del config["suite"]
    optimizer: AdaFisher = instantiate(config)(model)
    return optimizer


def scaled(x: Tensor, eps: float = 0.0) -> Tensor:
    return (x - x.min()) / (x.max() - x.min() + eps)


def squares(x: Tensor) -> Tensor:
    """Mean over rows of the squares, ``[d]``."""
    return x.reshape(-1, x.shape[-1]).square().mean(0)


def augmented(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


class Seed:
    """Running averages 0.92 old + 0.992 new from zeros, every step, Min-Max on use."""

    old, new, every = 0.92, 0.992, 1

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}

    def track(self, name: str, estimate: Tensor) -> None:
        before = self.average.get(name, torch.zeros_like(estimate))
        self.average[name] = self.old * before + self.new * estimate

    def refresh(self, x: Tensor, s_norm: Tensor, hidden: Tensor, s_linear: Tensor) -> None:
        self.track("norm_h", squares(x))
        self.track("norm_s", squares(s_norm))
        self.track("linear_h", squares(augmented(hidden)))
        self.track("linear_s", squares(s_linear))

    def fishers(self) -> list[Tensor]:
        """Denominators of scale, shift, weight, bias."""
        norm_h, norm_s, linear_h, linear_s = (scaled(x) for x in self.average.values())
        linear = torch.outer(linear_s, linear_h)
        return [
            fisher + DAMPING for fisher in (norm_h * norm_s, norm_s, linear[:, :-1], linear[:, -1])
        ]


class CameraReady(Seed):
    """Equation (3) with one gamma: 0.8 old + 0.2 new."""

    old, new = 0.8, 0.2


class Released(Seed):
    """0.08 old + 0.008 Min-Maxed new from ones, every 100 steps, used as it is."""

    every = 100

    def track(self, name: str, estimate: Tensor) -> None:
        before = self.average.get(name, torch.ones_like(estimate))
        self.average[name] = 0.08 * before + 0.008 * scaled(estimate, 1e-6)

    def refresh(self, x: Tensor, s_norm: Tensor, hidden: Tensor, s_linear: Tensor) -> None:
        a = x.sum((0, 2)) / WIDTH**2  # the released code keeps axis 1, the tokens
        self.track("norm_h", torch.stack([a.square().sum(), a.new_tensor(TOKENS)]) / BATCH**2)
        self.track("norm_s", s_norm.sum((0, 1)).square() / BATCH)
        self.track("linear_h", squares(augmented(hidden)))
        self.track("linear_s", squares(s_linear))

    def fishers(self) -> list[Tensor]:
        norm_h, norm_s, linear_h, linear_s = self.average.values()
        linear = torch.outer(linear_s, linear_h)
        both = (norm_h[0] * norm_s, norm_h[1] * norm_s, linear[:, :-1], linear[:, -1])
        return [fisher + DAMPING for fisher in both]


PRESETS: dict[str, tuple[Callable[[], Seed], float, float]] = {
    # name: recursion, coupled decay, decoupled decay
    "adafisher": (Seed, 0.0, 0.0),
    "adafisherw": (Seed, 0.0, 1e-2),
    "adafisher_v3": (CameraReady, 5e-4, 0.0),
    "adafisherw_v3": (CameraReady, 0.0, 1e-2),
    "adafisher_released": (Released, 5e-4, 0.0),
    "adafisherw_released": (Released, 0.0, 1e-2),
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_follows_its_recursion(name: str) -> None:
    recursion, coupled, decoupled = PRESETS[name]
    rule = recursion()
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)).double()
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64)
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    momentum = [torch.zeros_like(p) for p in theta]
    optimizer = build(name, model)
    for step in range(rule.every + 9):
        x = torch.randn(BATCH, TOKENS, WIDTH, generator=generator, dtype=torch.float64)
        target = torch.randn(BATCH, TOKENS, 3, generator=generator, dtype=torch.float64)
        (SCALE * F.mse_loss(model(x), target)).backward()
        optimizer.step()
        optimizer.zero_grad()

        hidden = F.layer_norm(x, (WIDTH,), theta[0], theta[1])
        output = F.linear(hidden, theta[2], theta[3])
        loss = SCALE * F.mse_loss(output, target)
        *grads, s_norm, s_linear = torch.autograd.grad(loss, [*theta, hidden, output])
        with torch.no_grad():
            if step % rule.every == 0:
                rule.refresh(x, s_norm, hidden, s_linear)
            for i, fisher in enumerate(rule.fishers()):
                momentum[i] = BETA * momentum[i] + (1 - BETA) * (grads[i] + coupled * theta[i])
                corrected = momentum[i] / (1 - BETA ** (step + 1))
                theta[i] -= LR * (corrected / fisher + decoupled * theta[i])
        for ours, theirs in zip(model.parameters(), theta, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_released_curvature_is_as_measured() -> None:
    """F of the released rule: [0.0074, 0.00873], then [0.00104, 0.00122], then about 0.001."""
    rule = Released()
    bounds = [(0.00739, 0.00875), (0.00104, 0.00123), (0.00099, 0.00109)]
    for low, high in bounds:
        for name in ("norm_h", "norm_s", "linear_h", "linear_s"):
            rule.track(name, torch.rand(5, dtype=torch.float64))
        fishers = torch.cat([fisher.flatten() for fisher in rule.fishers()])
        assert low < fishers.min()
        assert fishers.max() < high


@pytest.mark.parametrize("path", sorted(CONF.glob("adafisher*.yaml")), ids=lambda path: path.stem)
def test_preset_file_is_complete(path: Path) -> None:
    config = load(path.stem)
    assert path.stem in PRESETS
    assert path.read_text("utf-8").startswith("# Source: ")
    assert config.suite.name == path.stem
    assert config._target_ == f"adafisher.{'AdaFisherW' if 'rw' in path.stem else 'AdaFisher'}"
    lr = config.suite.search.lr
    assert lr.high / lr.low == pytest.approx(1000)
    assert (lr.high * lr.low) ** 0.5 == pytest.approx(config.lr, rel=0.06)
    released = {"adafisher_released": "adafisher", "adafisherw_released": "adafisherw"}
    assert config.suite.published_as == released.get(path.stem)
    values = path.read_text("utf-8").partition("_partial_: true\n")[2].partition("suite:")[0]
    assert len(values.splitlines()) >= 15
    for line in values.splitlines():
        assert "  # " in line, f"no source: {line}"
    optimizer = build(path.stem, nn.Linear(2, 2))
    assert isinstance(optimizer, AdaFisherW) is ("rw" in path.stem)
    given = set(config) - {"_target_", "_partial_", "suite"}
    # What never changes the result, and what belongs to the training loop.
    others = {"foreach", "fused", "loss_scale", "process_group", "differentiable"}
    taken = set(AdaFisher.__init__.__annotations__) - {"model", "params", "return"} - others
    assert given == taken
