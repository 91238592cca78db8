"""What every method of conf/optimizer/ must do, whatever it is."""

import copy
import io
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from experiments.config import commandline
from experiments.config.compose import composed
from experiments.engine.build import build_optimizer
from experiments.engine.step import backward, differentiable_forward, take_step

OPTIMIZERS = commandline.choices("optimizer")
FASTER = {
    "lion": {"lr": 1e-3}
}  # a step is of the size of the rate, and its default is for long runs
pytestmark = pytest.mark.filterwarnings("ignore:AdaFisher.*in no supported layer")


class Mixed(nn.Module):
    """A convolution, a norm, a linear layer and a free parameter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        return self.head((F.relu(self.norm(self.conv(x))) * self.scale).flatten(1))


class Words(nn.Module):
    """An embedding, a layer norm, and a head tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.hidden = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.norm(torch.tanh(self.hidden(self.embedding(x)))))


def problem(kind, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(1)
    if kind == "mixed":
        inputs = torch.randn(32, 1, 4, 4, generator=generator, dtype=dtype)
        targets = inputs.flatten(1)[:, :3].argmax(1)
        return Mixed().to(dtype), inputs, targets
    inputs = torch.randint(0, 7, (8, 5), generator=generator)
    return Words().to(dtype), inputs, (inputs * 2 + 1) % 7


@cache
def method_of(name):
    """The section, which nothing changes: to compose takes longer than these problems."""
    return composed([f"optimizer={name}"]).optimizer


def optimizer_for(name, model, **values):
    method = method_of(name).having(**values)
    return build_optimizer(method, model), method.needs


def train(model, optimizer, needs, inputs, targets, steps):
    def compute_loss():
        with differentiable_forward(needs.create_graph):
            logits = model(inputs).flatten(0, -2)
        loss = F.cross_entropy(logits, targets.flatten())
        if needs.logits:
            optimizer.observe(logits)
        backward(loss, create_graph=needs.create_graph)
        return loss

    closure = needs.closure
    return [take_step(optimizer, compute_loss, takes_closure=closure).item() for _ in range(steps)]


@pytest.fixture(params=["mixed", "words"])
def kind(request):
    return request.param


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls(name, kind):
    model, inputs, targets = problem(kind)
    optimizer, needs = optimizer_for(name, model, **FASTER.get(name, {}))
    losses = train(model, optimizer, needs, inputs, targets, 40)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_run_equals_the_unbroken_one(name, kind):
    """At every step up to beyond a refresh, through a file that `weights_only` loads."""
    model, inputs, targets = problem(kind)
    optimizer, needs = optimizer_for(name, model)
    for _ in range(12):
        buffer = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
        buffer.seek(0)
        saved = torch.load(buffer, weights_only=True)
        twin, _, _ = problem(kind)
        twin.load_state_dict(saved["model"])
        restored, _ = optimizer_for(name, twin)
        restored.load_state_dict(saved["optimizer"])
        train(twin, restored, needs, inputs, targets, 2)
        train(model, optimizer, needs, inputs, targets, 1)
        # One step on, one more step of the original alone gives what the twin has after two.
        ahead = copy.deepcopy(model.state_dict())
        state = copy.deepcopy(optimizer.state_dict())
        train(model, optimizer, needs, inputs, targets, 1)
        for key, value in model.state_dict().items():
            assert torch.equal(value, twin.state_dict()[key]), key
        model.load_state_dict(ahead)
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dtype_and_repeatability(name, kind):
    ends = []
    for _ in range(2):
        model, inputs, targets = problem(kind, torch.float64)
        optimizer, needs = optimizer_for(name, model)
        train(model, optimizer, needs, inputs, targets, 3)
        assert {p.dtype for p in model.parameters()} == {torch.float64}
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_moves_and_a_frozen_one_does_not(name, kind):
    model, inputs, targets = problem(kind)
    frozen = "conv.weight" if kind == "mixed" else "hidden.bias"
    model.get_parameter(frozen).requires_grad_(False)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer, needs = optimizer_for(name, model)
    train(model, optimizer, needs, inputs, targets, 3)
    stayed = {key for key, p in model.named_parameters() if torch.equal(p, before[key])}
    # Before a batch norm the bias of a convolution has no gradient but rounding.
    assert stayed - {"conv.bias"} == {frozen}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_zero_learning_rate_moves_nothing(name, kind):
    model, inputs, targets = problem(kind)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer, needs = optimizer_for(name, model, lr=0.0)
    train(model, optimizer, needs, inputs, targets, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_groups_take_a_schedule(name, kind):
    """The loop sets the rate of every group before each step; half the rate is half the step.

    The step before is at a rate of zero: a method may spend its first one on its basis.
    """
    moves = []
    for factor in (1.0, 0.5):
        model, inputs, targets = problem(kind, torch.float64)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer, needs = optimizer_for(name, model)
        rates = [group["lr"] for group in optimizer.param_groups]
        for scale in (0.0, factor):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * scale
            train(model, optimizer, needs, inputs, targets, 1)
        moves.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    assert any(full.count_nonzero() for full in moves[0])
    for full, half in zip(*moves, strict=True):
        # Decay after the step multiplies the step as well: a term of rate times decay.
        torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=1e-12)
