"""Every form of the step gives the numbers of the plain one, after every step."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from adafisher import AdaFisher, AdaFisherW
from adafisher.execution import fused
from adafisher.execution.step import Hyperparameters, Update
from adafisher.execution.stepper import Stepper
from tests.support.cases import BY_ID, CASES, Case, loss_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*no rows came with the gradients of 'read':UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]

STEPS = 6
TOLERANCE = 1e-11  # float64; the forms round differently, by units in the last place
PLAIN = {"foreach": False, "fused": False}
RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "coupled": {"weight_decay": 0.3, "lr": 3e-3, "beta": 0.6, "damping": 1e-2},
    "decoupled": {"weight_decay": 0.3, "decoupled": True, "lr": 5e-4},
    "maximize": {"maximize": True, "weight_decay": 0.1, "damping": 0.1},
}
LARGE = [
    Case("large_linear", lambda: nn.Linear(130, 140), (4, 130)),
    Case("large_conv", lambda: nn.Conv2d(48, 64, 3, padding=1), (2, 48, 5, 4)),
    Case(
        "large_conv_channels_last",
        lambda: nn.Conv2d(48, 64, 3).to(memory_format=torch.channels_last),
        (2, 48, 5, 4),
    ),
    Case("large_conv_grouped", lambda: nn.Conv2d(96, 96, 3, groups=2), (2, 96, 4, 4)),
    Case("large_conv_pointwise", lambda: nn.Conv2d(160, 144, 1, bias=False), (2, 160, 3, 3)),
    Case("large_square", lambda: nn.Sequential(nn.Linear(150, 150), nn.Tanh()), (4, 150)),
    Case(
        "large_tied",
        lambda: nn.Sequential(layer := nn.Linear(150, 150), nn.Tanh(), layer, nn.Linear(150, 3)),
        (4, 150),
    ),
]


class OnAccelerator(Case):
    """A case whose model and batches are on an accelerator."""

    def model(self, seed: int = 0) -> nn.Module:
        return super().model(seed).cuda()

    def batch(self, index: int) -> torch.Tensor:
        return super().batch(index).cuda()


def assert_same(
    case: Case, execution: dict[str, Any], *, decoupled: bool = False, **options: Any
) -> None:
    """Train a model each way and compare parameters and momenta after every step."""
    make = AdaFisherW if decoupled else AdaFisher
    plain_model, model = case.model(), case.model()
    plain = make(plain_model, **PLAIN, **options)
    optimizer = make(model, **execution, **options)
    for index in range(STEPS):
        for each, stepper in ((plain_model, plain), (model, optimizer)):
            loss_of(each(case.batch(index)).cpu(), index).backward()
            stepper.step()
            stepper.zero_grad()
        for a, b in zip(plain_model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=TOLERANCE)
            if a in plain.state:
                expected = plain.state[a]["exp_avg"]
                torch.testing.assert_close(
                    optimizer.state[b]["exp_avg"], expected, rtol=0, atol=TOLERANCE
                )


@pytest.mark.parametrize("foreach", [None, True])
@pytest.mark.parametrize("case", CASES + LARGE, ids=lambda case: case.id)
def test_batches_agree_with_the_plain_step(case: Case, foreach: bool | None) -> None:
    assert_same(case, {"foreach": foreach, "fused": False})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case_id", ["cnn_inplace", "tokens_tied_head"])
def test_batches_agree_under_every_rule(case_id: str, rule: str) -> None:
    assert_same(BY_ID[case_id], {"foreach": True}, **RULES[rule])


def test_groups_of_their_own_are_batched_apart() -> None:
    case = BY_ID["mlp_inplace_relu"]
    results = []
    for foreach in (False, True):
        model = case.model()
        groups = [
            {"params": model[0].parameters(), "lr": 5e-3, "damping": 0.1},
            {"params": model[2].parameters(), "beta": 0.5, "maximize": True},
        ]
        optimizer = AdaFisher(model, params=groups, foreach=foreach)
        for index in range(STEPS):
            loss_of(model(case.batch(index)), index).backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("foreach", [None, True, False])
def test_an_empty_parameter_is_left_alone(foreach: bool | None) -> None:
    hyper = Hyperparameters(beta=0.9, coupled_decay=0.0, shrink=0.0, damping=0.1, maximize=False)
    empty, term = torch.zeros(0, 3), (torch.rand(0, 1), torch.rand(1, 3))
    stepper = Stepper(foreach=foreach)
    stepper.run([Update(empty, empty, empty, terms, 0.1, hyper) for terms in ([term], [])])
    assert not stepper.plain_step.scratch


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Takes the function that is compiled as it stands; collects the shapes that it saw."""
    shapes: list[tuple[int, ...]] = []

    def steps(scalars: torch.Tensor, *matrices: torch.Tensor) -> None:
        assert len(scalars) == fused.CALL_SIZE
        shapes.extend(tuple(param.shape) for param in matrices[::5])
        fused.fused_steps_(scalars, *matrices)

    monkeypatch.setattr(fused, "_compiled", lambda device, dtype: steps)
    return shapes


@pytest.mark.parametrize("case", CASES + LARGE, ids=lambda case: case.id)
def test_fused_function_agrees_with_the_plain_step(case: Case, uncompiled: list[Any]) -> None:
    assert_same(case, {"foreach": False, "fused": True})


@pytest.mark.parametrize("rule", RULES)
def test_fused_function_agrees_under_every_rule(rule: str, uncompiled: list[Any]) -> None:
    assert_same(BY_ID["cnn_inplace"], {"foreach": False, "fused": True}, **RULES[rule])
    assert (6, 36) in uncompiled


def test_channels_last_weights_are_matrices(uncompiled: list[Any]) -> None:
    assert_same(LARGE[2], {"fused": True})
    assert uncompiled.count((64, 48 * 9)) == STEPS


def test_a_call_takes_a_fixed_number_of_matrices(uncompiled: list[Any]) -> None:
    depth = fused.CALL_SIZE + 1
    case = Case("deep", lambda: nn.Sequential(*[nn.Linear(5, 5) for _ in range(depth)]), (4, 5))
    assert_same(case, {"foreach": False, "fused": True})
    assert uncompiled.count((5, 5)) == STEPS * depth
    assert len(uncompiled) == STEPS * 2 * fused.CALL_SIZE


@pytest.mark.slow
def test_compiled_once_for_all_shapes() -> None:
    torch._dynamo.reset()
    fused._compiled.cache_clear()
    torch._dynamo.utils.counters.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in LARGE:
            assert_same(case, {"fused": True}, lr=2e-3)
        for rule in RULES.values():
            assert_same(LARGE[0], {"fused": True}, **rule)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.gpu
@pytest.mark.parametrize("execution", [{}, {"foreach": True}, {"fused": False}], ids=str)
@pytest.mark.parametrize("case", LARGE + CASES[:6], ids=lambda case: case.id)
def test_forms_agree_on_an_accelerator(case: Case, execution: dict[str, Any]) -> None:
    assert_same(OnAccelerator(case.id, case.build, case.shape), execution)


def test_step_that_does_not_compile_says_so_once_and_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(device: torch.device, dtype: torch.dtype) -> None:
        raise RuntimeError("no compiler\nsecond line")

    monkeypatch.setattr(fused, "_compiled", fail)
    with pytest.warns(UserWarning, match="plain one is taken instead: RuntimeError: no comp") as w:
        assert_same(LARGE[0], {"fused": True})
    assert len(w) == 1
    assert "second line" not in str(w[0].message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"foreach": True, "fused": True}, "Invalid fused: True with foreach=True. Must be at"),
        ({"foreach": 1}, "Invalid foreach: 1. Must be True, False or None"),
        ({"fused": "yes"}, "Invalid fused: 'yes'. Must be True, False or None"),
    ],
)
def test_choices_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaFisher(nn.Linear(2, 2), **arguments)
