"""``state_dict`` at any moment."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adafisher import AdaFisher, AdaFisherW
from tests.support.cases import BY_ID, loss_of

CNN = BY_ID["cnn_inplace"]
OPTIONS: dict[str, Any] = {"update_interval": 3, "weight_decay": 0.01, "lr": 2e-3}
RELEASED: dict[str, Any] = {
    "gammas": (0.08, 0.992),
    "normalize": "before",
    "factor_init": "ones",
    "minmax_eps": 1e-6,
    "norm_layers": "two_vector",
    "patch_mean": True,
    "constant_factor": "zeros",
}


def half_step(model: nn.Module, index: int) -> None:
    loss_of(model(CNN.batch(index)), index).backward()


def train(model: nn.Module, optimizer: AdaFisher, indices: range) -> None:
    for index in indices:
        half_step(model, 2 * index)
        half_step(model, 2 * index + 1)
        optimizer.step()
        optimizer.zero_grad()


def through_file(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    torch.save(state, folder / "state.pt")
    return torch.load(folder / "state.pt", weights_only=True)


def resumed(model: nn.Module, state: dict[str, Any], **options: Any) -> tuple[nn.Module, AdaFisher]:
    """A fresh optimizer on a copy of the model, gradients included, with the state loaded."""
    other = CNN.model(seed=1)
    other.load_state_dict(model.state_dict())
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    optimizer = AdaFisher(other, **options)
    optimizer.load_state_dict(state)
    return other, optimizer


def assert_equal_trees(a: Any, b: Any, path: str = "state") -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_equal_trees(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_trees(x, y, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.mark.parametrize("extra", [{}, RELEASED], ids=["default", "released"])
@pytest.mark.parametrize("steps", [0, 1, 3, 4])
@pytest.mark.parametrize("halfway", [False, True])
def test_restored_run_is_bit_identical(
    tmp_path: Path, steps: int, halfway: bool, extra: dict[str, Any]
) -> None:
    model = CNN.model()
    optimizer = AdaFisher(model, **OPTIONS, **extra)
    train(model, optimizer, range(steps))
    if halfway:
        half_step(model, 99)
    state = through_file(optimizer.state_dict(), tmp_path)
    # Other hyperparameters than the run's: the state brings its own along, as in torch.
    other, restored = resumed(model, state, lr=0.5, **extra)
    assert_equal_trees(restored.state_dict(), optimizer.state_dict())
    for m, o in ((model, optimizer), (other, restored)):
        if halfway:
            half_step(m, 98)
            o.step()
            o.zero_grad()
        train(m, o, range(steps, steps + 5))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)
    assert_equal_trees(restored.state_dict(), optimizer.state_dict())


def plain(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(isinstance(k, str | int) and plain(v) for k, v in tree.items())
    if isinstance(tree, list | tuple):
        return all(plain(v) for v in tree)
    return tree is None or type(tree) in (torch.Tensor, int, float, bool, str)


def test_state_is_plain_tensors_and_numbers() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    train(model, optimizer, range(2))
    half_step(model, 7)
    state = optimizer.state_dict()
    assert plain(state)
    assert set(state["state"][0]) == {"step", "exp_avg"}
    assert state["curvature"]["layers"]["0"]["rows"] == 3 * 6 * 5
    factors = state["curvature"]["layers"]["3"]  # Conv2d(6, 6, 3, groups=3)
    assert factors["activation_diag"].shape == (3, 2 * 9 + 1)
    assert factors["grad_diag"].shape == (6,)


def test_snapshot_does_not_move_with_the_optimizer() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    train(model, optimizer, range(2))
    half_step(model, 7)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    half_step(model, 8)
    train(model, optimizer, range(2))
    assert_equal_trees(state, kept)


def test_load_neither_keeps_nor_changes_its_argument() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    train(model, optimizer, range(2))
    half_step(model, 7)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    for _ in range(2):  # a second load from the same dict gives the same run
        other, restored = resumed(model, state)
        train(other, restored, range(2))
        assert_equal_trees(state, kept)


def build(*layers: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*(layer() for layer in layers))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: build(lambda: nn.Linear(4, 5)), "'1.weight' stands where the model has nothing"),
        (
            lambda: build(lambda: nn.Linear(4, 6), lambda: nn.Linear(6, 3)),
            r"'0.weight: \[5, 4\]' stands where the model has '0.weight: \[6, 4\]'",
        ),
        (
            lambda: build(lambda: nn.Linear(4, 5), lambda: nn.Linear(5, 3, bias=False)),
            "'1.bias' stands where the model has nothing",
        ),
        (
            lambda: build(lambda: nn.Linear(4, 5), nn.ReLU, lambda: nn.Linear(5, 3)),
            "'1.weight' stands where the model has '2.weight'",
        ),
    ],
    ids=["layer_missing", "shape", "bias", "name"],
)
def test_state_of_another_model_is_refused(other: Callable[[], nn.Module], difference: str) -> None:
    state = AdaFisher(build(lambda: nn.Linear(4, 5), lambda: nn.Linear(5, 3))).state_dict()
    optimizer = AdaFisher(other())
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=difference):
        optimizer.load_state_dict(state)
    assert_equal_trees(optimizer.state_dict(), before)


def test_state_of_another_kind_of_layer_is_refused() -> None:
    state = AdaFisher(nn.Conv2d(4, 4, 3, groups=2)).state_dict()
    with pytest.raises(ValueError, match=r"Conv2d with 2 groups' stands where .* ': Conv2d'"):
        AdaFisher(nn.Conv2d(2, 4, 3)).load_state_dict(state)
    state = AdaFisher(nn.BatchNorm1d(4)).state_dict()
    with pytest.raises(ValueError, match=r"BatchNorm.* stands where the model has .*LayerNorm"):
        AdaFisher(nn.LayerNorm(4)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"BatchNorm' stands where .*two_vector"):
        AdaFisher(nn.BatchNorm1d(4), norm_layers="two_vector").load_state_dict(state)


def test_state_of_another_optimizer_is_refused() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="no 'curvature'"):
        AdaFisher(model).load_state_dict(torch.optim.Adam(model.parameters()).state_dict())


def test_number_of_groups_must_agree() -> None:
    model = nn.Linear(4, 3)
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias]}]
    state = AdaFisherW(model, params=groups).state_dict()
    with pytest.raises(ValueError, match="it has 2 parameter groups, the optimizer has 1"):
        AdaFisherW(model).load_state_dict(state)
    restored = AdaFisherW(model, params=[{"params": [model.weight]}, {"params": [model.bias]}])
    restored.load_state_dict(state)
    assert [group["lr"] for group in restored.param_groups] == [0.5, 1e-3]


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("halfway", [False, True])
def test_state_is_loaded_into_another_dtype(
    saved: torch.dtype, loaded: torch.dtype, halfway: bool
) -> None:
    source = CNN.model().to(saved)
    optimizer = AdaFisher(source)

    def step(model: nn.Module, own: AdaFisher, index: int, dtype: torch.dtype) -> None:
        loss_of(model(CNN.batch(index).to(dtype)), index).backward()
        own.step()
        own.zero_grad()

    for index in range(2):
        step(source, optimizer, index, saved)
    if halfway:
        loss_of(source(CNN.batch(5).to(saved)), 5).backward()
    other = CNN.model().to(loaded)
    other.load_state_dict(source.state_dict())
    restored = AdaFisher(other)
    restored.load_state_dict(optimizer.state_dict())
    factors = torch.promote_types(loaded, torch.float32)
    for layer in restored.state_dict()["curvature"]["layers"].values():
        tensors = [value for value in layer.values() if isinstance(value, torch.Tensor)]
        assert len(tensors) == (4 if halfway else 2)
        assert {tensor.dtype for tensor in tensors} == {factors}
    assert restored.state[other[0].weight]["exp_avg"].dtype is loaded
    step(other, restored, 7, loaded)
    assert all(torch.isfinite(p).all() for p in other.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize(("saved", "loaded"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_state_is_loaded_onto_another_device(saved: str, loaded: str) -> None:
    source = CNN.model().to(saved)
    optimizer = AdaFisher(source)
    loss_of(source(CNN.batch(0).to(saved)).cpu(), 0).backward()
    optimizer.step()
    other = CNN.model().to(loaded)
    restored = AdaFisher(other)
    restored.load_state_dict(optimizer.state_dict())
    loss_of(other(CNN.batch(1).to(loaded)).cpu(), 1).backward()
    restored.step()
    for layer in restored.state_dict()["curvature"]["layers"].values():
        assert layer["grad_diag"].device.type == loaded


@pytest.mark.parametrize("case_id", ["mixed_image", "mixed_tokens"])
@pytest.mark.parametrize("steps", [0, 2])
def test_every_layer_kind_is_restored(case_id: str, steps: int, tmp_path: Path) -> None:
    case = BY_ID[case_id]
    models = case.model(), case.model()
    optimizers = [AdaFisher(m, embeddings=case.embeddings) for m in models]

    def run(i: int, indices: range) -> None:
        for index in indices:
            loss_of(models[i](case.batch(index)), index).backward()
            optimizers[i].step()
            optimizers[i].zero_grad()

    run(0, range(steps))
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(through_file(optimizers[0].state_dict(), tmp_path))
    for i in (0, 1):
        run(i, range(steps, steps + 3))
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda c: c.pop("layers"), "its 'curvature' has no 'layers'"),
        (lambda c: c.pop("step"), "its 'curvature' has no 'step'"),
        (lambda c: c["options"].update(colour=1), "its option 'colour' is not known here"),
    ],
)
def test_damaged_state_is_refused(spoil: Callable[[Any], Any], difference: str) -> None:
    optimizer = AdaFisher(CNN.model())
    state = optimizer.state_dict()
    spoil(state["curvature"])
    with pytest.raises(ValueError, match=difference):
        optimizer.load_state_dict(state)


def test_state_with_other_embeddings_is_refused() -> None:
    model = build(lambda: nn.Embedding(5, 4), lambda: nn.Linear(4, 3))
    state = AdaFisher(model, embeddings=True).state_dict()
    with pytest.warns(UserWarning, match=r"0\.weight"):
        plain = AdaFisher(model)
    with pytest.raises(ValueError, match="layer '0: Embedding' stands where the model has '1: Lin"):
        plain.load_state_dict(state)
