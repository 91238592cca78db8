"""AdaHessian against exact Hessians and against Algorithm 1 written out in float64."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.engine.step import backward, differentiable_forward
from experiments.optimizers.adahessian import AdaHessian

VALUES = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.02}


class Vector(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, 3)
    )
    return net.double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (6,), generator=generator)


def test_the_estimate_is_the_exact_diagonal_where_the_hessian_is_diagonal() -> None:
    """Every vector of signs gives |H v| = |diag H| then."""
    curvature = torch.tensor([3.0, -0.5, 0.0, 7.0])
    model = Vector(torch.ones(4))
    optimizer = AdaHessian(model, lr=0.1)
    backward((curvature * model.weight.square()).sum() / 2, create_graph=True)
    torch.testing.assert_close(optimizer.diagonals(), [curvature.abs()], rtol=0, atol=0)


def test_the_estimate_is_the_product_with_signs_on_a_coupled_quadratic() -> None:
    """|H v| is one of the eight vectors that signs can give, up to the overall sign."""
    matrix = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, -0.7], [0.0, -0.7, 4.0]])
    model = Vector(torch.ones(3))
    optimizer = AdaHessian(model, lr=0.1)
    backward(model.weight @ matrix @ model.weight / 2, create_graph=True)
    (found,) = optimizer.diagonals()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    distances = ((signs @ matrix).abs() - found).abs().amax(1)
    assert distances.min() < 1e-6


def test_steps_are_those_of_the_published_algorithm_on_a_conv_net() -> None:
    """The Hessian is computed whole by double differentiation; only the signs are shared."""
    model, reference = conv_net(), conv_net()
    optimizer = AdaHessian(model, **VALUES)
    names = [name for name, _ in reference.named_parameters()]
    theta = {name: p.detach().clone() for name, p in reference.named_parameters()}
    mean = {name: torch.zeros_like(p) for name, p in theta.items()}
    square = {name: torch.zeros_like(p) for name, p in theta.items()}
    beta1, beta2 = VALUES["betas"]
    drawn: list[list[Tensor]] = []
    draw = optimizer._rademacher
    optimizer._rademacher = lambda params: drawn.append(draw(params)) or drawn[-1]  # type: ignore
    for step in range(1, 6):
        inputs, targets = batch(step)
        backward(F.cross_entropy(model(inputs), targets), create_graph=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        def loss(flat: Tensor, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            parts = flat.split([p.numel() for p in theta.values()])
            given = {n: part.view_as(theta[n]) for n, part in zip(names, parts, strict=True)}
            logits = torch.func.functional_call(reference, given, (inputs,))
            return F.cross_entropy(logits, targets)

        flat = torch.cat([p.flatten() for p in theta.values()])
        grad = torch.func.grad(loss)(flat)
        product = torch.func.hessian(loss)(flat) @ torch.cat([v.flatten() for v in drawn[-1]])
        sizes = [p.numel() for p in theta.values()]
        for name, g, hv in zip(names, grad.split(sizes), product.split(sizes), strict=True):
            size = hv.abs().view_as(theta[name])
            if size.ndim == 4:  # spatial averaging: one value a kernel
                size = size.mean((2, 3), keepdim=True)
            mean[name] = beta1 * mean[name] + (1 - beta1) * g.view_as(theta[name])
            square[name] = beta2 * square[name] + (1 - beta2) * size**2
            root = (square[name] / (1 - beta2**step)).sqrt()
            move = mean[name] / (1 - beta1**step) / (root + VALUES["eps"])
            theta[name] = theta[name] - VALUES["lr"] * (move + VALUES["weight_decay"] * theta[name])
        for name, param in model.named_parameters():
            torch.testing.assert_close(param.detach(), theta[name], rtol=1e-9, atol=1e-11)


def test_only_kernels_are_averaged_however_many_axes_a_parameter_has() -> None:
    model = nn.Module()
    model.kernel = nn.Conv1d(1, 2, 3)
    model.position = nn.Parameter(torch.ones(1, 2, 3))
    curvature = torch.arange(1.0, 7.0)
    optimizer = AdaHessian(model, lr=0.1)
    loss = sum(
        (curvature.view_as(p) * p.square()).sum() / 2 for p in (model.kernel.weight, model.position)
    )
    backward(loss, create_graph=True)
    position, kernel, bias = optimizer.diagonals()
    assert torch.equal(position.flatten(), curvature)
    assert kernel.flatten().tolist() == [2.0] * 3 + [5.0] * 3
    assert bias.count_nonzero() == 0  # it has no gradient


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3))
    optimizer = AdaHessian(model, **VALUES)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        backward(model[1](torch.ones(4, 2)).square().mean(), create_graph=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    same = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert same == [True, True, False, False]


def test_signs_are_signs_and_change_with_step_and_seed() -> None:
    params = [nn.Parameter(torch.zeros(1000))]
    first = AdaHessian(nn.ParameterList(params), lr=0.1)
    other = AdaHessian(nn.ParameterList(params), lr=0.1, seed=1)
    (signs,) = first._rademacher(params)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 4 / math.sqrt(1000)
    assert torch.equal(first._rademacher(params)[0], signs)
    assert not torch.equal(other._rademacher(params)[0], signs)
    first.param_groups[0]["step"] = 1
    assert not torch.equal(first._rademacher(params)[0], signs)


def test_the_seed_is_restored_and_torch_draws_stay_as_they_are() -> None:
    model = conv_net()
    before = torch.get_rng_state()
    optimizer = AdaHessian(model, seed=5, **VALUES)
    inputs, targets = batch(0)
    backward(F.cross_entropy(model(inputs), targets), create_graph=True)
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), before)
    restored = AdaHessian(conv_net(), seed=0, **VALUES)
    restored.load_state_dict(optimizer.state_dict())
    assert restored.seed == 5
    # Nothing as large as the parameters is kept but the two means.
    assert {key for state in optimizer.state.values() for key in state} == {
        "exp_avg",
        "exp_hessian_diag_sq",
    }


def test_plain_attention_has_the_second_derivative_that_the_step_needs() -> None:
    layer = nn.Linear(4, 12).double()
    inputs = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    optimizer = AdaHessian(layer, lr=0.1)
    with differentiable_forward(True):
        parts = layer(inputs).chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(*parts, is_causal=True)
    backward(out.square().mean(), create_graph=True)
    optimizer.step()
    assert all(state["exp_hessian_diag_sq"].any() for state in optimizer.state.values())


def test_a_gradient_without_its_graph_is_refused() -> None:
    model = nn.Linear(2, 1)
    optimizer = AdaHessian(model, lr=0.1)
    model(torch.ones(1, 2)).square().sum().backward()
    with pytest.raises(RuntimeError, match="create_graph=True"):
        optimizer.step()


def test_a_closure_gives_the_same_step() -> None:
    models = conv_net(), conv_net()
    inputs, targets = batch(0)
    optimizers = [AdaHessian(model, **VALUES) for model in models]

    def loss_of(model: nn.Module) -> Tensor:
        loss = F.cross_entropy(model(inputs), targets)
        backward(loss, create_graph=True)
        return loss

    expected = loss_of(models[0])
    assert optimizers[0].step() is None
    assert torch.equal(optimizers[1].step(lambda: loss_of(models[1])), expected)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1.0}, "Invalid lr: -1.0"),
        ({"eps": -1.0}, "Invalid eps"),
        ({"hessian_power": 0}, "Invalid hessian_power: 0"),
        ({"hessian_power": 2.0}, "essian"),
        ({"betas": (0.9, 1.0)}, "beta"),
    ],
)
def test_values_out_of_range_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaHessian(nn.Linear(2, 1), **{**VALUES, **values})
