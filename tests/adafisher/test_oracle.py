"""AdaFisher against the dense float64 reference, after every step."""

from typing import Any

import pytest
import torch
from torch import nn

from adafisher import AdaFisher
from tests.support.cases import BY_ID, CASES, Case, loss_of
from tests.support.side_by_side import SideBySide, estimate

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*no rows came with the gradients of 'read':UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]

STEPS = 8
# The released form is defined for batches only.
NORMS = [case for case in CASES if "norm" in case.id and "unbatched" not in case.id]
PATCHED = [case for case in CASES if "conv" in case.id]
VARIANTS: dict[str, dict[str, Any]] = {
    "v3": {"gammas": (0.8, 0.8), "weight_decay": 5e-4},
    "interval": {"update_interval": 3, "factor_init": "ones"},
    "before": {"normalize": "before", "gammas": (0.5, 0.3), "minmax_eps": 1e-3},
    "released_every_3": {
        "gammas": (0.08, 0.992),
        "normalize": "before",
        "factor_init": "ones",
        "update_interval": 3,
        "minmax_eps": 1e-6,
        "norm_layers": "two_vector",
        "patch_mean": True,
        "constant_factor": "zeros",
    },
    "patch_mean": {"patch_mean": True, "minmax_eps": 1e-2},
    "coupled": {"weight_decay": 0.3, "lr": 3e-3, "beta": 0.6, "damping": 1e-2},
    "decoupled": {"weight_decay": 0.3, "decoupled": True, "lr": 5e-4},
    "maximize": {"maximize": True, "weight_decay": 0.1, "damping": 0.1},
    "no_momentum": {"beta": 0.0},
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_case_follows_the_reference(case: Case) -> None:
    side = SideBySide(case)
    before = [p.clone() for p in side.model.parameters()]
    side.train(range(STEPS))
    trainable = [p.requires_grad for p in side.model.parameters()]
    moved = [not torch.equal(p, q) for p, q in zip(side.model.parameters(), before, strict=True)]
    assert moved == trainable
    # Here, as to train all of them once more for this would take as long again.
    found = side.optimizer.curvature_stats()
    assert found.overall.entries > 0
    for spread in (found.overall, *found.layers.values()):
        if spread.entries:  # a layer whose weight is read without calling it has none
            assert 1.0 <= spread.min <= spread.median <= spread.max <= 1001.0 + 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case_id", ["cnn_inplace", "tokens_tied_head", "tied_convolutions"])
def test_every_variant_follows_the_reference(case_id: str, variant: str) -> None:
    SideBySide(BY_ID[case_id], **VARIANTS[variant]).train(range(STEPS))


@pytest.mark.parametrize("case", PATCHED, ids=lambda case: case.id)
def test_mean_over_the_patch_follows_the_reference(case: Case) -> None:
    SideBySide(case, **VARIANTS["patch_mean"]).train(range(2))


@pytest.mark.parametrize("case_id", ["mixed_image", "mixed_tokens"])
def test_mixed_models_in_another_order(case_id: str) -> None:
    side = SideBySide(BY_ID[case_id], weight_decay=0.1)
    side.optimizer.close()
    order = list(side.model.parameters())[::-1]
    side.optimizer = AdaFisher(
        side.model, params=order, weight_decay=0.1, embeddings=side.case.embeddings
    )
    side.train(range(STEPS))


@pytest.mark.parametrize("case", NORMS, ids=lambda case: case.id)
def test_two_vector_norm_layers_follow_the_reference(case: Case) -> None:
    SideBySide(case, **VARIANTS["released_every_3"]).train(range(STEPS))


@pytest.mark.parametrize(
    "case_id", ["linear", "mlp_inplace_relu", "conv_grouped", "tied_linear", "cnn_inplace"]
)
def test_large_damping_follows_sgd(case_id: str) -> None:
    case = BY_ID[case_id]
    damping, ratio = 1e9, 0.05
    ours, theirs = case.model(), case.model()
    optimizer = AdaFisher(ours, lr=ratio * damping, damping=damping, beta=0.0)
    sgd = torch.optim.SGD(theirs.parameters(), lr=ratio)
    for index in range(STEPS):
        for model, stepper in ((ours, optimizer), (theirs, sgd)):
            stepper.zero_grad()
            loss_of(model(case.batch(index)), index).backward()
            stepper.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_batch_of_one_gives_the_squared_gradient_of_a_linear_layer() -> None:
    model = nn.Linear(4, 3).double()
    optimizer = AdaFisher(model)
    loss_of(model(torch.randn(1, 4, dtype=torch.float64)), 0).backward()
    activation_diag, grad_diag = estimate(optimizer._curvature.capture.layers[""])
    product = torch.outer(grad_diag, activation_diag[0])
    assert model.weight.grad is not None
    assert model.bias.grad is not None
    torch.testing.assert_close(product[:, :-1], model.weight.grad.square(), rtol=1e-12, atol=0)
    torch.testing.assert_close(product[:, -1], model.bias.grad.square(), rtol=1e-12, atol=0)


def test_float32_stays_float32_and_near_the_reference() -> None:
    case = BY_ID["cnn_inplace"]
    side = SideBySide(case)
    model = case.model().float()
    optimizer = AdaFisher(model)
    for index in range(4):
        loss_of(model(case.batch(index).float()), index).backward()
        optimizer.step()
        optimizer.zero_grad()
        side.backward(index)
        side.step()
    for ours, theirs in zip(model.parameters(), side.model.parameters(), strict=True):
        assert ours.dtype is torch.float32
        assert optimizer.state[ours]["exp_avg"].dtype is torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=5e-3)


def test_blocks_of_a_large_parameter_agree_with_the_whole() -> None:
    case = Case("large", lambda: nn.Linear(900, 700), (4, 900))
    model = case.model()
    optimizer = AdaFisher(model, beta=0.0)
    loss_of(model(case.batch(0)), 0).backward()
    before, grad = model.weight.clone(), model.weight.grad
    activation_diag, grad_diag = estimate(optimizer._curvature.capture.layers[""])

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return (x - x.min()) / (x.max() - x.min())

    fisher_diag = torch.outer(scaled(grad_diag), scaled(activation_diag)[0])[:, :-1] + 1e-3
    optimizer.step()
    assert grad is not None
    torch.testing.assert_close(
        model.weight.detach(), before - 1e-3 * grad / fisher_diag, rtol=0, atol=1e-12
    )
    scratch = optimizer._stepper.plain_step.scratch
    assert max(b.numel() for b in scratch.values()) < model.weight.numel()
