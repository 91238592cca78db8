"""What the loop gives a method that asks for a graph or a closure, and that it lets go of it."""

import gc
import weakref
from typing import ClassVar

import pytest
import torch
from torch.optim import LBFGS

from experiments import seeding
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.engine.step import backward, differentiable_forward, take_step

LBFGS_SECTION = {
    "_target_": "torch.optim.LBFGS",
    "_partial_": True,
    "lr": 0.1,
    "max_iter": 3,
    "suite": {"name": "lbfgs", "family": "lbfgs", "needs": {"closure": True}},
}


class Mark:
    """Something that a weak reference can point to."""


class Probe(torch.autograd.Function):
    """The identity, whose node in the graph holds a mark as long as the graph lives."""

    marks: ClassVar[list[weakref.ref]] = []

    @staticmethod
    def forward(ctx, x):
        ctx.mark = Mark()
        Probe.marks.append(weakref.ref(ctx.mark))
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.0


@pytest.fixture
def no_collector():
    """A cycle that only the collector frees counts as a leak."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("optimizer", ["adam", "adahessian", "muon", "kfac"])
def test_the_graph_is_gone_after_every_step(make_config, no_collector, optimizer):
    built = build(make_config(f"optimizer={optimizer}"))
    built.model.classifier.register_forward_hook(lambda module, args, out: Probe.apply(out))
    Probe.marks.clear()
    alive = []

    def look(trainer, loss):
        alive.append([mark() is not None for mark in Probe.marks])
        assert all(p.grad is None for p in built.model.parameters())

    for _ in Trainer(built, seed=0, on_step=look).run():
        Probe.marks.clear()
    assert len(alive) == 4
    assert not any(flag for flags in alive for flag in flags)
    assert any(len(flags) for flags in alive)


def test_a_graph_that_is_kept_would_be_seen(no_collector):
    Probe.marks.clear()
    weight = torch.nn.Parameter(torch.ones(3))
    backward(Probe.apply(weight).square().sum(), create_graph=True)
    assert Probe.marks[0]() is not None  # parameter and gradient hold each other
    weight.grad = None
    assert Probe.marks[0]() is None


def test_a_graph_is_made_only_where_it_is_asked_for():
    weight = torch.nn.Parameter(torch.ones(3))
    for create_graph in (False, True):
        backward(weight.pow(3).sum(), create_graph=create_graph)
        assert weight.grad.requires_grad is create_graph
        weight.grad = None


def test_attention_is_the_plain_one_within_the_context_only():
    query = torch.randn(1, 1, 4, 8, requires_grad=True)

    def second_derivative(create_graph):
        with differentiable_forward(create_graph):
            out = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        (grad,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
        return torch.autograd.grad(grad.sum(), query)[0]

    assert second_derivative(True).isfinite().all()
    with pytest.raises(RuntimeError, match="not implemented"):
        second_derivative(False)


def test_a_closure_is_given_to_the_method_that_evaluates_the_loss_itself(make_config):
    """The loop's steps equal LBFGS's own on the same batches."""
    config = make_config()
    config = config.having(optimizer=LBFGS_SECTION)
    built = build(config)
    assert built.takes_closure
    twin = build(config)
    optimizer = LBFGS(twin.model.parameters(), lr=0.1, max_iter=3)
    losses = []
    for _ in Trainer(built, seed=0, on_step=lambda trainer, loss: losses.append(loss)).run():
        pass
    batches = twin.task.train.batches(twin.batch_size, seed=seeding.derive(0, "data", 0), start=0)
    for step, (inputs, targets) in zip(range(4), batches, strict=False):
        optimizer.param_groups[0]["lr"] = 0.1 * twin.schedule(step)
        calls = []

        def closure(inputs=inputs, targets=targets, calls=calls):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(twin.model(inputs), targets)
            loss.backward()
            calls.append(loss.item())
            return loss

        optimizer.step(closure)
        assert len(calls) > 1  # more often than once
        assert losses[step] == calls[0]
    for ours, theirs in zip(built.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("returned", [None, 3.0])
def test_a_step_that_gives_no_tensor_has_the_loss_that_it_evaluated_first(returned):
    weight = torch.nn.Parameter(torch.tensor(2.0))

    class Closing(torch.optim.SGD):
        def step(self, closure):
            for _ in range(2):
                with torch.enable_grad():
                    closure()
                super().step()
            return returned

    def compute_loss():
        loss = weight.square()
        loss.backward()
        return loss

    optimizer = Closing([weight], lr=0.25)
    loss = take_step(optimizer, compute_loss, takes_closure=True)
    assert (loss.item(), weight.item(), loss.requires_grad) == (4.0, 0.5, False)
    optimizer.step = lambda closure: returned
    with pytest.raises(ValueError, match=r"Invalid step: .*\. Must return the loss of its closure"):
        take_step(optimizer, compute_loss, takes_closure=True)


def test_kept_gradients_are_added_to_as_the_method_left_them():
    """With loss a.w the gradient is a: sums of it, of which clipping to norm 1 leaves a part."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    a = torch.tensor([3.0, 4.0], dtype=torch.float64)

    def compute_loss():
        loss = (a * weight).sum()
        loss.backward()
        return loss

    def clipped(optimizer):
        torch.nn.utils.clip_grad_norm_([weight], 6.0, error_if_nonfinite=True)
        optimizer.step()

    for norm in (5.0, 6.0, 6.0):  # 5, then 10 and 11 clipped to 6
        before = weight.detach().clone()
        take_step(optimizer, compute_loss, takes_closure=False, step=clipped, keeps_gradients=True)
        torch.testing.assert_close(weight.grad, norm * a / 5, rtol=1e-6, atol=0)
        torch.testing.assert_close(before - weight.detach(), norm * a / 5, rtol=1e-6, atol=0)


def test_a_run_that_keeps_gradients_follows_its_recursion(make_config):
    """The loop's steps of Shampoo equal those of a loop that never clears, on the same batches."""
    overrides = ["optimizer=shampoo", "optimizer.max_norm=0.5", "schedule=constant"]
    built = build(make_config(*overrides, "optimizer.suite.needs.keep_gradients=true"))
    twin = build(make_config(*overrides))
    losses = []
    for _ in Trainer(built, seed=0, on_step=lambda trainer, loss: losses.append(loss)).run():
        pass
    batches = twin.task.train.batches(twin.batch_size, seed=seeding.derive(0, "data", 0), start=0)
    for step, (inputs, targets) in zip(range(4), batches, strict=False):
        loss = torch.nn.functional.cross_entropy(twin.model(inputs), targets)
        loss.backward()
        twin.optimizer.step()
        assert losses[step] == loss.item()
    for ours, theirs in zip(built.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours.grad, theirs.grad)


def test_a_step_returns_a_loss_without_a_graph():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def compute_loss():
        loss = weight.square().sum()
        loss.backward()
        return loss

    for takes_closure in (False, True):
        loss = take_step(optimizer, compute_loss, takes_closure=takes_closure)
        assert not loss.requires_grad
        assert weight.grad is None
    assert loss == pytest.approx(3 * 0.8**2)
