"""Scaled losses, autocast, and parameters that are not float32."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from adafisher import AdaFisher, AdaFisherW
from tests.support.cases import BY_ID, loss_of

CNN = BY_ID["cnn_inplace"]
# The scale shows in what Min-Max does not undo: running averages from ones, and an added eps.
OPTIONS: dict[str, Any] = {"factor_init": "ones", "gammas": (0.9, 0.5), "weight_decay": 0.01}
STEPS = 8


class Run:
    """A float32 model, its optimizer and its scaler."""

    def __init__(self, scaler: GradScaler | None = None, **options: Any) -> None:
        self.model = CNN.model().float()
        self.scaler = scaler or GradScaler("cpu", enabled=False)
        self.optimizer = AdaFisherW(self.model, **OPTIONS | options)

    def backward(self, index: int, spoil: bool = False) -> None:
        loss = loss_of(self.model(CNN.batch(index).float()), index)
        self.scaler.scale(loss * float("inf") if spoil else loss).backward()

    def finish(self, clip: float | None = None, clear: Callable[[], None] | None = None) -> None:
        if clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        (clear or self.optimizer.zero_grad)()

    def train(self, indices: range, clip: float | None = None) -> None:
        for index in indices:
            self.backward(index)
            self.finish(clip)


def scaler(scale: float = 2.0**16, growth_interval: int = 10**6) -> GradScaler:
    return GradScaler("cpu", init_scale=scale, growth_interval=growth_interval)


def by_function(**options: Any) -> Run:
    ours = scaler(2.0**10, **options)
    return Run(ours, loss_scale=lambda: ours.get_scale())


def by_scaler(**options: Any) -> Run:
    ours = scaler(2.0**10, **options)
    return Run(ours, loss_scale=ours)


def handed_over(**options: Any) -> Run:
    return Run(scaler(2.0**10, **options))


ALL = [handed_over, by_scaler, by_function]


def assert_same(ours: Run, theirs: Run, *, tolerance: float = 0.0) -> None:
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_loss_scale_1_against_2_to_the_16() -> None:
    one, large = Run(scaler(1.0)), Run(scaler(2.0**16))
    one.train(range(STEPS))
    large.train(range(STEPS))
    assert_same(one, large)


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("clip", [None, 0.01])
def test_scale_that_changes_with_and_without_clipping(
    build: Callable[..., Run], clip: float | None
) -> None:
    plain, scaled = Run(), build(growth_interval=2)
    if clip is not None and build is handed_over:
        scaled.backward(0)
        with pytest.raises(RuntimeError, match="build the optimizer with loss_scale=scaler"):
            scaled.finish(clip)
        return
    plain.train(range(STEPS), clip)
    scaled.train(range(STEPS), clip)
    assert scaled.scaler.get_scale() == 2.0**14
    assert_same(plain, scaled)


def test_scale_that_is_ignored_would_show() -> None:
    """The checks above can fail: with the scale withheld the run is another."""
    plain, scaled = Run(), Run(scaler(2.0**10, growth_interval=2), loss_scale=lambda: 1.0)
    plain.train(range(STEPS))
    scaled.train(range(STEPS))
    with pytest.raises(AssertionError):
        assert_same(plain, scaled, tolerance=1e-4)


def test_scale_by_hand() -> None:
    plain, scaled = Run(), Run(loss_scale=1024)
    plain.train(range(STEPS))
    for index in range(STEPS):
        (1024 * loss_of(scaled.model(CNN.batch(index).float()), index)).backward()
        for param in scaled.model.parameters():
            assert param.grad is not None
            param.grad /= 1024
        scaled.finish()
    assert_same(plain, scaled)


def test_accumulation_and_refreshes_at_intervals() -> None:
    plain = Run(update_interval=3)
    scaled = Run(scaler(2.0**10, growth_interval=1), update_interval=3)
    for index in range(STEPS):
        for run in (plain, scaled):
            run.backward(2 * index)
            run.backward(2 * index + 1)
            run.finish()
    assert_same(plain, scaled)


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("clear_by", ["optimizer", "model"])
def test_skipped_step_leaves_no_trace(build: Callable[..., Run], clear_by: str) -> None:
    plain, scaled = Run(), build()
    for run in (plain, scaled):
        run.train(range(2))
    before = scaled.optimizer.state_dict()
    scaled.backward(50, spoil=True)
    buffers = [b.clone() for b in plain.model.buffers()]
    scaled.finish(clear=getattr(scaled, clear_by).zero_grad)
    assert scaled.scaler.get_scale() == 2.0**9
    after = scaled.optimizer.state_dict()
    assert repr(after) == repr(before)
    for own, kept in zip(scaled.model.buffers(), buffers, strict=True):
        own.copy_(kept)  # the forward pass itself moved the batch norm
    for run in (plain, scaled):
        run.train(range(2, STEPS))
    assert_same(plain, scaled)
    assert scaled.optimizer.coverage().dropped == {}


def test_scaler_leaves_nothing_on_the_optimizer() -> None:
    run = handed_over()
    run.train(range(2))
    assert not hasattr(run.optimizer, "grad_scale")
    assert not hasattr(run.optimizer, "found_inf")
    run.model.zero_grad()
    loss_of(run.model(CNN.batch(3).float()), 3).backward()
    run.optimizer.step()  # without the scaler again
    assert run.optimizer.state[run.model[0].weight]["step"] == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_factors_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))]
    models.append(nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3)))
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [AdaFisher(model, damping=0.05) for model in models]
    scalers = [GradScaler("cpu", enabled=False), GradScaler("cpu", growth_interval=2)]
    for step in range(6):
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
        for i, model in enumerate(models):
            with torch.autocast("cpu", dtype=dtype, enabled=i == 1):
                loss = loss_of(model(x).float(), step)
            scalers[i].scale(loss).backward()
            scalers[i].step(optimizers[i])
            scalers[i].update()
            optimizers[i].zero_grad()
    for name, layer in optimizers[1].state_dict()["curvature"]["layers"].items():
        exact = optimizers[0].state_dict()["curvature"]["layers"][name]
        for key in ("activation_diag", "grad_diag"):
            assert layer[key].dtype is torch.float32
            torch.testing.assert_close(layer[key], exact[key], rtol=0.15, atol=0)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=5e-3)
    assert optimizers[1].coverage().dropped == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "case_id", ["cnn_inplace", "mixed_tokens", "conv_transpose_grouped_dilated"]
)
def test_half_precision_parameters_have_float32_factors(case_id: str, dtype: torch.dtype) -> None:
    case = BY_ID[case_id]
    half, whole = case.model().to(dtype), case.model().to(dtype).float()
    optimizers = [
        AdaFisher(model, damping=0.05, embeddings=case.embeddings) for model in (half, whole)
    ]

    def inputs(index: int, dtype: torch.dtype) -> Tensor:
        batch = case.batch(index)
        return batch if case.tokens else batch.to(dtype)

    for index in range(4):
        for model, optimizer, kind in zip(
            (half, whole), optimizers, (dtype, torch.float32), strict=True
        ):
            loss_of(model(inputs(index, kind)).float(), index).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, layer in optimizers[0].state_dict()["curvature"]["layers"].items():
        for key in ("activation_diag", "grad_diag"):
            assert layer[key].dtype is torch.float32, name
    for a, b in zip(half.parameters(), whole.parameters(), strict=True):
        assert a.dtype is dtype
        assert optimizers[0].state[a]["exp_avg"].dtype is dtype
        torch.testing.assert_close(a.float(), b, rtol=0.02, atol=0.02)
