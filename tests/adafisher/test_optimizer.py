"""The optimizer as a ``torch.optim`` optimizer: groups, closure, coverage, arguments."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from adafisher import AdaFisher, AdaFisherW
from tests.support.cases import BY_ID, CASES, Case, loss_of
from tests.support.side_by_side import SideBySide

CNN = BY_ID["cnn_inplace"]
MLP = BY_ID["mlp_inplace_relu"]


def test_groups_have_hyperparameters_of_their_own() -> None:
    side = SideBySide(MLP)
    side.optimizer.close()
    own = {"lr": 3e-3, "damping": 0.05, "weight_decay": 0.2, "beta": 0.5, "maximize": True}
    head = list(side.model[2].parameters())
    side.optimizer = AdaFisher(
        side.model, params=[{"params": side.model[0].parameters()}, {"params": head, **own}]
    )
    side.reference.group_of = {"2.weight": own, "2.bias": own}
    side.train(range(8))


def test_order_of_parameters_does_not_matter() -> None:
    side = SideBySide(CNN)
    side.optimizer.close()
    side.optimizer = AdaFisher(side.model, params=list(side.model.parameters())[::-1])
    side.train(range(8))


def test_some_parameters_only() -> None:
    side = SideBySide(CNN)
    side.optimizer.close()
    side.optimizer = AdaFisher(side.model, params=[side.model[3].weight])
    side.both(lambda model: [p.requires_grad_(p is model[3].weight) for p in model.parameters()])
    side.train(range(4))


def test_group_added_later_and_left_unchanged() -> None:
    side = SideBySide(MLP)
    side.optimizer.close()
    side.optimizer = AdaFisher(side.model, params=side.model[0].parameters())
    side.both(lambda model: model[2].requires_grad_(False))
    side.train(range(3))
    group = {"params": list(side.model[2].parameters()), "lr": 5e-3}
    kept = dict(group)
    side.optimizer.add_param_group(group)
    assert group == kept
    side.reference.group_of = {name: {"lr": 5e-3} for name in ("2.weight", "2.bias")}
    side.both(lambda model: model[2].requires_grad_(True))
    side.train(range(3, 8))


def test_named_parameters_are_taken() -> None:
    model = MLP.model()
    optimizer = AdaFisher(model, params=model.named_parameters())
    assert optimizer.param_groups[0]["params"] == list(model.parameters())


def test_closure() -> None:
    side = SideBySide(MLP)
    for index in range(8):

        def closure(index: int = index) -> torch.Tensor:
            side.optimizer.zero_grad()
            loss = loss_of(side.model(MLP.batch(index)), index)
            loss.backward()
            return loss

        expected = loss_of(side.model(MLP.batch(index)), index)
        assert torch.equal(side.optimizer.step(closure), expected)
        loss_of(side.reference_model(MLP.batch(index)), index).backward()
        side.reference.step()
        side.reference_model.zero_grad()
        side.compare()


def test_schedulers_change_the_lr() -> None:
    side = SideBySide(MLP)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(side.optimizer, T_max=6)
    for index in range(6):
        side.train([index])
        scheduler.step()
        side.reference.options["lr"] = scheduler.get_last_lr()[0]
    assert scheduler.get_last_lr()[0] < 1e-9


def test_steps_are_counted_for_each_parameter() -> None:
    model = CNN.model()
    optimizer = AdaFisher(model)
    for index in range(3):
        model[0].weight.requires_grad_(index != 1)
        optimizer.zero_grad()
        loss_of(model(CNN.batch(index)), index).backward()
        optimizer.step()
    assert optimizer.state[model[0].weight]["step"] == 2
    assert optimizer.state[model[6].weight]["step"] == 3


def test_decoupled_decay_defaults_to_the_papers() -> None:
    model = nn.Linear(2, 2)
    assert AdaFisher(model).defaults["weight_decay"] == 0.0
    assert AdaFisherW(model).defaults["weight_decay"] == 1e-2


@pytest.mark.parametrize("case", [c for c in CASES if c.covered], ids=lambda case: case.id)
def test_covered_models_do_not_warn(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coverage = AdaFisher(case.model(), embeddings=case.embeddings).coverage()
    assert coverage.identity == ()
    assert coverage.curvature == tuple(name for name, _ in case.model().named_parameters())


def test_uncovered_parameters_are_named_once() -> None:
    model = BY_ID["tokens_tied_head"].model()
    with pytest.warns(UserWarning, match="AdaFisher: 1 of 8 trainable .*: positions$") as caught:
        optimizer = AdaFisher(model)
    assert len(caught) == 1
    coverage = optimizer.coverage()
    assert coverage.identity == ("positions",)
    assert set(coverage.curvature) | {"positions"} == {n for n, _ in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(model(BY_ID["tokens_tied_head"].batch(0)), 0).backward()
        optimizer.step()


def test_frozen_parameters_are_not_warned_of() -> None:
    model = BY_ID["tokens_tied_head"].model()
    model.positions.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AdaFisher(model).coverage().identity == ("positions",)


def test_coverage_counts_steps_without_an_estimate() -> None:
    case = BY_ID["weight_multiplied_by_hand"]
    side = SideBySide(case)
    with pytest.warns(UserWarning, match="no rows came with the gradients of 'read'") as caught:
        side.train(range(3))
    assert len(caught) == 1
    assert side.optimizer.coverage().identity_steps == {"read.weight": 3, "read.bias": 3}


def test_attention_with_widths_of_its_own_is_declared() -> None:
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)
    with pytest.warns(UserWarning, match=r"6 of 8 .*q_proj_weight.*in_proj_bias, bias_k, bias_v"):
        optimizer = AdaFisher(attention)
    assert optimizer.coverage().curvature == ("out_proj.weight", "out_proj.bias")


def test_parametrized_weight_is_declared() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    with pytest.warns(UserWarning, match="2 of 3 trainable"):
        optimizer = AdaFisher(layer)
    layer(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    assert optimizer.coverage().curvature == ("bias",)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"lr": -1.0}, r"Invalid lr: -1.0. Must be a finite number >= 0"),
    ({"lr": "fast"}, r"Invalid lr: 'fast'"),
    ({"lr": float("nan")}, r"Invalid lr: nan"),
    ({"beta": 1.0}, r"Invalid beta: 1.0. Must be a finite number >= 0 and < 1"),
    ({"damping": 0.0}, r"Invalid damping: 0.0. Must be a finite number > 0"),
    ({"damping": float("inf")}, r"Invalid damping: inf"),
    ({"weight_decay": -0.1}, r"Invalid weight_decay: -0.1"),
    ({"gammas": (0.9,)}, r"Invalid gammas: \(0.9,\). Must be two numbers"),
    ({"gammas": "ab"}, r"Invalid gammas: 'ab'"),
    ({"gammas": (1.5, 0.1)}, r"Invalid gammas\[0\]: 1.5. Must be a finite number >= 0 and <= 1"),
    ({"gammas": (0.9, 1.0)}, r"Invalid gammas\[1\]: 1.0. Must be a finite number >= 0 and < 1"),
    ({"update_interval": 0}, r"Invalid update_interval: 0. Must be a whole number >= 1"),
    ({"update_interval": 1.5}, r"Invalid update_interval: 1.5"),
    ({"update_interval": True}, r"Invalid update_interval: True"),
    ({"minmax_eps": -1e-6}, r"Invalid minmax_eps: -1e-06"),
    ({"normalize": "never"}, r"Invalid normalize: 'never'. Must be one of after, before"),
    ({"factor_init": 1}, r"Invalid factor_init: 1. Must be one of zeros, ones"),
    ({"patch_mean": 1}, r"Invalid patch_mean: 1. Must be True or False"),
    ({"constant_factor": "x"}, r"Invalid constant_factor: 'x'. Must be one of ones, zeros"),
    ({"norm_layers": "x"}, r"Invalid norm_layers: 'x'. Must be one of per_channel, two_vector"),
    ({"embeddings": 1}, r"Invalid embeddings: 1. Must be True or False"),
    ({"loss_scale": 0}, r"Invalid loss_scale: 0. Must be a finite number > 0"),
    ({"loss_scale": float("inf")}, r"Invalid loss_scale: inf"),
    ({"loss_scale": True}, r"Invalid loss_scale: True. Must be a number, a GradScaler, a func"),
    ({"loss_scale": "auto"}, r"Invalid loss_scale: 'auto'"),
    ({"differentiable": True}, r"Invalid differentiable: True. Must be False: the factors"),
    ({"maximize": 1}, r"Invalid maximize: 1. Must be True or False"),
    ({"decay_norms_and_biases": 0}, r"Invalid decay_norms_and_biases: 0. Must be True or False"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(a) for a, _ in BAD])
@pytest.mark.parametrize("optimizer", [AdaFisher, AdaFisherW])
def test_arguments_out_of_range(
    optimizer: type[AdaFisher], arguments: dict[str, Any], message: str
) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=message):
        optimizer(model, **arguments)
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: AdaFisher(m.parameters()), TypeError, "generator. Must be a torch.nn.Module"),
        (lambda m: AdaFisher(nn.DataParallel(m)), ValueError, "DataParallel. Must be the module"),
        (lambda m: AdaFisher(torch.compile(m)), ValueError, "before it is wrapped or compiled"),
        (lambda m: AdaFisher(nn.Embedding(3, 2)), ValueError, "none of the layers Linear, Conv1d"),
        (
            lambda m: AdaFisher(m, params=[m.weight, nn.Parameter(torch.ones(7))]),
            ValueError,
            r"entry 1 of shape \(7,\) is not a parameter of the model",
        ),
        (lambda m: AdaFisher(m, params=[m.weight] * 2), ValueError, "given twice"),
        (lambda m: AdaFisher(m, params=[]), ValueError, "empty parameter list"),
        (lambda m: AdaFisher(m, params=[{"params": {m.weight}}]), TypeError, "ordered"),
        (lambda m: AdaFisher(m, params=["weight"]), TypeError, "Tensors"),
        (
            lambda m: AdaFisher(m, params=[{"params": [m.weight], "gammas": (0.1, 0.2)}]),
            ValueError,
            "Invalid group option gammas",
        ),
        (
            lambda m: AdaFisher(m, params=[{"params": [m.weight], "damping": -1}]),
            ValueError,
            "Invalid damping: -1",
        ),
        (
            lambda m: AdaFisher(m, params=[{"params": [m.weight], "differentiable": True}]),
            ValueError,
            "Invalid differentiable: True. Must be False",
        ),
    ],
)
def test_bad_models_and_parameters(
    make: Callable[[nn.Module], Any], error: type[Exception], message: str
) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(error, match=message):
        make(model)
    assert not model._forward_hooks
