"""A run that was stopped ends like one that was not, whatever state it had to keep.

Of a run that is killed, at any write, ``test_run`` tells; of optimizers by themselves
``test_conformance``; of sweeps ``test_sweep``, ``test_stopped_sweeps`` and ``test_kill_harness``;
of several processes ``test_torchrun``.
"""

import functools
from typing import Any, NamedTuple

import pytest
import torch

from experiments.config.run_config import RunConfig
from experiments.engine.loop import Trainer
from experiments.models.small_cnn import SmallCNN
from experiments.records.schema import load_run
from experiments.run import run


class Case(NamedTuple):
    """A config, and the steps after which a run of it is stopped."""

    overrides: str
    stops: tuple[int, ...] = (5,)
    seconds: float | None = None  # of a step, where the test has the clock; else it is the machine


# A refresh, or an evaluation, before and after the stop: 24 steps are an epoch.
METHOD = "optimizer={} budget.steps=30 task.batch_size=48"
CASES = {
    **{
        name: Case(METHOD.format(name), (1, 23, 24))
        for name in ("adam", "adafisher", "kfac", "shampoo")
    },
    "gradients": Case(
        METHOD.format("shampoo") + " optimizer.suite.needs.keep_gradients=true", (1, 23, 24)
    ),
    "dropout": Case(
        "task=generated_text model=gpt_tiny model.dropout=0.3 task.context=8 budget.steps=8"
    ),
    "fp16": Case("optimizer=adafisher precision=fp16 budget.steps=8"),
    "loss_scale": Case("optimizer=adahessian loss_scale=65536 budget.steps=8"),
    "pretrained": Case("pretrained.source={weights}", (2,)),
    "train_seconds": Case("budget=train_seconds budget.train_seconds=7.5", seconds=0.25),
    "target": Case(
        "budget=target budget.target=50 budget.max_epochs=3 task.evaluations_per_epoch=3",
        seconds=0.25,
    ),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.manual_seed(9)
    torch.save(SmallCNN(in_channels=1, num_classes=10, image_size=8).state_dict(), path)
    return path


@pytest.fixture
def machine(monkeypatch):
    """A loss scale that changes in every step; for a timed case also a clock that steps move."""
    scaler = functools.partial(torch.amp.GradScaler, growth_interval=1)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)

    def prepare(case):
        if case.seconds is None:
            return
        now = [0.0]
        step = Trainer._step

        def timed(trainer, inputs, targets):
            now[0] += case.seconds  # binary sums of quarters are exact
            return step(trainer, inputs, targets)

        monkeypatch.setattr(Trainer, "_step", timed)
        monkeypatch.setattr(Trainer, "_now", lambda trainer: now[0])

    return prepare


@pytest.fixture(scope="module")
def unbroken():
    """Records of the runs that nobody stopped, by case: each is made once."""
    return {}


def record_of(config: RunConfig) -> Any:
    return load_run(config.runs_dir / config.run_id)


def measurements(record: Any, *, timed: bool) -> list[dict[str, Any]]:
    """The rows, without what only a clock decides."""
    return [{k: v for k, v in row.items() if timed or k != "train_seconds"} for row in record.rows]


@pytest.mark.parametrize(
    ("name", "step"),
    [(name, step) for name, case in CASES.items() for step in case.stops],
    ids=lambda value: str(value),
)
def test_a_stopped_run_ends_like_an_unbroken_one(
    name, step, make_config, machine, weights, unbroken, stop_after
):
    case = CASES[name]
    machine(case)
    overrides = case.overrides.format(weights=weights).split()
    if name not in unbroken:
        config = make_config(*overrides, f"runs_dir={make_config().runs_dir}-unbroken")
        assert run.execute(config).status == "done"
        unbroken[name] = record_of(config)
    config = make_config(*overrides)
    assert stop_after(config, step).reason == f"SIGTERM: stopped after step {step}"
    left = record_of(config)
    assert left.status == "interrupted"
    assert left.progress["step"] == step
    assert run.execute(config).status == "done"
    ended, timed = record_of(config), case.seconds is not None
    found = measurements(ended, timed=timed)
    assert found == measurements(unbroken[name], timed=timed)
    assert len(found) >= (2 if len(case.stops) > 1 else 1)
    assert ended.identity == unbroken[name].identity
    if timed:
        for key in ("setup_seconds", "start_seconds"):  # of each attempt, by the machine's clock
            ended.progress.pop(key)
        assert ended.progress.items() <= unbroken[name].progress.items()
        assert "setup_seconds" in unbroken[name].progress
