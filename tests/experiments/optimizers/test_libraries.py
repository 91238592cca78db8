"""Methods of libraries, as their YAMLs call them, against another implementation or the rule.

The measure is the distance of the two weight vectors over the length of the path, after every step:
30 steps of a small network with LayerNorm, in float64 but where it is said.
"""

import copy
from collections.abc import Callable

import pytest
import pytorch_optimizer
import timm.optim
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim._muon import _zeropower_via_newtonschulz

from experiments.config.compose import composed
from experiments.engine.build import build, build_optimizer
from experiments.errors import UserError
from experiments.sweep import inspection

STEPS = 30
DECAY = 0.1


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    ).to(dtype)


def batch(step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 6, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, inputs[:, :3].argmax(1)


def vector(model: nn.Module) -> Tensor:
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def made(name: str, model: nn.Module, **arguments: object) -> torch.optim.Optimizer:
    return build_optimizer(composed([f"optimizer={name}"]).optimizer.having(**arguments), model)


def largest_distance(
    name: str,
    oracle: Callable[[nn.Module], Callable[[], None]],
    *,
    dtype: torch.dtype = torch.float64,
    look: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    **arguments: object,
) -> float:
    """Train a network by the method and its copy by the oracle, and compare after every step."""
    model = network(dtype)
    other = copy.deepcopy(model)
    optimizer, step_other = made(name, model, **arguments), oracle(other)
    start, path, worst = vector(model), 0.0, 0.0
    for step in range(STEPS):
        inputs, targets = batch(step, dtype)
        for each in (model, other):
            each.zero_grad()
            F.cross_entropy(each(inputs), targets).backward()
        optimizer.step()
        step_other()
        path += (vector(model) - start).norm().item()
        start = vector(model)
        worst = max(worst, (vector(model) - vector(other)).norm().item() / max(path, 1e-30))
    assert path > 0
    look(optimizer)
    return worst


def test_schedule_free_adamw_is_that_of_another_library() -> None:
    made_by: list[torch.optim.Optimizer] = []

    def oracle(model: nn.Module) -> Callable[[], None]:
        made_by.append(
            pytorch_optimizer.ScheduleFreeAdamW(
                model.parameters(), lr=0.01, weight_decay=DECAY, eps=1e-8
            )
        )
        made_by[0].train()
        return lambda: made_by[0].step()

    assert (
        largest_distance("schedulefree_adamw", oracle, lr=0.01, weight_decay=DECAY, foreach=False)
        < 1e-6
    )


def test_schedule_free_sgd_is_that_of_another_library() -> None:
    def oracle(model: nn.Module) -> Callable[[], None]:
        optimizer = pytorch_optimizer.ScheduleFreeSGD(
            model.parameters(), lr=0.1, weight_decay=DECAY
        )
        optimizer.train()
        return lambda: optimizer.step()

    assert largest_distance("schedulefree_sgd", oracle, lr=0.1, weight_decay=DECAY) < 1e-9


def test_lion_is_that_of_another_library() -> None:
    def oracle(model: nn.Module) -> Callable[[], None]:
        optimizer = timm.optim.Lion(model.parameters(), lr=1e-3, weight_decay=DECAY)
        return lambda: optimizer.step()

    assert largest_distance("lion", oracle, lr=1e-3, weight_decay=DECAY) == 0


def test_prodigy_is_that_of_another_library() -> None:
    def oracle(model: nn.Module) -> Callable[[], None]:
        optimizer = pytorch_optimizer.Prodigy(
            model.parameters(), lr=1.0, weight_decay=DECAY, d0=1e-3
        )
        return lambda: optimizer.step()

    assert largest_distance("prodigy", oracle, weight_decay=DECAY, d0=1e-3) < 1e-5


def test_prodigy_refuses_rates_that_differ() -> None:
    """Other libraries step all groups at the rate of the first, without a word."""
    model = network()
    optimizer = made("prodigy", model)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 0.1})
    model(batch(0, torch.float64)[0]).sum().backward()
    with pytest.raises(RuntimeError, match="different lr"):
        optimizer.step()


class AdEMAMix:
    """Pagliardini et al. 2024, arXiv 2409.03137, Algorithm 1 with the warm-ups of its section 3."""

    def __init__(self, model: nn.Module, *, lr: float, total: int) -> None:
        self.model, self.lr, self.total, self.count = model, lr, total, 0
        self.state = [[torch.zeros_like(p) for _ in range(3)] for p in model.parameters()]

    @torch.no_grad()
    def __call__(self) -> None:
        self.count += 1
        beta1, beta2, beta3, alpha, eps = 0.9, 0.999, 0.9999, 5.0, 1e-8
        share = self.count / self.total
        alpha_t = min(share * alpha, alpha)
        # The half-life of the slow average grows linearly from that of beta_1 to that of beta_3.
        half = [
            torch.log(torch.tensor(0.5, dtype=torch.float64)) / torch.log(torch.tensor(b)) - 1
            for b in (torch.tensor(beta1, dtype=torch.float64).item(), beta3)
        ]
        now = float((1 - share) * half[0] + share * half[1])
        beta3_t = min(0.5 ** (1 / (now + 1)), beta3)
        for param, (fast, slow, square) in zip(self.model.parameters(), self.state, strict=True):
            grad = param.grad
            fast.lerp_(grad, 1 - beta1)
            slow.lerp_(grad, 1 - beta3_t)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            corrected = fast / (1 - beta1**self.count)
            root = (square / (1 - beta2**self.count)).sqrt() + eps
            param -= self.lr * ((corrected + alpha_t * slow) / root + DECAY * param)


def test_ademamix_is_its_algorithm() -> None:
    assert (
        largest_distance(
            "ademamix",
            lambda model: AdEMAMix(model, lr=1e-3, total=40),
            lr=1e-3,
            weight_decay=DECAY,
            t_alpha_beta3=40,
        )
        < 1e-4
    )


def test_ademamix_gets_the_steps_of_its_run(make_config) -> None:
    built = build(make_config("optimizer=ademamix", "budget.steps=7"))
    assert built.optimizer.param_groups[0]["t_alpha_beta3"] == 7
    typed = build(make_config("optimizer=ademamix", "budget.steps=7", "optimizer.t_alpha_beta3=5"))
    assert typed.optimizer.param_groups[0]["t_alpha_beta3"] == 5
    config = make_config("optimizer=ademamix", "budget=train_seconds", "budget.train_seconds=1")
    with pytest.raises(UserError, match=r"ademamix must know its number of steps: one of epochs"):
        inspection.inspect(config)


class Adopt:
    """Taniguchi et al. 2024, arXiv 2411.02853, Algorithm 2, clipped at t^0.25 as its section 5."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.model, self.lr, self.count = model, lr, 0
        self.state = [[torch.zeros_like(p) for _ in range(2)] for p in model.parameters()]

    @torch.no_grad()
    def __call__(self) -> None:
        beta1, beta2, eps = 0.9, 0.9999, 1e-6
        for param, (mean, square) in zip(self.model.parameters(), self.state, strict=True):
            grad = param.grad
            if self.count > 0:
                param -= self.lr * DECAY * param
                bound = self.count**0.25
                mean.lerp_((grad / square.sqrt().clamp(min=eps)).clamp(-bound, bound), 1 - beta1)
                param -= self.lr * mean
                square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            else:
                square.addcmul_(grad, grad)
        self.count += 1


def test_adopt_is_its_algorithm() -> None:
    found = largest_distance("adopt", lambda model: Adopt(model, 0.01), lr=0.01, weight_decay=DECAY)
    assert found < 1e-6


class NorMuon:
    """Li et al. 2025, arXiv 2510.05491, Algorithm 1, scaled as its code; AdamW for the rest."""

    def __init__(self, model: nn.Sequential, lr: float) -> None:
        self.lr, self.matrices = lr, [model[0].weight, model[3].weight]
        ids = {id(param) for param in self.matrices}
        rest = [param for param in model.parameters() if id(param) not in ids]
        self.adamw = torch.optim.AdamW(
            rest, lr=0.015 * lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
        )
        self.state = [[torch.zeros_like(p), torch.zeros(len(p), 1)] for p in self.matrices]

    @torch.no_grad()
    def __call__(self) -> None:
        self.adamw.step()
        for param, (momentum, second) in zip(self.matrices, self.state, strict=True):
            momentum.lerp_(param.grad, 0.05)
            mixed = param.grad.lerp(momentum, 0.95)
            update = _zeropower_via_newtonschulz(mixed, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
            norm = update.norm()
            second.lerp_(update.square().mean(1, keepdim=True), 0.05)
            update = update / (second.sqrt() + 1e-10)
            update *= norm / update.norm()
            scale = max(1.0, len(param) / param.shape[1]) ** 0.5
            param.mul_(1 - self.lr * DECAY).add_(update, alpha=-self.lr * scale)


def test_normuon_is_its_algorithm() -> None:
    """In float32, whose Newton-Schulz iteration is in bfloat16."""
    found = largest_distance(
        "normuon",
        lambda model: NorMuon(model, 0.02),
        dtype=torch.float32,
        lr=0.02,
        weight_decay=DECAY,
    )
    assert found < 2e-2
