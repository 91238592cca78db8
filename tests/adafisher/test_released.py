"""The released rule, a step at a time from an equal state, against its recursion written out.

The recursion is the released code's column of the facts on arXiv 2405.16397 (commit eb858c6):
Min-Max with 1e-6, 0.08 old + 0.008 new from ones, sums before squares in norm layers, and ``H`` of
a convolution divided by its patch length too. A free run at this rate is chaotic and would prove
nothing, so every step starts from the state of the optimizer under test. Grouped convolutions are
excepted: the released code averages their ``H`` over the groups.
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

from adafisher import AdaFisher

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
DECAYS = {"adafisher_released": (0.3, 0.0), "adafisherw_released": (0.0, 0.3)}  # coupled, decoupled
CONSTANT = 0.08  # one entry: 0.08 * 1 + 0.008 * 0
Factors = tuple[Tensor, Tensor]


class TokenPool(nn.Module):
    """CCT in small: a convolutional stem, a layer norm, attention with one output as pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=3)
        self.norm = nn.LayerNorm(6)
        self.pool = nn.Linear(6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.stem(x).flatten(2).mT)
        return self.head((self.pool(tokens).softmax(1).mT @ tokens).squeeze(1))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, (3, 2), stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 1, 1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def layer_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(72, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 1)
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "conv": conv_net,
    "token_pool": TokenPool,
    "layer_norm": layer_norm_net,
}


def build(name: str, model: nn.Module, **changes: Any) -> AdaFisher:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    kept = {key: value for key, value in config.items() if key != "suite"}
    optimizer: AdaFisher = instantiate(kept | changes)(model)
    return optimizer


def estimate(layer: Any, x: Tensor, s: Tensor) -> Factors:
    """``H`` and ``S`` of one call of a layer, from its input and its output gradient."""
    batch = len(x)
    if isinstance(layer, nn.Conv2d):
        patches = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
        rows = patches.mT.flatten(0, 1)  # [batch * positions, in * k * k]
        length = rows.shape[1]
        if layer.bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        positions = s.shape[2] * s.shape[3]
        h = rows.square().sum(0) / (batch * positions * length)
        return h, s.square().sum((0, 2, 3)) / (batch * positions)
    if isinstance(layer, nn.Linear):
        rows, grads = x.flatten(0, -2), s.flatten(0, -2)
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        return rows.square().sum(0) / len(rows), grads.square().sum(0) / len(grads)
    others = [axis for axis in range(x.ndim) if axis != 1]  # also of a layer norm, as released
    a = x.sum(others) / x[0, 0].numel() ** 2
    h = torch.stack([a.square().sum(), a.new_tensor(float(len(a)))]) / batch**2
    features = 1 if isinstance(layer, nn.BatchNorm2d) else s.ndim - 1
    sums = s.sum([axis for axis in range(s.ndim) if axis != features])
    return h, sums.square() / batch


def scaled(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min() + 1e-6)


def denominators(layer: Any, factors: Factors) -> dict[str, Tensor]:
    """``F`` of a layer's weight and bias, damped by 1e-3."""
    h, s = factors
    if isinstance(layer, nn.Conv2d | nn.Linear):
        width = layer.weight[0].numel()
        weight = torch.outer(s, h[:width]).view_as(layer.weight)
        bias = s * h[-1]
    else:
        weight, bias = s * h[0], s * h[1]
    return {"weight": weight + 1e-3, "bias": bias + 1e-3}


def traced_gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Any]:
    """Gradients of the parameters, and input and output gradient of every layer."""
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, args, output, name=name: calls.update({name: (args[0], output)})
        )
        for name, module in model.named_modules()
        if hasattr(module, "weight")
    ]
    loss = loss_of(model, x, y)
    for hook in hooks:
        hook.remove()
    named = dict(model.named_parameters())
    outputs = [output for _, output in calls.values()]
    grads = torch.autograd.grad(loss, [*named.values(), *outputs])
    of_outputs = grads[len(named) :]
    seen = {name: (calls[name][0].detach(), s) for name, s in zip(calls, of_outputs, strict=True)}
    return dict(zip(named, grads, strict=False)), seen


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    # Small: steps reach lr / damping = 1 times the gradient.
    return 0.05 * F.mse_loss(model(x), y)


def batch(step: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 2, 6, 6, generator=generator, dtype=torch.float64)
    return x, torch.randn(4, outputs, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("interval", [3, 100])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", DECAYS)
def test_every_step_is_that_of_the_recursion(name: str, net: str, interval: int) -> None:
    torch.manual_seed(0)
    model, twin = (NETS[net]().double() for _ in range(2))
    coupled, decoupled = DECAYS[name]
    optimizer = build(name, model, update_interval=interval, weight_decay=coupled + decoupled)
    outputs = next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))
    for step in range(8 if interval == 3 else 102):
        twin.load_state_dict(model.state_dict())
        kept = optimizer.state_dict()["curvature"]["layers"]
        momenta = {
            key: optimizer.state[p]["exp_avg"].clone() if step else torch.zeros_like(p)
            for key, p in model.named_parameters()
        }
        x, y = batch(step, outputs.out_features)
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()

        grads, calls = traced_gradients(twin, x, y)
        for layer_name, call in calls.items():
            layer = twin.get_submodule(layer_name)
            new = [scaled(each) for each in estimate(layer, *call)]
            old = [
                kept[layer_name][key].flatten() if step else torch.ones_like(each)
                for key, each in zip(("activation_diag", "grad_diag"), new, strict=True)
            ]
            if step % interval == 0:
                old = [0.08 * a + 0.008 * b for a, b in zip(old, new, strict=True)]
            fishers = denominators(layer, (old[0], old[1]))
            for role, theta in layer.named_parameters():
                key = f"{layer_name}.{role}"
                momentum = 0.9 * momenta[key] + 0.1 * (grads[key] + coupled * theta)
                corrected = momentum / (1 - 0.9 ** (step + 1))
                expected = theta - 1e-3 * (corrected / fishers[role] + decoupled * theta)
                torch.testing.assert_close(
                    model.get_parameter(key), expected, rtol=1e-12, atol=1e-12, msg=key
                )


def test_a_layer_with_one_output_has_no_curvature_of_its_gradients() -> None:
    model = layer_norm_net().double()
    optimizer = build("adafisher_released", model)
    loss_of(model, *batch(0, 1)).backward()
    optimizer.step()
    kept = optimizer.state_dict()["curvature"]["layers"]["4"]
    torch.testing.assert_close(
        kept["grad_diag"], torch.tensor([CONSTANT], dtype=torch.float64), rtol=1e-14, atol=0
    )
