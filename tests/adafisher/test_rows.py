"""Rows count exactly when the gradient that they belong to has reached the parameter."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.utils import parametrize

from adafisher import AdaFisher, register_layer
from adafisher.layers import registry
from tests.support.cases import BY_ID, loss_of
from tests.support.side_by_side import SideBySide, estimate

MLP = BY_ID["mlp_inplace_relu"]
SMOOTH = BY_ID["tied_linear"]  # twice differentiable, and its layers share a weight
ATTENTION = BY_ID["attention_self"]
ELSEWHERE = 90  # index of batches whose rows must not count


def rows_of(optimizer: AdaFisher) -> dict[str, int]:
    layers = optimizer.state_dict()["curvature"]["layers"]
    return {name: layer["rows"] for name, layer in layers.items()}


def of_input(model: nn.Module, x: Tensor) -> None:
    z = (100 * x).requires_grad_()
    torch.autograd.grad(loss_of(model(z), ELSEWHERE), z)


def twice_of_input(model: nn.Module, x: Tensor) -> None:
    z = (100 * x).requires_grad_()
    (grad,) = torch.autograd.grad(loss_of(model(z), ELSEWHERE), z, create_graph=True)
    torch.autograd.grad(grad.square().sum(), z)


def backward_to_input(model: nn.Module, x: Tensor) -> None:
    z = (100 * x).requires_grad_()
    loss_of(model(z), ELSEWHERE).backward(inputs=[z])


def hessian_product(model: nn.Module, x: Tensor) -> None:
    params = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss_of(model(100 * x), ELSEWHERE), params, create_graph=True)
    torch.autograd.grad(sum((g.square().sum() for g in grads), torch.zeros(())), params)


def other_tensors(model: nn.Module, x: Tensor) -> None:
    others = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    loss_of(functional_call(model, others, (100 * x,)), ELSEWHERE).backward()


def interrupted(model: nn.Module, x: Tensor) -> None:
    """The gradient of the output arrives, and an exception comes before those of the parameters."""

    def refuse(_grad: Tensor) -> None:
        raise ArithmeticError

    output = model(100 * x)
    output.register_hook(refuse)  # called after the layer's own
    with pytest.raises(ArithmeticError):
        loss_of(output, ELSEWHERE).backward()


WITHOUT_GRADIENTS = [
    *(of_input, twice_of_input, backward_to_input, hessian_product, other_tensors, interrupted),
]


@pytest.mark.parametrize("case", [MLP, SMOOTH, ATTENTION], ids=lambda case: case.id)
@pytest.mark.parametrize("elsewhere", WITHOUT_GRADIENTS, ids=lambda f: f.__name__)
def test_passes_that_leave_no_gradient_do_not_count(case: Any, elsewhere: Any) -> None:
    side = SideBySide(case)
    for index in range(3):
        elsewhere(side.model, case.batch(ELSEWHERE))
        assert set(rows_of(side.optimizer).values()) == {0}
        side.backward(index)
        elsewhere(side.model, case.batch(ELSEWHERE))
        side.step()
        side.compare()


def test_other_tensors_in_one_pass_with_the_parameters_do_not_count() -> None:
    side = SideBySide(MLP)
    for index in range(3):
        others = {
            name: (2 * p).detach().requires_grad_() for name, p in side.model.named_parameters()
        }
        teacher = functional_call(side.model, others, (MLP.batch(ELSEWHERE),))
        (loss_of(side.model(MLP.batch(index)), index) + loss_of(teacher, ELSEWHERE)).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


def test_weights_made_of_the_parameters_count() -> None:
    """A step of a meta-learner: the gradient passes through the updated weights."""
    model = MLP.model()
    optimizer = AdaFisher(model)
    params = dict(model.named_parameters())
    inner = loss_of(model(MLP.batch(0)), 0)
    grads = torch.autograd.grad(inner, list(params.values()), create_graph=True)
    fast = {name: p - 0.1 * g for (name, p), g in zip(params.items(), grads, strict=True)}
    loss_of(functional_call(model, fast, (MLP.batch(1),)), 1).backward()
    assert set(rows_of(optimizer).values()) == {2 * len(MLP.batch(0))}  # the inner call's as well


def by_the_model(model: nn.Module) -> None:
    model.zero_grad()


def to_zero(model: nn.Module) -> None:
    model.zero_grad(set_to_none=False)


def one_by_one(model: nn.Module) -> None:
    for param in model.parameters():
        param.grad = None


def new_zeros(model: nn.Module) -> None:
    for param in model.parameters():
        param.grad = torch.zeros_like(param)


def by_another_optimizer(model: nn.Module) -> None:
    torch.optim.SGD(model.parameters()).zero_grad()


CLEARING = [by_the_model, to_zero, one_by_one, new_zeros, by_another_optimizer]


@pytest.mark.parametrize("case", [MLP, BY_ID["cnn_inplace"], ATTENTION], ids=lambda case: case.id)
@pytest.mark.parametrize("clear", CLEARING, ids=lambda f: f.__name__)
@pytest.mark.parametrize("spoil", [1.0, float("nan")], ids=["finite", "nan"])
def test_whoever_clears_the_gradients_drops_their_rows(
    case: Any, clear: Callable[[nn.Module], None], spoil: float
) -> None:
    """A guard that discards a batch before the step."""
    side = SideBySide(case)
    for index in range(4):
        loss = loss_of(side.model(case.batch(ELSEWHERE + index)), ELSEWHERE) * spoil
        buffers = {name: b.clone() for name, b in side.reference_model.named_buffers()}
        loss.backward()
        clear(side.model)
        for name, buffer in side.model.named_buffers():
            buffer.copy_(buffers[name])  # the forward pass itself moved the batch norm
        side.backward(index)
        side.step()
        side.compare()
    assert side.optimizer.coverage().dropped == {}


@pytest.mark.parametrize("clear", CLEARING, ids=lambda f: f.__name__)
def test_gradients_cleared_before_the_step_take_their_rows_along(
    clear: Callable[[nn.Module], None],
) -> None:
    side = SideBySide(MLP)
    side.train(range(2))
    factors = side.optimizer.state_dict()["curvature"]["layers"]
    side.backward(2)
    clear(side.model)
    side.optimizer.step()
    for name, layer in side.optimizer.state_dict()["curvature"]["layers"].items():
        for key in ("activation_diag", "grad_diag"):
            assert torch.equal(layer[key], factors[name][key])


def clip(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)


def scale_copies(model: nn.Module) -> None:
    for param in model.parameters():
        assert param.grad is not None
        param.grad = 0.5 * param.grad


@pytest.mark.parametrize("change", [clip, scale_copies], ids=lambda f: f.__name__)
def test_gradients_that_are_changed_keep_their_rows(change: Callable[[nn.Module], None]) -> None:
    side = SideBySide(MLP)
    for index in range(4):
        side.backward(2 * index)
        side.both(change)
        side.backward(2 * index + 1)
        side.both(change)
        side.step()
        side.compare()


def test_gradient_that_is_zero_by_itself_keeps_its_rows() -> None:
    """As in the first step of low-rank adapters, whose second factor starts from zero."""
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)).double()
    model[1].weight.data.zero_()
    optimizer = AdaFisher(model)
    model(torch.ones(6, 4, dtype=torch.float64)).sum().backward()
    clip(model)
    optimizer.step()
    assert optimizer.fisher_diag(model[0].weight) is not None
    assert optimizer.coverage().identity_steps == {}


def test_sharpness_aware_steps_count_their_second_pass() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        for model, optimizer in zip(side.models(), (side.optimizer, side.reference), strict=True):
            x = MLP.batch(index)
            loss_of(model(x), index).backward()
            with torch.no_grad():
                moves = [0.1 * p.grad / p.grad.norm() for p in model.parameters()]
                for param, move in zip(model.parameters(), moves, strict=True):
                    param.add_(move)
            model.zero_grad()
            if optimizer is side.reference:
                for record in side.reference.records.values():
                    record.inputs, record.grads = [], []
            loss_of(model(x), index).backward()
            with torch.no_grad():
                for param, move in zip(model.parameters(), moves, strict=True):
                    param.sub_(move)
        side.step()
        side.compare()


def test_adversarial_pair_trains_each_on_its_own_rows() -> None:
    """The loop of DCGAN: the generator's backward pass leaves gradients in the discriminator."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8)).double()
    discriminator = nn.Sequential(nn.Linear(8, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1)).double()
    of_generator, of_discriminator = AdaFisher(generator), AdaFisher(discriminator)
    for _ in range(3):
        discriminator.zero_grad()
        real, fake = torch.randn(10, 8).double(), generator(torch.randn(7, 4).double())
        discriminator(real).square().mean().backward()
        discriminator(fake.detach()).exp().mean().backward()
        assert rows_of(of_discriminator) == {"0": 17, "2": 17}
        of_discriminator.step()
        generator.zero_grad()
        discriminator(fake).mean().backward()
        assert rows_of(of_generator) == {"0": 7, "2": 7}
        of_generator.step()


def parts(output: Tensor, index: int) -> list[Tensor]:
    return [
        loss_of(output[..., :2], index),
        loss_of(output[..., 2:], index + 50),
        0.1 * loss_of(output, index + 60),
    ]


@pytest.mark.parametrize(
    "case",
    [MLP, BY_ID["cnn_inplace"], SMOOTH, ATTENTION, BY_ID["several_calls"]],
    ids=lambda case: case.id,
)
def test_passes_through_one_graph_are_one_of_the_sum(case: Any) -> None:
    side = SideBySide(case)
    for index in range(5):
        *first, last = parts(side.model(case.batch(index)), index)
        for loss in first:
            loss.backward(retain_graph=True)
        last.backward()
        sum(parts(side.reference_model(case.batch(index)), index), torch.zeros(())).backward()
        side.step()
        side.compare()


def test_graph_that_is_kept_to_the_step_counts() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        kept = loss_of(side.model(MLP.batch(index)), index)
        kept.backward(retain_graph=True)
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.optimizer.state_dict()  # looks at the open calls, and closes none
        side.backward(30 + index)  # and a micro-batch
        side.step()
        side.compare()


def test_gradients_cleared_between_two_passes_through_one_graph() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        output = side.model(MLP.batch(index))
        (100 * output.square().mean()).backward(retain_graph=True)
        side.model.zero_grad()
        loss_of(output, index).backward()
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.step()
        side.compare()


def test_graph_kept_beyond_the_step_counts_anew() -> None:
    """A frozen start of the graph is passed again after a step."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).double()
    optimizer = AdaFisher(model, params=model[0].parameters())
    model[1].requires_grad_(False)
    output = model(torch.randn(6, 4).double())
    output[:, 0].sum().backward(retain_graph=True)
    optimizer.step()
    optimizer.zero_grad()
    output[:, 1].sum().backward()
    layer = optimizer.state_dict()["curvature"]["layers"]["0"]
    assert layer["rows"] == 6
    expected = 6 * model[1].weight[1].square()  # the second pass alone
    torch.testing.assert_close(layer["grad_sum"], expected, rtol=1e-12, atol=0)


def test_output_gradients_of_a_kept_graph_are_let_go_with_the_rows() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    seen: list[weakref.ref[Tensor]] = []
    model[2].register_full_backward_hook(lambda m, i, o: seen.append(weakref.ref(o[0])))
    loss = loss_of(model(MLP.batch(0)), 0)
    loss.backward(retain_graph=True)
    calls = list(optimizer._curvature.capture.layers["2"].pool.open)
    assert calls[0].grad is not None
    optimizer.zero_grad()
    gc.collect()
    assert calls[0].grad is None
    assert seen[0]() is None
    del loss


class Probe:
    """Gradients of a loss at the outputs of the layers, and their inputs, from no hook of ours."""

    def __init__(self, model: nn.Sequential) -> None:
        self.weights = list(model.parameters())
        self.layers = [(model[i].weight, model[i].bias) for i in (0, 2)]
        self.calls: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        first = nn.functional.linear(x, *self.layers[0])
        hidden = torch.tanh(first)
        second = nn.functional.linear(hidden, *self.layers[1])
        self.calls.append((x, first, hidden, second))
        return second

    def factors(self, loss: Tensor) -> list[tuple[Tensor, Tensor, int]]:
        """Pooled squares of input and output gradient, and rows, of both layers."""
        found = []
        for x_at, y_at in ((0, 1), (2, 3)):
            outputs = [call[y_at] for call in self.calls]
            grads = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
            pairs = [
                (call[x_at].detach(), grad)
                for call, grad in zip(self.calls, grads, strict=True)
                if grad is not None
            ]
            rows = sum(len(x) for x, _ in pairs)
            h = torch.cat([torch.cat([x, torch.ones_like(x[:, :1])], 1) for x, _ in pairs])
            s = torch.cat([grad for _, grad in pairs])
            found.append((h.square().mean(0), s.square().mean(0), rows))
        return found


def penalised(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """WGAN-GP."""
    between = ((real + fake) / 2).requires_grad_()
    (grad,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (grad.norm(2, 1) - 1).square().mean()
    return critic(fake).mean() - critic(real).mean() + 10 * penalty


def residual(net: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """A physics-informed network: the loss has first and second derivatives."""
    x = x.clone().requires_grad_()
    u = net(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
    return (bend[:, 0] + slope[:, 1] - target[:, 0]).square().mean() + u.square().mean()


@pytest.mark.parametrize(
    ("loss", "rows"),
    # The last layer's output between real and fake enters no loss: only its slope does.
    [(penalised, [15, 10]), (residual, [5, 5])],
    ids=["penalised", "residual"],
)
def test_derivatives_in_the_loss(loss: Callable[..., Tensor], rows: list[int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    a, b = torch.randn(2, 5, 4).double()
    optimizer = AdaFisher(model)
    probe = Probe(model)
    expected = probe.factors(loss(probe, a, b))
    loss(model, a, b).backward()
    for name, (h, s, count), wanted in zip("02", expected, rows, strict=True):
        layer = optimizer._curvature.capture.layers[name]
        assert layer.pool.rows == count == wanted
        activation_diag, grad_diag = estimate(layer)
        torch.testing.assert_close(activation_diag[0], h, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(grad_diag, s, rtol=1e-12, atol=1e-15)


def set_by_hand(model: nn.Module, index: int) -> None:
    params = list(model.parameters())
    grads = torch.autograd.grad(loss_of(model(MLP.batch(index)), index), params)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad


def test_gradients_set_by_hand_bring_no_rows() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model)
    set_by_hand(model, 0)
    with pytest.warns(UserWarning, match=r"no rows came .* set by hand \(loss.backward\(inputs="):
        optimizer.step()
    assert set(optimizer.coverage().identity_steps.values()) == {1}
    model.zero_grad()
    loss_of(model(MLP.batch(1)), 1).backward()
    optimizer.step()
    before = optimizer.fisher_diag(model[0].weight)
    set_by_hand(model, 2)
    optimizer.step()  # the last estimate is kept, and nothing to warn of
    after = optimizer.fisher_diag(model[0].weight)
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)
    assert set(optimizer.coverage().identity_steps.values()) == {1}


def test_backward_to_chosen_parameters_counts_for_their_layers() -> None:
    side = SideBySide(MLP)
    for index in range(4):
        for model in side.models():
            chosen = list(model.parameters())
            loss_of(model(MLP.batch(index)), index).backward(inputs=chosen)
        side.step()
        side.compare()
    loss_of(side.model(MLP.batch(5)), 5).backward(inputs=[side.model[2].bias])
    assert rows_of(side.optimizer) == {"0": 0, "2": 5}


def test_steps_within_the_backward_pass() -> None:
    """An optimizer for each parameter, stepped by its hook, as to save the gradients' memory."""
    side = SideBySide(MLP)
    side.optimizer.close()
    model = side.model
    optimizers = {p: AdaFisher(model, params=[p]) for p in model.parameters()}

    def step(param: Tensor) -> None:
        optimizers[param].step()
        param.grad = None

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(step)
    for index in range(4):
        side.backward(index)
        side.reference.step()
        side.reference_model.zero_grad()
        side.compare()
    assert all(o.coverage().identity_steps == {} for o in optimizers.values())


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def test_what_waits_has_no_graph() -> None:
    """Not even after ``create_graph``, whose gradients have one: it would live until the step."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = AdaFisher(model)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    model(x).square().mean().backward(create_graph=True)
    pools = [layer.pool for layer in optimizer._curvature.capture.layers.values()]
    kept = [call for pool in pools for call in pool.open]
    assert len(kept) == 2
    for call in kept:
        assert call.grad is not None
        assert not call.grad.requires_grad
        assert not call.activation_sum.requires_grad
    model.zero_grad()  # or what create_graph leaves in .grad is a cycle


class Bowed(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.tanh()


def test_a_weight_that_is_computed_from_now_on_is_not_the_layers() -> None:
    """So it is with a parametrization that comes after the optimizer."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = AdaFisher(model)
    parametrize.register_parametrization(model[0], "weight", Bowed())
    model(torch.ones(5, 3)).square().mean().backward()
    assert rows_of(optimizer) == {"0": 0, "2": 5}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tangents_of_forward_mode_go_through_a_watched_model(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 4).to(dtype)
    optimizer = AdaFisher(model)
    x, direction = torch.eye(3, dtype=dtype), torch.full((3, 3), 2.0, dtype=dtype)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(model(forward_ad.make_dual(x, direction))).tangent
    assert tangent is not None
    torch.testing.assert_close(tangent, direction @ model.weight.T)
    assert rows_of(optimizer) == {"": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tangents_of_forward_mode_go_through_a_backward_pass(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 4).to(dtype)
    optimizer = AdaFisher(model)
    x, slope = torch.ones(5, 3, dtype=dtype), torch.ones(5, 4, dtype=dtype)
    with forward_ad.dual_level():
        model(x).backward(forward_ad.make_dual(slope, slope))
    assert rows_of(optimizer) == {"": 5}


class Scaled(nn.Module):
    """A layer whose gradient at the product is not that at its output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3))
        self.scale = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T) * self.scale


@pytest.mark.parametrize(
    "retain", [{"create_graph": True, "retain_graph": False}, {"retain_graph": True}]
)
@pytest.mark.filterwarnings("ignore:AdaFisher. 1 of 2 trainable parameters:UserWarning")
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def test_rows_that_are_given_may_read_parameters(
    retain: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    register_layer(Scaled, bias=None, grad_rows=lambda m, g: (g * m.scale).reshape(-1, 4))
    model = Scaled().double()
    optimizer = AdaFisher(model)
    model(torch.ones(5, 3).double()).sum().backward(**retain)
    layer = optimizer.state_dict()["curvature"]["layers"][""]
    assert layer["rows"] == 5
    torch.testing.assert_close(layer["grad_sum"], torch.full((4,), 20.0).double())
    model.zero_grad()


class Linear(nn.Module):
    """Known by its name, and of one output, which it views the inner product as."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 3, 1
        self.weight = nn.Parameter(torch.ones(1, 3))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight[0]).unsqueeze(-1)


def test_an_output_may_be_a_view_of_a_number() -> None:
    model = Linear()
    optimizer = AdaFisher(model)
    model(torch.ones(3)).sum().backward()
    assert rows_of(optimizer) == {"": 1}
