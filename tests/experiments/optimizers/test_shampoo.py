import io

import pytest
import torch
from torch import Tensor, nn

from experiments.optimizers import roots
from experiments.optimizers.roots import inverse_root, robust_roots
from experiments.optimizers.shampoo import Shampoo, ShampooPreconditioner

SHAPES = {"linear": (6, 4), "conv": (8, 4, 3, 3), "conv1x1": (5, 3, 1, 1), "vector3d": (2, 3, 4)}


class Parameters(nn.Module):
    def __init__(self, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(
            torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in shapes
        )


def gradients(shape: tuple[int, ...], steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(steps)]


def reference_direction(seen: list[Tensor], ridge: float) -> Tensor:
    """Published rule on the last gradient, densely: one Kronecker product of all axes' roots."""
    last = seen[-1]
    axes = "abcd"[: last.ndim]
    kron = torch.ones(1, 1, dtype=torch.float64)
    for axis in range(last.ndim):
        letters = axes.replace(axes[axis], "x"), axes.replace(axes[axis], "y")
        statistic = ridge * torch.eye(last.shape[axis], dtype=torch.float64)
        for grad in seen:
            statistic += torch.einsum(f"{letters[0]},{letters[1]}->xy", grad, grad)
        values, vectors = torch.linalg.eigh(statistic)
        values = values.clamp(min=0) + ridge * values.max()
        root = vectors @ torch.diag(values ** (-1 / (2 * last.ndim))) @ vectors.T
        kron = torch.kron(kron, root)
    return (kron @ last.flatten()).view_as(last)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_float64_follows_the_eigendecomposition_in_every_step(shape):
    model = Parameters(shape, dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=1, ridge=1e-6)
    seen = []
    for grad in gradients(shape, 8):
        seen.append(grad)
        model.weights[0].grad = grad.clone()
        transform.update()
        torch.testing.assert_close(
            model.weights[0].grad, reference_direction(seen, 1e-6), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_float32_follows_the_eigendecomposition_in_every_step(shape):
    model = Parameters(shape)
    transform = ShampooPreconditioner(model, interval=1, ridge=1e-12)
    seen = []
    for step, grad in enumerate(gradients(shape, 8)):
        seen.append(grad.float().double())
        model.weights[0].grad = grad.float()
        transform.update()
        expected = reference_direction(seen, 1e-12)
        distance = (model.weights[0].grad.double() - expected).norm() / expected.norm()
        # Statistics of the first steps are rank-deficient: their null space is rounding noise.
        assert distance < (1e-3 if step < 2 else 2e-5), step


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_follows_pytorch_optimizer_in_every_step(shape):
    oracle = pytest.importorskip("pytorch_optimizer", reason="oracle: an independent Shampoo")
    ours, theirs = (Parameters(shape, dtype=torch.float64) for _ in range(2))
    optimizer = Shampoo(ours, lr=0.1, momentum=0.0, interval=1, ridge=1e-8)
    # The oracle has no relative ridge: it differs by 1e-8 of the largest eigenvalue.
    other = oracle.Shampoo(
        theirs.parameters(),
        lr=0.1,
        momentum=0.0,
        weight_decay=0.0,
        matrix_eps=1e-8,
        preconditioning_compute_steps=1,
    )
    for grad in gradients(shape, 8):
        ours.weights[0].grad = grad.clone()
        theirs.weights[0].grad = grad.clone()
        optimizer.step()
        other.step()
        torch.testing.assert_close(ours.weights[0], theirs.weights[0], rtol=0, atol=1e-5)
    start = Parameters(shape, dtype=torch.float64).weights[0]
    assert (ours.weights[0] - start).abs().max() > 1e-2


@pytest.fixture
def float64():
    """ASDL makes its statistics in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Of full rank from the first gradient on: in a null space the oracle's iteration does not converge.
@pytest.mark.parametrize("shape", [(3, 4, 5), (8, 4, 3, 3), (4, 4, 1, 1), (4, 1, 3, 3)], ids=str)
@pytest.mark.parametrize("interval", [1, 3])
def test_the_options_of_asdl_follow_asdl_in_every_step(shape, interval, float64):
    asdl = pytest.importorskip("asdl", reason="oracle: the Shampoo of the AdaFisher authors")
    ours, theirs = (Parameters(shape, dtype=torch.float64) for _ in range(2))
    options = {"statistics": "refresh", "unit_axes": "identity"}
    transform = ShampooPreconditioner(ours, interval=interval, ridge=1e-12, **options)
    config = asdl.PreconditioningConfig(damping=1e-12, preconditioner_upd_interval=interval)
    maker = asdl.ShampooGradientMaker(theirs, config)
    for step, grad in enumerate(gradients(shape, 7)):
        for model in (ours, theirs):
            model.weights[0].grad = grad.clone()
        transform.update()
        if maker.do_update_curvature(step):
            maker.update_curvature()
        if maker.do_update_preconditioner(step):
            maker.update_preconditioner()
        maker.precondition()
        found, expected = ours.weights[0].grad, theirs.weights[0].grad
        assert (found - expected).norm() < 1e-6 * expected.norm(), step


def test_repeated_eigenvalues_leave_the_direction_of_an_orthogonal_gradient():
    # G = c Q: both statistics are c^2 I up to the ridge, so the transform is Q exactly.
    orthogonal, _ = torch.linalg.qr(gradients((6, 6), 1)[0])
    model = Parameters((6, 6), dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=1, ridge=1e-12)
    model.weights[0].grad = 3 * orthogonal
    transform.update()
    torch.testing.assert_close(model.weights[0].grad, orthogonal, rtol=1e-8, atol=1e-8)


def test_rank_one_gradient_is_normalised():
    # G = s u v^T with unit u, v: L^(-1/4) G R^(-1/4) = u v^T whatever s is.
    left, right = gradients((7, 1), 1)[0], gradients((1, 5), 2)[1]
    unit = left / left.norm() @ (right / right.norm())
    for scale in (1e-3, 1.0, 1e3):
        model = Parameters((7, 5))
        transform = ShampooPreconditioner(model, interval=1, ridge=1e-12)
        model.weights[0].grad = (scale * unit).float()
        transform.update()
        torch.testing.assert_close(model.weights[0].grad.double(), unit, rtol=0, atol=1e-3)


def test_zero_gradient_stays_zero():
    model = Parameters((4, 3), (2, 2, 3, 3))
    transform = ShampooPreconditioner(model, ridge=1e-12)
    for weight in model.weights:
        weight.grad = torch.zeros_like(weight)
    transform.update()
    assert all(bool((weight.grad == 0).all()) for weight in model.weights)


def test_roots_are_refreshed_at_the_interval_and_statistics_grow_every_step():
    shape, interval = (4, 3), 3
    model = Parameters(shape, dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=interval, ridge=1e-3)
    seen = []
    for step, grad in enumerate(gradients(shape, 7)):
        seen.append(grad)
        model.weights[0].grad = grad.clone()
        transform.update()
        # Roots of the last refresh, applied to the gradient of this step.
        known = seen[: step // interval * interval + 1]
        expected = reference_with_statistics(known, grad, 1e-3)
        torch.testing.assert_close(model.weights[0].grad, expected, rtol=1e-9, atol=1e-9)


def reference_with_statistics(seen: list[Tensor], vector: Tensor, ridge: float) -> Tensor:
    """What roots of the gradients ``seen`` make of ``vector``, flat."""
    left, right = sum(grad @ grad.T for grad in seen), sum(grad.T @ grad for grad in seen)
    quarters = []
    for gram in (left, right):
        u, s, vh = torch.linalg.svd(gram + ridge * torch.eye(len(gram), dtype=torch.float64))
        quarters.append(u @ torch.diag((s + ridge * s.max()) ** -0.25) @ vh)
    return quarters[0] @ vector @ quarters[1]


def test_vectors_long_axes_and_missing_gradients_are_left_alone():
    model = Parameters((3,), (20, 3), (4, 3), (4, 3))
    transform = ShampooPreconditioner(model, max_dimension=10, ridge=1e-6)
    assert transform.left_alone == {
        "weights.0": "fewer than two axes",
        "weights.1": "an axis above 10",
    }
    for weight in model.weights[:3]:
        weight.grad = torch.full_like(weight, 0.5)
    transform.update()
    assert all(bool((model.weights[i].grad == 0.5).all()) for i in (0, 1))
    assert not bool((model.weights[2].grad == 0.5).any())
    assert model.weights[3].grad is None


def test_parameter_that_joins_between_refreshes_gets_roots_at_once():
    model = Parameters((4, 3), (5, 2), dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=10, ridge=1e-6)
    model.weights[0].grad = gradients((4, 3), 1)[0]
    transform.update()
    late = gradients((5, 2), 1)[0]
    model.weights[0].grad, model.weights[1].grad = gradients((4, 3), 2)[1], late.clone()
    transform.update()
    torch.testing.assert_close(model.weights[1].grad, reference_direction([late], 1e-6))


def test_parameter_that_joins_gets_statistics_of_its_first_gradient_at_once():
    model = Parameters((4, 3), (5, 2), dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=10, ridge=1e-6, statistics="refresh")
    model.weights[0].grad = gradients((4, 3), 1)[0]
    transform.update()
    first, second = gradients((5, 2), 2)
    for late in (first, second):
        model.weights[1].grad = late.clone()
        transform.update()
    known = reference_with_statistics([first], second, 1e-6)
    torch.testing.assert_close(model.weights[1].grad, known, rtol=1e-9, atol=1e-9)


def test_tied_parameter_is_preconditioned_once():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)).double()
    model[1].weight = model[0].weight
    transform = ShampooPreconditioner(model, ridge=1e-6)
    grad = gradients((5, 3), 1)[0]
    model[0].weight.grad = grad.clone()
    transform.update()
    torch.testing.assert_close(model[0].weight.grad, reference_direction([grad], 1e-6))


def test_same_size_statistics_are_one_eigenproblem(monkeypatch):
    calls = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda stack: calls.append(stack.shape) or eigh(stack)
    )
    model = Parameters((4, 3), (3, 4), (4, 4))
    transform = ShampooPreconditioner(model, ridge=1e-6)
    for weight in model.weights:
        weight.grad = torch.ones_like(weight)
    transform.update()
    assert sorted(calls) == [(2, 3, 3), (4, 4, 4)]


def test_float64_is_tried_where_float32_does_not_converge(monkeypatch):
    tried = []
    eigh = torch.linalg.eigh

    def failing(stack: Tensor) -> tuple[Tensor, Tensor]:
        tried.append(stack.dtype)
        if stack.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return eigh(stack)

    statistics = [torch.diag(torch.tensor([16.0, 81.0]))]
    monkeypatch.setattr(roots.torch.linalg, "eigh", failing)
    (root,) = robust_roots(statistics, 4, 1e-12)
    assert tried == [torch.float32, torch.float64]
    torch.testing.assert_close(root, torch.diag(torch.tensor([1 / 2, 1 / 3])))


def test_matrix_without_a_root_is_skipped_alone_and_counted():
    good, bad = torch.diag(torch.tensor([16.0, 81.0])), torch.full((2, 2), torch.nan)
    root, missing = robust_roots([good, bad], 4, 1e-12)
    torch.testing.assert_close(root, torch.diag(torch.tensor([1 / 2, 1 / 3])))
    assert missing is None


def test_failed_refresh_keeps_the_old_roots(monkeypatch):
    model = Parameters((4, 3), dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=1, ridge=1e-6)
    first = gradients((4, 3), 1)[0]
    expected = reference_direction([first], 1e-6)
    model.weights[0].grad = first.clone()
    transform.update()

    def failing(stack: Tensor) -> tuple[Tensor, Tensor]:
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(roots.torch.linalg, "eigh", failing)
    model.weights[0].grad = first.clone()
    transform.update()
    torch.testing.assert_close(model.weights[0].grad, expected)
    assert transform.skipped_refreshes == 1


def test_nonfinite_gradient_does_not_reach_the_statistics():
    model = Parameters((4, 3), dtype=torch.float64)
    transform = ShampooPreconditioner(model, interval=1, ridge=1e-6)
    first, second = gradients((4, 3), 2)
    for grad in (first, torch.full_like(first, torch.inf), second):
        model.weights[0].grad = grad.clone()
        transform.update()
    torch.testing.assert_close(model.weights[0].grad, reference_direction([first, second], 1e-6))
    assert transform.skipped_gradients == 1


def test_inverse_root_of_a_diagonal_is_exact():
    root = inverse_root(
        torch.diag(torch.tensor([1.0, 256.0], dtype=torch.float64))[None], 8, 1e-300
    )
    torch.testing.assert_close(root[0], torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64)))


@pytest.mark.parametrize("saved_after", range(5))
def test_resume_at_any_step_is_bit_exact(saved_after):
    def run(model: nn.Module, optimizer: Shampoo, steps: range) -> None:
        for step in steps:
            for weight in model.weights:
                weight.grad = gradients(tuple(weight.shape), 6)[step].float()
            optimizer.step()

    def make() -> tuple[nn.Module, Shampoo]:
        model = Parameters((6, 4), (4, 2, 3, 3), (3,))
        return model, Shampoo(model, lr=0.1, weight_decay=0.01, interval=3, max_norm=1.0)

    model, optimizer = make()
    run(model, optimizer, range(saved_after))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    run(model, optimizer, range(saved_after, 6))

    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed, other = make()
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    run(resumed, other, range(saved_after, 6))
    for ours, theirs in zip(resumed.weights, model.weights, strict=True):
        assert torch.equal(ours, theirs)


def test_snapshot_shares_no_memory_with_the_optimizer():
    model = Parameters((4, 3))
    optimizer = Shampoo(model, lr=0.1, interval=2)
    model.weights[0].grad = torch.ones(4, 3)
    optimizer.step()
    state = optimizer.state_dict()
    own = {t.data_ptr() for t in optimizer.transform._roots["weights.0"]}
    assert not own & {t.data_ptr() for t in state["transform"]["roots"]["weights.0"]}
    copies = {
        key: [t.clone() for t in state["transform"][key]["weights.0"]]
        for key in ("statistics", "roots")
    }
    momentum = state["state"][0]["momentum_buffer"].clone()
    other = Shampoo(Parameters((4, 3)), lr=0.1, interval=2)
    other.load_state_dict(state)
    for current in (optimizer, other):
        for _ in range(2):
            current.param_groups[0]["params"][0].grad = gradients((4, 3), 1)[0].float()
            current.step()
    for key, tensors in copies.items():
        for copy, tensor in zip(tensors, state["transform"][key]["weights.0"], strict=True):
            assert torch.equal(copy, tensor)
    assert torch.equal(momentum, state["state"][0]["momentum_buffer"])


def test_state_of_another_model_is_refused():
    state = ShampooPreconditioner(Parameters((2, 2))).state_dict()
    state["statistics"]["other.weight"] = [torch.eye(2)]
    with pytest.raises(ValueError, match=r"other\.weight"):
        ShampooPreconditioner(Parameters((2, 2))).load_state_dict(state)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("interval", 0),
        ("interval", 2.5),
        ("ridge", 0.0),
        ("ridge", "small"),
        ("max_dimension", -1),
        ("statistics", "sometimes"),
        ("unit_axes", "ones"),
        ("lr", -0.1),
        ("momentum", 1.0),
        ("weight_decay", float("nan")),
        ("max_norm", 0),
    ],
)
def test_bad_argument_is_named_with_its_value(argument, value):
    arguments = {"lr": 0.1, argument: value}
    with pytest.raises(ValueError, match=f"Invalid {argument}: {value!r}"):
        Shampoo(Parameters((2, 2)), **arguments)
