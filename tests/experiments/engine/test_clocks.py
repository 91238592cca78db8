"""What the clocks of a run count: training in one, passes over the test split in the other."""

import math

import pytest

from experiments.engine import loop
from experiments.engine.build import build
from experiments.engine.evaluation import evaluate
from experiments.engine.loop import Trainer
from experiments.records.schema import load_run
from experiments.run import run
from tests.support.calibrations import made_up


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves: a step by 1, a pass over validation by 100, over test by 10."""
    now = [0.0]
    plain = Trainer._step

    def step(trainer, inputs, targets):
        now[0] += 1
        return plain(trainer, inputs, targets)

    def passed(built, split):
        now[0] += 10 if split is built.task.test else 100
        return evaluate(built, split)

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(loop, "evaluate", passed)
    monkeypatch.setattr(Trainer, "_now", lambda trainer: now[0])
    return now


def test_passes_over_the_test_split_have_a_clock_of_their_own(make_config, clock):
    trainer = Trainer(build(make_config("budget.steps=36")), seed=0)  # two epochs of 18 steps
    rows = list(trainer.run())
    assert [row["train_seconds"] for row in rows] == [18.0, 36.0]
    assert trainer.counters.evaluation_seconds == 20.0
    assert not any("evaluation" in key for row in rows for key in row)


def test_a_stopped_run_counts_on(make_config, clock, stop_after):
    config = make_config("budget.steps=36")
    stop_after(config, 20)  # after the first evaluation
    assert run.execute(config).status == "done"
    progress = load_run(config.runs_dir / config.run_id).progress
    assert (progress["train_seconds"], progress["evaluation_seconds"]) == (36.0, 20.0)


def test_a_run_that_leaves_the_test_set_alone_has_no_such_time(make_config):
    config = make_config("evaluate_test=false")
    assert run.execute(config).status == "done"
    record = load_run(config.runs_dir / config.run_id)
    assert record.progress["evaluation_seconds"] is None


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.4])
def test_at_equal_time_every_rate_falls_alike(make_config, ratio):
    """A step that is a little cheaper makes more than an epoch of what is one for the reference."""
    config = make_config("budget=match_seconds", "budget.reference_epochs=1")
    built = build(config, calibration=made_up(ratio=ratio))
    steps = built.limits.steps
    assert [built.schedule(part * steps) for part in (0.5, 0.9)] == pytest.approx(
        [0.5, 0.5 * (1 + math.cos(0.9 * math.pi))]
    )
