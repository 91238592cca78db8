"""The forms of a step: each method runs in the one that its YAML states, with the same numbers."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.bench.adafisher import method_of
from experiments.bench.forms import forms_of
from experiments.config import commandline
from experiments.config.sections import MethodSection, Needs
from experiments.engine import parallel
from experiments.engine.build import build_optimizer
from experiments.engine.step import backward
from experiments.optimizers.forms import form_of, load
from experiments.optimizers.transform import PreconditionedSGD
from tests.experiments.optimizers.test_transform import Scale

OPTIMIZERS = commandline.choices("optimizer")
CHOSEN = [name for name in OPTIMIZERS if forms_of(method_of(name))]
IN_BFLOAT16 = ("muon", "normuon")  # Newton-Schulz, by their libraries
STEPS = 12
Batch = tuple[Tensor, Tensor]


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Smooth, and without a parameter whose gradient is rounding alone, as a bias before a norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.Tanh(),
        nn.Linear(16, 16),
        nn.Tanh(),
        nn.Linear(16, 3),
    ).to(dtype)


def batches(dtype: torch.dtype = torch.float32) -> Iterator[Batch]:
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(8, 2, 4, 4, generator=generator, dtype=torch.float64)
        yield inputs.to(dtype), torch.randint(3, (8,), generator=generator)


def gradients(model: nn.Module, optimizer: Optimizer, batch: Batch, needs: Needs) -> None:
    optimizer.zero_grad(set_to_none=True)
    logits = model(batch[0])
    if needs.logits:
        optimizer.observe(logits)  # type: ignore[attr-defined]
    backward(F.cross_entropy(logits, batch[1]), create_graph=needs.create_graph)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([param.detach().double().flatten() for param in model.parameters()])


def trained(method: MethodSection, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The weights after every step."""
    model = net(dtype)
    optimizer = build_optimizer(method, model)
    found = []
    for batch in batches(dtype):
        gradients(model, optimizer, batch, method.needs)
        optimizer.step()
        found.append(weights(model))
    optimizer.zero_grad(set_to_none=True)
    return found


class Calls(TorchDispatchMode):
    """Names of the operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


KERNELS = {
    "adam": "_fused_adam_",
    "adamw": "_fused_adamw_",
    **dict.fromkeys(("sgd", "kfac", "ekfac", "shampoo"), "_fused_sgd_"),
}


def calls_of_a_step(method: MethodSection) -> set[str]:
    model = net()
    optimizer = build_optimizer(method, model)
    gradients(model, optimizer, next(batches()), method.needs)
    with Calls() as calls:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return calls.names


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_method_states_its_form(name: str) -> None:
    method = method_of(name)
    form = form_of(build_optimizer(method, net()), method.stated_form)
    assert form
    assert "default" not in form, "left to the library, whose next release may have another"


@pytest.mark.parametrize("name", KERNELS)
def test_the_fused_kernel_is_what_steps(name: str) -> None:
    method = method_of(name)
    assert KERNELS[name] in calls_of_a_step(method)
    assert not any(call.startswith("_fused") for call in calls_of_a_step(method.having(fused=None)))


@pytest.mark.parametrize(("name", "call"), [("adahessian", "_foreach_lerp_"), ("muon", "bmm")])
def test_calls_for_many_parameters_are_made_in_the_foreach_form_alone(name: str, call: str) -> None:
    method = method_of(name)
    assert call in calls_of_a_step(method)
    assert call not in calls_of_a_step(method.having(foreach=False))


def test_the_library_has_no_other_form_of_soap() -> None:
    """Else its YAML would have to choose."""
    method = method_of("soap")
    assert set(forms_of(method.having(foreach=None))) == {"plain"}
    assert not any("foreach" in call or "fused" in call for call in calls_of_a_step(method))


@pytest.mark.parametrize("name", [name for name in CHOSEN if name not in IN_BFLOAT16])
def test_all_forms_agree_with_the_plain_one_in_float64(name: str) -> None:
    """In every step, within what the plain form is off in float32; in float64 to rounding."""
    method = method_of(name)
    if "fisher" in method.arguments:
        method = method.having(fisher="empirical")  # labels are drawn otherwise in float64
    if name == "shampoo":
        method = method.having(ridge=1e-4)  # 1e-12 blows rounding up
    forms = forms_of(method)
    assert len(forms) > 1
    exact = trained(forms["plain"], torch.float64)
    rounding = [distance(*pair) for pair in zip(trained(forms["plain"]), exact, strict=True)]
    assert max(rounding) < 1e-4
    for form in set(forms) - {"plain"}:
        for step, found in enumerate(trained(forms[form])):
            assert distance(found, exact[step]) <= 3 * rounding[step] + 1e-7, (form, step)
        for found, wanted in zip(trained(forms[form], torch.float64), exact, strict=True):
            assert distance(found, wanted) < 1e-12, form


@pytest.mark.parametrize("name", IN_BFLOAT16)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forms_in_bfloat16_agree_within_its_rounding(name: str, dtype: torch.dtype) -> None:
    """The first step to four units of bfloat16, all steps to a quarter of the way.

    Whatever the parameters are, the momentum is rounded to eight bits: which element falls to
    which side depends on the processor, and one that does sets all later steps apart.
    """
    forms = forms_of(method_of(name))
    start = weights(net(torch.float64))
    exact = trained(forms["plain"], torch.float64)
    assert len(forms) > 1
    for form in set(forms) - {"plain"}:
        found = trained(forms[form], dtype)
        way = [(wanted - start).norm() for wanted in exact]
        off = [(a - b).norm() for a, b in zip(found, exact, strict=True)]
        assert off[0] <= 4 * 2**-8 * way[0]
        assert all(a <= b / 4 for a, b in zip(off, way, strict=True))


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", ["sgd", "kfac", "shampoo", "adamw"])
def test_a_gradient_that_comes_later_than_others_is_stepped(name: str) -> None:
    method = method_of(name).having(lr=1e-2)
    found = []
    for form in ("plain", "fused"):
        model = net(torch.float64)
        optimizer = build_optimizer(forms_of(method)[form], model)
        for step, batch in enumerate(batches(torch.float64)):
            gradients(model, optimizer, batch, method.needs)
            if step < 3:
                model[-1].bias.grad = None
            optimizer.step()
        found.append(weights(model))
    assert distance(*found) < 1e-6


@pytest.mark.parametrize("name", ["sgd", "shampoo"])
def test_a_first_step_that_a_loss_scale_skips_leaves_no_momentum(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that nobody wrote to is NaN here, to be seen."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for form in ("plain", "fused"):
            model = net(torch.float64)
            optimizer = build_optimizer(forms_of(method_of(name))[form], model)
            scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
            for step, (inputs, labels) in enumerate(batches(torch.float64)):
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(model(inputs), labels)
                scaler.scale(loss * (torch.inf if step == 0 else 1)).backward()
                scaler.step(optimizer)
                scaler.update()
            found.append(weights(model))
    finally:
        torch.use_deterministic_algorithms(False)
    assert distance(*found) < 1e-6


def test_a_transform_sees_gradients_without_the_loss_scale() -> None:
    """It clips them: of a gradient 1024 times too long the threshold would leave little."""
    found = []
    for scale in (1.0, 1024.0):
        model = net()
        optimizer = PreconditionedSGD(
            model.parameters(), Scale(model, 3.0), lr=0.1, max_norm=0.5, fused=True
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for inputs, labels in batches():
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(F.cross_entropy(model(inputs), labels)).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append(weights(model))
    assert distance(*found) < 1e-6


@pytest.mark.parametrize("name", ["adamw", "sgd", "shampoo"])
@pytest.mark.parametrize(("before", "after"), [("plain", "fused"), ("fused", "plain")])
def test_a_run_goes_on_in_its_own_form_from_a_state_of_another(
    name: str, before: str, after: str
) -> None:
    method = method_of(name)
    model = net()
    first = build_optimizer(forms_of(method)[before], model)
    for batch in batches():
        gradients(model, first, batch, method.needs)
        first.step()
    other = copy.deepcopy(model)
    second = build_optimizer(forms_of(method)[after], other)
    parallel.load_optimizer(second, copy.deepcopy(first.state_dict()))
    assert form_of(second) == after
    for one, optimizer in ((model, first), (other, second)):
        gradients(one, optimizer, next(batches()), method.needs)
        optimizer.step()
    assert distance(weights(other), weights(model)) < 1e-6


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_state_of_another_layout_is_laid_out_as_its_parameters(name: str) -> None:
    """The kernels of the CPU go through memory: what is in another order would be mixed up."""
    method = method_of(name)
    found = []
    for form in ("plain", "fused"):
        model = net().to(memory_format=torch.channels_last)
        optimizer = build_optimizer(forms_of(method)[form], model)
        gradients(model, optimizer, next(batches()), method.needs)
        optimizer.step()
        state = optimizer.state_dict()
        entries = {
            number: {key: value.contiguous() for key, value in entry.items()}
            for number, entry in state["state"].items()
        }
        load(optimizer, {**state, "state": entries})
        for batch in batches():
            gradients(model, optimizer, batch, method.needs)
            optimizer.step()
        found.append(weights(model))
    assert distance(*found) < 1e-6


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_lie_in_memory_as_their_parameters(create_graph: bool) -> None:
    """Which the fused kernels of the CPU take for granted: from others they read wrong numbers."""
    model = net().to(memory_format=torch.channels_last)
    inputs, labels = next(batches())
    for layout in (torch.channels_last, torch.contiguous_format):
        model.zero_grad(set_to_none=True)
        logits = model(inputs.to(memory_format=layout))
        backward(F.cross_entropy(logits, labels), create_graph=create_graph)
        for param in model.parameters():
            assert param.grad is not None
            assert param.grad.stride() == param.stride()
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize(("name", "fused"), [("sgd", None), ("adamw", True)])
def test_of_split_parameters_sgd_is_left_to_torch_which_has_no_fused_one(
    name: str, fused: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "is_split", lambda params: True)
    assert build_optimizer(method_of(name), net()).param_groups[0]["fused"] is fused


def test_a_form_is_told_by_the_groups_beside_what_is_stated() -> None:
    params = [nn.Parameter(torch.zeros(2))]
    for flags, form in (
        ({"fused": True}, "fused"),
        ({"foreach": True}, "foreach"),
        ({"foreach": False}, "plain"),
        ({}, "default"),
    ):
        optimizer = torch.optim.SGD(params, **flags)
        assert form_of(optimizer) == form
        assert form_of(optimizer, "batched") == f"batched, {form}"
    assert form_of(Optimizer(params, {"lr": 1.0})) is None
    assert form_of(Optimizer(params, {"lr": 1.0}), "plain") == "plain"
