"""What the hooks count, what they keep, and when they are gone."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adafisher import AdaFisher
from tests.support.cases import BY_ID, Case, loss_of
from tests.support.side_by_side import SideBySide

CNN = BY_ID["cnn_inplace"]
MLP = BY_ID["mlp_inplace_relu"]
TIED = BY_ID["tied_linear"]


def test_passes_without_a_gradient_between_steps_do_not_count() -> None:
    side = SideBySide(CNN)
    side.train(range(3))
    for index in (50, 51):
        x = CNN.batch(index) * 100
        with torch.no_grad():
            side.model.eval()(x)
        side.model(x)  # grad enabled, but no backward ever comes
        with torch.inference_mode():
            side.model(x)
    side.both(lambda model: model.train())
    side.train(range(3, 8))


def test_forward_without_backward_between_forward_and_backward_does_not_count() -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    for model in side.models():
        loss = loss_of(model(MLP.batch(2)), 2)
        if model is side.model:
            model(MLP.batch(60) * 100)
        loss.backward()
    side.step()
    side.compare()


def test_zero_grad_between_forward_and_backward_keeps_the_rows() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        for model in side.models():
            loss = loss_of(model(MLP.batch(index)), index)
            if model is side.model:
                side.optimizer.zero_grad()
            loss.backward()
        side.optimizer.step()
        side.reference.step()
        side.reference_model.zero_grad()
        side.compare()


def test_zero_grad_drops_the_rows_of_the_gradients_that_it_drops() -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    loss_of(side.model(MLP.batch(70) * 100), 70).backward()
    side.optimizer.zero_grad()
    side.train(range(2, 5))


def test_step_uses_up_the_rows_even_if_the_model_clears_the_gradients() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        side.backward(index)
        side.optimizer.step()
        side.reference.step()
        side.both(lambda model: model.zero_grad())
        side.compare()


def test_backward_that_comes_after_the_refresh_does_not_count() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model, update_interval=2)
    late = loss_of(model(MLP.batch(0)), 0)
    optimizer.step()
    late.backward()
    layers = optimizer.state_dict()["curvature"]["layers"]
    assert [layer["rows"] for layer in layers.values()] == [0, 0]


@pytest.mark.parametrize("case", [MLP, CNN, TIED], ids=lambda case: case.id)
def test_micro_batches_are_pooled_by_rows(case: Case) -> None:
    side = SideBySide(case)
    rows = case.shape[0]
    for index in range(8):
        side.backward(index, slice(0, rows - 1), scale=0.5)
        side.backward(index, slice(rows - 2, rows), scale=0.5)
        side.step()
        side.compare()


def test_micro_batches_equal_the_whole_batch() -> None:
    whole, split = MLP.model(), MLP.model()
    optimizers = AdaFisher(whole, damping=0.1), AdaFisher(split, damping=0.1)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    for _ in range(8):
        x = torch.randn(6, 4, dtype=torch.float64, generator=generator)
        ((whole(x) - target) ** 2).sum().backward()
        for part in (slice(0, 1), slice(1, 6)):
            ((split(x[part]) - target[part]) ** 2).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for a, b in zip(whole.parameters(), split.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_second_backward_through_one_graph_counts_as_its_gradient_does() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        for model in side.models():
            loss = loss_of(model(MLP.batch(index)), index)
            loss.backward(retain_graph=True)
            loss.backward()
        side.step()
        side.compare()


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_counts_a_call_once(reentrant: bool) -> None:
    side = SideBySide(MLP)
    for index in range(4):
        x = MLP.batch(index).requires_grad_()
        output = checkpoint(side.model, x, use_reentrant=reentrant)
        loss_of(output, index).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


class Doubled(nn.Linear):
    """Its output is no function of a call with its own weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, 2 * self.weight, self.bias)


def test_subclass_that_changes_its_weight_takes_the_identity() -> None:
    model = Doubled(4, 3)
    optimizer = AdaFisher(model)
    model(torch.randn(5, 4)).sum().backward()
    with pytest.warns(UserWarning, match="no rows came with the gradients of '', so"):
        optimizer.step()
    assert optimizer.coverage().identity_steps == {"weight": 1, "bias": 1}


def freeze(*names: str, frozen: bool = True) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        for name in names:
            model.get_parameter(name).requires_grad_(not frozen)

    return change


@pytest.mark.parametrize(
    "names",
    [("0.weight",), ("1.weight", "1.bias"), ("3.bias",), ("3.weight", "3.bias"), ("6.bias",)],
    ids="+".join,
)
def test_frozen_then_unfrozen_then_frozen_again(names: tuple[str, ...]) -> None:
    side = SideBySide(CNN)
    side.both(freeze(*names))
    start = [side.model.get_parameter(name).clone() for name in names]
    side.train(range(3))
    for name, before in zip(names, start, strict=True):
        assert torch.equal(side.model.get_parameter(name), before)
    side.both(freeze(*names, frozen=False))
    side.train(range(3, 6))
    for name, before in zip(names, start, strict=True):
        assert not torch.equal(side.model.get_parameter(name), before)
    side.both(freeze(*names))
    side.train(range(6, 9))


def test_layer_not_used_in_a_step_keeps_its_factors() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.extra, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.use_extra = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(self.extra(x) if self.use_extra else x)

    side = SideBySide(Case("optional", Optional, (5, 4)))
    for index in range(8):
        side.both(lambda model, used=index % 3 != 1: setattr(model, "use_extra", used))
        side.train([index])


def test_layer_first_used_between_refreshes_takes_the_identity_until_the_next() -> None:
    side = SideBySide(MLP, update_interval=4)
    side.both(freeze("2.weight", "2.bias"))
    side.train(range(2))
    side.both(freeze("2.weight", "2.bias", frozen=False))
    side.train(range(2, 9))
    assert side.optimizer.coverage().identity_steps == {"2.weight": 2, "2.bias": 2}


def test_non_finite_estimate_is_dropped_counted_and_leaves_no_trace() -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    for model in side.models():
        loss_of(
            model(MLP.batch(2) * 1e200), 2
        ).backward()  # the squares overflow, no gradient is nan
        for param in model.parameters():
            param.grad = torch.full_like(param, 1e-3)
    with pytest.warns(UserWarning, match="dropped an estimate that is not finite, of '0', '2'"):
        side.step()
    side.compare()
    assert side.optimizer.coverage().dropped == {"0": 1, "2": 1}
    side.train(range(3, 6))
    assert all(torch.isfinite(p).all() for p in side.model.parameters())


def test_non_finite_first_estimate_leaves_the_identity() -> None:
    side = SideBySide(BY_ID["linear"])
    for model in side.models():
        loss_of(model(side.case.batch(0)), 0).backward()
    side.optimizer._curvature.capture.layers[""].pool.activation_sum.fill_(float("nan"))
    with pytest.warns(UserWarning, match="dropped an estimate"):
        side.optimizer.step()
    assert side.optimizer.coverage().dropped == {"": 1}
    assert side.optimizer.coverage().identity_steps == {"weight": 1, "bias": 1}


class Functional(nn.Linear):
    """A layer that a hook cannot read, so that its functional calls are."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


@pytest.mark.parametrize("kind", [nn.Linear, Functional])
def test_no_activation_is_kept_alive(kind: type[nn.Linear]) -> None:
    model = kind(4, 3)
    model.weight.requires_grad_(False)  # or autograd itself would save the input
    optimizer = AdaFisher(model)
    x = torch.randn(5, 4)
    alive = weakref.ref(x)
    output = model(x)
    del x
    gc.collect()
    assert alive() is None
    output.sum().backward()
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_backward_passes_at_once_bring_no_rows(dtype: torch.dtype) -> None:
    model = nn.Linear(4, 3).to(dtype)
    optimizer = AdaFisher(model)
    x = torch.randn(4, dtype=dtype)
    found = torch.autograd.functional.jacobian(model, x, vectorize=True)
    torch.testing.assert_close(found, model.weight.detach())
    assert [layer.pool.rows for layer in optimizer._curvature.capture.layers.values()] == [0]


def test_the_input_may_come_after_another_argument_by_name() -> None:
    model = nn.ConvTranspose2d(2, 3, 3, stride=2)
    optimizer = AdaFisher(model)
    model(output_size=(9, 10), input=torch.randn(2, 2, 4, 4)).square().mean().backward()
    optimizer.step()
    assert optimizer.coverage().identity_steps == {}


def test_off_refresh_steps_register_nothing() -> None:
    model = nn.Linear(4, 3)
    optimizer = AdaFisher(model, update_interval=2)
    for step in range(4):
        output = model(torch.randn(5, 4))
        assert bool(output._backward_hooks) is (step % 2 == 0)
        output.sum().backward()
        optimizer.step()


def test_close_removes_every_hook_and_keeps_the_factors() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    loss_of(model(CNN.batch(0)), 0).backward()
    optimizer.step()
    assert any(module._forward_hooks for module in model.modules())
    optimizer.close()
    optimizer.close()
    assert not any(module._forward_hooks for module in model.modules())
    factors = optimizer.state_dict()["curvature"]["layers"]["0"]["activation_diag"]
    optimizer.zero_grad()
    loss_of(model(CNN.batch(1)), 1).backward()
    optimizer.step()
    later = optimizer.state_dict()["curvature"]["layers"]["0"]["activation_diag"]
    assert torch.equal(factors, later)


def test_dropped_optimizer_takes_its_hooks_along() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    del optimizer
    gc.collect()
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copy_of_the_model_does_not_report_to_the_optimizer(
    clone: Callable[[nn.Module], nn.Module],
) -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    other = clone(side.model)
    loss_of(other(MLP.batch(80) * 100), 80).backward()
    side.train(range(2, 5))


def test_two_optimizers_share_a_model() -> None:
    side = SideBySide(MLP)
    model = side.model
    del side
    gc.collect()
    first = AdaFisher(model, params=list(model[0].parameters()))
    second = AdaFisher(model, params=list(model[2].parameters()))
    reference = SideBySide(MLP)
    for index in range(4):
        for optimizer in (first, second):
            optimizer.zero_grad()
        loss_of(model(MLP.batch(index)), index).backward()
        first.step()
        second.step()
        reference.train([index])
        for a, b in zip(model.parameters(), reference.model.parameters(), strict=True):
            assert torch.equal(a, b)
