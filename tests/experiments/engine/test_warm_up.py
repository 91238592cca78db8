"""What a run pays once is paid before its clock starts, and changes nothing else."""

import gc
import random
import weakref

import numpy as np
import pytest
import torch

from experiments.config import commandline
from experiments.engine import warm_up as warming
from experiments.engine.build import build, build_task
from experiments.engine.loop import Trainer
from experiments.engine.ranks import Ranks
from experiments.engine.warm_up import warm_up
from experiments.records.schema import load_environment, load_run
from experiments.run import attempt, run
from tests.support import faulty

METHODS = commandline.choices("optimizer")
CLOCKS = ("seconds", "_per_second")


def rows(config):
    assert run.execute(config).status == "done"
    found = load_run(config.runs_dir / config.run_id).rows
    return [{key: row[key] for key in row if not key.endswith(CLOCKS)} for row in found]


def without(monkeypatch, config, folder):
    """The rows of a build that has no warm-up."""
    with monkeypatch.context() as patch:
        patch.setattr(attempt, "warm_up", lambda *arguments, **keywords: 0.0)
        return rows(config.having(runs_dir=str(folder)))


def warm(config, **more):
    return warm_up(config, Ranks(), task=build_task(config), **more)


@pytest.mark.parametrize("name", METHODS)
def test_every_measurement_is_that_of_a_run_without_it(make_config, monkeypatch, tmp_path, name):
    """Over an epoch, its ragged batch and two refreshes, bit for bit."""
    config = make_config(f"optimizer={name}", "budget=steps", "budget.steps=24")
    key = config.optimizer.refresh_key
    if key:
        config = config.having(optimizer=config.optimizer.having(**{key: 12}).values)
    found = rows(config)
    assert len(found) == 2
    assert found == without(monkeypatch, config, tmp_path / "cold")


@pytest.mark.parametrize(
    "changes",
    [
        ("task=generated_text", "precision=bf16"),
        ("loss_scale=2", "task.batch_size=100"),
        ("optimizer=adam", "control=scalar"),
    ],
)
def test_streams_and_scales_are_untouched(make_config, monkeypatch, tmp_path, changes):
    config = make_config(*changes, "budget=steps", "budget.steps=8")
    assert rows(config) == without(monkeypatch, config, tmp_path / "cold")


def test_the_streams_of_the_process_go_on_where_they_were(make_config):
    config = make_config("optimizer=ekfac")
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = random.random(), np.random.random(), torch.rand(())
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    warm(config)
    assert (random.random(), np.random.random(), torch.rand(())) == expected


@pytest.mark.parametrize("name", METHODS)
def test_nothing_of_it_is_held_when_the_run_is_built(make_config, monkeypatch, name):
    made = []

    def spy(*arguments, **keywords):
        built = build(*arguments, **keywords)
        made.extend([weakref.ref(built.model), weakref.ref(built.optimizer)])
        return built

    monkeypatch.setattr(warming, "build", spy)
    config = make_config(f"optimizer={name}")
    gc.disable()
    try:
        warm(config)
        assert [one() for one in made] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("steps", "drop_last", "sizes"),
    [
        (1, False, [64]),
        (2, False, [64] * 2),
        (17, False, [64] * 2),
        (18, False, [64] * 2 + [62]),  # 1150 samples: the ragged batch is the last of 18
        (18, True, [64] * 2),
    ],
)
def test_each_kind_of_step_that_the_run_has_is_taken_once(
    make_config, monkeypatch, steps, drop_last, sizes
):
    config = make_config(
        "budget=steps", f"budget.steps={steps}", f"task.drop_last={str(drop_last).lower()}"
    )
    taken, plain = [], Trainer.train_on
    length = len(build_task(config).train)
    assert length % 64 == sizes[-1] % 64 or sizes[-1] == 64

    def spy(trainer, inputs, targets):
        taken.append(len(inputs))
        return plain(trainer, inputs, targets)

    monkeypatch.setattr(Trainer, "train_on", spy)
    warm(config)
    assert taken == sizes


@pytest.mark.parametrize(("steps", "period"), [(10, 10), (11, 2)])
@pytest.mark.parametrize("name", ["kfac", "soap"])
def test_a_second_refresh_comes_soon_where_the_run_has_one(
    make_config, monkeypatch, name, steps, period
):
    seen = []

    def spy(config, *arguments, **keywords):
        seen.append(config.optimizer.refresh_period)
        return build(config, *arguments, **keywords)

    monkeypatch.setattr(warming, "build", spy)
    warm(make_config(f"optimizer={name}", "budget=steps", f"budget.steps={steps}"))
    assert seen == [period]


def with_fault(make_config, fault, *more):
    return make_config(
        *("optimizer=sgd", f"optimizer._target_={faulty.__name__}.FaultySGD"),
        *(f"+optimizer.fault={fault}", *more),
    )


def test_what_is_set_up_once_is_not_in_the_training_time(make_config, monkeypatch):
    monkeypatch.setattr(faulty, "_compiled", [])
    config = with_fault(make_config, "compiles")
    assert run.execute(config).status == "done"
    progress = load_run(config.runs_dir / config.run_id).progress
    assert progress["train_seconds"] < faulty.COMPILING_SECONDS < progress["setup_seconds"]


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("raises", "failed", "ArithmeticError: the fault of this test"),
        ("takes_memory", "out_of_memory", "can't allocate memory"),
        ("diverges", "diverged", "step 2"),
    ],
)
def test_what_a_step_raises_is_told_by_the_run(make_config, fault, status, reason):
    config = with_fault(make_config, fault)
    outcome = run.execute(config)
    assert outcome.status == status
    assert reason in outcome.reason
    # It had begun to train: what was in force is recorded.
    assert "remarks" in load_environment(config.runs_dir / config.run_id)
