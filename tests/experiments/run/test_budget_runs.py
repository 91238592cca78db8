"""Runs whose end a clock or a metric decides, under a clock of the test's own."""

import json

import pytest

from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.records.schema import METRICS_FILE, load_run
from experiments.run import run

STEPS_PER_EPOCH = 18  # 1,150 images of digits, 64 a batch


@pytest.fixture(autouse=True)
def quarter_seconds(monkeypatch):
    """Each step takes a quarter of a second and nothing else takes time; binary sums are exact."""
    clock = {"now": 0.0}
    step = Trainer._step

    def timed(trainer, inputs, targets):
        clock["now"] += 0.25
        return step(trainer, inputs, targets)

    monkeypatch.setattr(Trainer, "_step", timed)
    monkeypatch.setattr(Trainer, "_now", lambda trainer: clock["now"])


def record_of(config):
    return load_run(config.runs_dir / config.run_id)


def test_a_training_time_ends_with_the_step_that_reaches_it(make_config):
    for seconds, steps in (("1.0", 4), ("1.1", 5), ("0.01", 1)):
        config = make_config("budget=train_seconds", f"budget.train_seconds={seconds}")
        assert run.execute(config).status == "done"
        record = record_of(config)
        assert record.progress["step"] == steps
        assert record.progress["train_seconds"] == steps / 4
        assert record.progress["total_steps"] is None
        assert record.rows[-1]["step"] == steps  # an evaluation is at the end
        assert record.summary["budget_train_seconds"] == float(seconds)


def test_the_schedule_of_a_training_time_anneals_over_it(make_config):
    """Under an even clock it is the schedule of as many steps, per step."""
    timed = make_config("budget=train_seconds", "budget.train_seconds=1.5", "schedule.per=step")
    counted = make_config("budget.steps=6", "schedule.per=step")
    lrs = {}
    for name, config in (("timed", timed), ("counted", counted)):
        found = []
        trainer = Trainer(
            build(config),
            seed=0,
            on_step=lambda t, loss, to=found: to.append(t.built.optimizer.param_groups[0]["lr"]),
        )
        list(trainer.run())
        lrs[name] = found
    assert len(lrs["timed"]) == 6
    assert lrs["timed"] == pytest.approx(lrs["counted"])


def test_a_target_ends_the_run_at_the_first_evaluation_that_reaches_it(make_config):
    whole = make_config("budget=epochs", "budget.epochs=3")
    run.execute(whole)
    values = [row["validation_accuracy_percent"] for row in record_of(whole).rows]
    target = sorted(values)[1]  # the first is below it, whatever the rest is
    reached = next(i for i, value in enumerate(values) if value >= target) + 1
    config = make_config("budget=target", f"budget.target={target}", "budget.max_epochs=3")
    assert run.execute(config).status == "done"
    record = record_of(config)
    assert record.rows == record_of(whole).rows[:reached]  # its schedule is that of the bound
    assert record.summary["target_metric"] == "validation_accuracy_percent"
    assert record.summary["steps_to_target"] == reached * STEPS_PER_EPOCH
    assert record.summary["train_seconds_to_target"] == reached * STEPS_PER_EPOCH / 4


def test_a_target_that_is_not_reached_ends_done_with_nulls(make_config):
    config = make_config("budget=target", "budget.target=101", "budget.max_epochs=1")
    assert run.execute(config).status == "done"
    record = record_of(config)
    assert record.progress["step"] == STEPS_PER_EPOCH
    assert record.summary["steps_to_target"] is None
    assert record.summary["train_seconds_to_target"] is None


def test_a_target_reached_before_a_kill_stays_reached(make_config, monkeypatch):
    """Killed between the checkpoint at the target and the last status."""
    config = make_config("budget=target", "budget.target=0", "budget.max_epochs=2")

    class Killed(BaseException):
        pass

    def killed(display, row):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("experiments.run.display.Display.row", killed)
        with pytest.raises(Killed):
            run.execute(config)
    assert run.execute(config).status == "done"
    record = record_of(config)
    assert record.progress["step"] == record.summary["steps_to_target"] == STEPS_PER_EPOCH


def test_a_target_of_a_metric_that_falls_is_reached_from_above(make_config, monkeypatch):
    trainer = Trainer(
        build(make_config("budget=target", "budget.target=3.5", "budget.max_epochs=1")), seed=0
    )
    monkeypatch.setattr(type(trainer.built.task), "higher_is_better", False)
    for value, steps in ((4.0, None), (3.5, 7)):
        trainer.counters.step = 7
        trainer._note_target({"validation_accuracy_percent": value})
        assert trainer.counters.steps_to_target == steps


def test_without_a_validation_split_the_target_is_one_of_test_and_the_record_says_so(make_config):
    config = make_config(
        "budget=target", "budget.target=0", "budget.max_epochs=1", "task.validation_fraction=0"
    )
    run.execute(config)
    record = record_of(config)
    assert record.summary["target_metric"] == "test_accuracy_percent"
    remarks = json.loads((record.path / "environment.json").read_text())["remarks"]
    assert any("judged on test" in remark for remark in remarks)


def test_a_checkpoint_from_before_targets_is_read(make_config):
    """The counters that came later begin as in a new run."""
    config = make_config()
    trainer = Trainer(build(config), seed=0)
    list(trainer.run())
    state = trainer.state_dict()
    del state["counters"]["steps_to_target"], state["counters"]["train_seconds_to_target"]
    again = Trainer(build(config), seed=0)
    again.load_state_dict(state)
    assert again.counters == trainer.counters
    assert list(again.run()) == []


def test_a_resumed_run_has_no_row_twice(make_config):
    config = make_config("budget=train_seconds", "budget.train_seconds=1")
    run.execute(config)
    path = config.runs_dir / config.run_id / METRICS_FILE
    before = path.read_bytes()
    assert run.execute(config).skipped
    assert path.read_bytes() == before
