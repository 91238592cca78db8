"""A run from config to record: statuses, skip, resume, and death at any moment."""

import errno
import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
import torch

from adafisher import native
from experiments.engine import failures
from experiments.engine.build import build
from experiments.engine.built import Built
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.records import store
from experiments.records.schema import (
    CHECKPOINT_FILE,
    DAMPING_SHARE,
    METRICS_FILE,
    PATCH_FILE,
    STATUS_FILE,
    load_run,
)
from experiments.records.store import RunFolder
from experiments.run import attempt, run
from experiments.sweep import supervision
from experiments.sweep.supervision import end_of_dead_child
from experiments.system import memory
from experiments.tracking.mirror import Mirror

METHODS = ("adam", "adafisher", "kfac", "shampoo")
KEEPS = "optimizer.suite.needs.keep_gradients=true"


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` of the run sees it."""


def folder_of(config) -> RunFolder:
    return RunFolder(config.runs_dir, config.run_id)


def measurements(config):
    """The rows without the one value that a clock decides."""
    rows = load_run(folder_of(config).path).rows
    return [{key: value for key, value in row.items() if key != "train_seconds"} for row in rows]


def test_a_run_leaves_a_whole_record(make_config):
    config = make_config("budget=epochs", "budget.epochs=2")
    outcome = run.execute(config)
    assert outcome.status == "done"
    record = load_run(folder_of(config).path)
    steps = record.progress["total_steps"] // 2
    assert [row["step"] for row in record.rows] == [steps, 2 * steps]
    assert [row["epoch"] for row in record.rows] == [1.0, 2.0]
    assert record.rows[0]["train_seconds"] < record.rows[1]["train_seconds"]
    assert record.rows[1]["train_loss"] < record.rows[0]["train_loss"]
    # The patch is there while the checkout has changes.
    names = {path.name for path in record.path.iterdir()} - {PATCH_FILE}
    assert names == {"config.yaml", "environment.json", "metrics.jsonl", "status.json"}
    environment = json.loads((record.path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    since = datetime.now(UTC) - datetime.fromisoformat(f"{environment['date']}T00:00+00:00")
    assert timedelta(0) <= since < timedelta(days=2)  # midnight may have passed


@pytest.mark.parametrize(
    ("overrides", "form"),
    [
        (["optimizer=adam"], "fused"),
        (["optimizer=adam", "optimizer.fused=false"], "plain"),
        (["optimizer=adam", "optimizer.fused=null"], "default"),
        (["optimizer=shampoo"], "batched, fused"),
        (["optimizer=adafisher"], "native" if native.library() else "mixed"),
        (["optimizer=adafisher", "control=scalar"], None),  # of another method's step
    ],
)
def test_a_record_says_in_which_form_the_step_was_computed(make_config, overrides, form):
    config = make_config(*overrides, "budget.steps=1")
    assert run.execute(config).status == "done"
    assert load_run(folder_of(config).path).summary["form"] == form


def test_curvature_is_logged_at_each_evaluation_by_methods_that_tell_of_it(make_config):
    found = {}
    for method in ("adafisher", "adam"):
        config = make_config(f"optimizer={method}", "budget=epochs", "budget.epochs=2")
        run.execute(config)
        rows = load_run(folder_of(config).path).rows
        found[method] = [{k: v for k, v in r.items() if k.startswith("curvature_")} for r in rows]
    assert found["adam"] == [{}, {}]
    for columns in found["adafisher"]:
        assert 1.0 <= columns["curvature_min"] <= columns["curvature_percentile_1"]
        assert columns["curvature_percentile_1"] <= columns["curvature_median"]
        assert columns["curvature_median"] <= columns["curvature_percentile_99"]
        assert columns["curvature_percentile_99"] <= columns["curvature_max"]
        assert 0 < columns["curvature_effective_lr"] <= 1.0  # lr / damping
        assert 1 / columns["curvature_max"] <= columns["curvature_damping_share"] <= 1.0
        assert columns["curvature_dropped"] == 0
        assert columns["curvature_memory_bytes"] > 0


def test_a_run_is_judged_by_another_metric_where_that_is_asked(make_config):
    usual = make_config("budget=epochs", "budget.epochs=3")
    config = make_config("budget=epochs", "budget.epochs=3", "judged_by=loss")
    assert config.run_id != usual.run_id
    run.execute(config)
    record = load_run(folder_of(config).path)
    assert record.identity["metric"] == "loss"
    best = min(record.rows, key=lambda row: row["validation_loss"])
    assert record.summary["final"] == best["test_loss"]
    assert record.summary["best_test"] == min(row["test_loss"] for row in record.rows)


def test_each_layer_tells_how_much_of_its_curvature_is_damping_where_it_is_asked(make_config):
    usual = ("optimizer=adafisher", "budget.steps=2")
    wanted = make_config(*usual, "curvature_by_layer=true")
    assert wanted.run_id == make_config(*usual).run_id  # it changes no number
    run.execute(wanted)
    (row,) = load_run(folder_of(wanted).path).rows
    layers = {k: v for k, v in row.items() if k.startswith(DAMPING_SHARE)}
    assert {key.removeprefix(DAMPING_SHARE) for key in layers} >= {"features.0.0", "classifier"}
    assert all(0.0 < share <= 1.0 for share in layers.values())
    assert min(layers.values()) <= row["curvature_damping_share"] <= max(layers.values())


@pytest.mark.parametrize("method", ["adam", "adafisher"])
def test_a_run_that_does_not_look_at_test_is_the_same_run(make_config, capsys, method):
    """Bit for bit on all other columns, under the same id; what it shows is of validation."""
    seeing = make_config(f"optimizer={method}", "budget=epochs", "budget.epochs=2")
    blind = seeing.having(evaluate_test=False, runs_dir=str(seeing.runs_dir / "blind"))
    assert blind.run_id == seeing.run_id
    assert run.execute(blind).status == "done"
    told = capsys.readouterr().err
    assert ": done, last validation accuracy " in told
    assert "test" not in told
    assert run.execute(seeing).status == "done"
    assert ", final test accuracy " in capsys.readouterr().err
    expected = [
        {key: value for key, value in row.items() if not key.startswith("test_")}
        for row in measurements(seeing)
    ]
    assert measurements(blind) == expected
    summary = load_run(folder_of(blind).path).summary
    assert (summary["final"], summary["best_test"]) == (None, None)


KEY = "test_accuracy_percent"
NON_MONOTONE = ("budget=steps", "budget.steps=12", "task.evaluate_every=1", "optimizer.lr=0.05")


def test_a_run_that_looks_at_test_where_validation_is_best_has_the_same_final(make_config):
    """All else is the same to the bit; the best on test is not known, and not told."""
    seeing = make_config(*NON_MONOTONE)
    sparing = seeing.having(evaluate_test="best", runs_dir=str(seeing.runs_dir / "sparing"))
    assert sparing.run_id == seeing.run_id
    assert {run.execute(seeing).status, run.execute(sparing).status} == {"done"}
    whole, sparse = measurements(seeing), measurements(sparing)
    validation = [row["validation_accuracy_percent"] for row in whole]
    is_best = [all(one > other for other in validation[:at]) for at, one in enumerate(validation)]
    is_looked_at = [*is_best[:-1], True]
    assert 2 < sum(is_looked_at) < len(whole)
    assert sparse == [
        {key: value for key, value in row.items() if looked_at or not key.startswith("test_")}
        for row, looked_at in zip(whole, is_looked_at, strict=True)
    ]
    ours, theirs = (load_run(folder_of(one).path).summary for one in (sparing, seeing))
    last_best = max(at for at, best in enumerate(is_best) if best)
    assert ours["final"] == theirs["final"] == whole[last_best][KEY]
    assert (ours["final_epoch"], ours["best_test"]) == (theirs["final_epoch"], None)
    assert theirs["best_test"] == max(row[KEY] for row in whole)


def test_a_run_that_goes_on_knows_how_good_it_was(make_config, stop_after):
    whole = make_config(*NON_MONOTONE, "evaluate_test=best")
    broken = whole.having(runs_dir=str(whole.runs_dir / "broken"))
    stop_after(broken, 7)
    assert {run.execute(whole).status, run.execute(broken).status} == {"done"}
    assert measurements(broken) == measurements(whole)


def test_without_validation_test_is_looked_at_each_time(make_config):
    """It is what a choice goes by then, and its last value what is reported."""
    config = make_config(*NON_MONOTONE, "evaluate_test=best", "task.validation_fraction=0")
    assert run.execute(config).status == "done"
    assert all(KEY in row for row in measurements(config))


def test_a_run_that_learned_nothing_is_done_and_says_so(make_config, capsys):
    """At a rate of nothing; the mean image of train is better."""
    few = ("task=digits_autoencoder", "optimizer=sgd", "budget=steps", "budget.steps=3")
    config = make_config(*few, "optimizer.lr=1e-9")
    assert run.execute(config).status == "done"
    told = capsys.readouterr().err
    summary = load_run(folder_of(config).path).summary
    assert summary["final"] > summary["constant_prediction"] > 4
    assert "(collapsed: a constant prediction has squared_error 4.66)" in told


def test_something_must_be_evaluated(make_config):
    config = make_config("evaluate_test=false", "task.validation_fraction=0")
    with pytest.raises(UserError) as refused:
        run.execute(config)
    assert str(refused.value) == (
        "Invalid evaluate_test: false. Must be true for digits, which has no validation split."
    )


def test_a_finished_run_is_skipped(make_config):
    config = make_config()
    run.execute(config)
    before = {path: path.read_bytes() for path in folder_of(config).path.iterdir()}
    again = run.execute(config)
    assert (again.status, again.skipped) == ("done", True)
    assert {path: path.read_bytes() for path in folder_of(config).path.iterdir()} == before


def count_writes(config, monkeypatch):
    """How many file operations a whole run makes."""
    calls = []
    with monkeypatch.context() as patch:
        kill_at(patch, None, calls)
        run.execute(config)
    return len(calls)


def kill_at(patch, number, calls, *, half=False):
    """Die at the file operation with this number: before it, or after its first half."""

    def dying(original, write_half):
        def operation(*arguments):
            calls.append(original)
            if len(calls) - 1 == number:
                if half:
                    write_half(*arguments)
                raise Killed
            return original(*arguments)

        return operation

    def half_row(folder, row):
        with (folder.path / METRICS_FILE).open("a") as handle:
            handle.write(json.dumps(row)[:10])

    def half_file(path, content):
        path.with_name(f".{path.name}.partial").write_bytes(content[: len(content) // 2])

    patch.setattr(RunFolder, "append_row", dying(RunFolder.append_row, half_row))
    patch.setattr(store, "write_atomic", dying(store.write_atomic, half_file))


@pytest.mark.parametrize("half", [False, True], ids=["before", "halfway"])
def test_a_run_killed_at_any_write_ends_like_an_unbroken_one(make_config, monkeypatch, half):
    overrides = ("task.batch_size=1150", "budget.steps=2", "task.evaluations_per_epoch=1")
    base = make_config().runs_dir
    unbroken = make_config(*overrides, f"runs_dir={base}-unbroken")
    operations = count_writes(unbroken, monkeypatch)
    assert operations >= 8
    for number in range(operations):
        config = make_config(*overrides, f"runs_dir={base}-{number}")
        with monkeypatch.context() as patch:
            kill_at(patch, number, [], half=half)
            with pytest.raises(Killed):
                run.execute(config)
        assert run.execute(config).status == "done", number
        assert measurements(config) == measurements(unbroken), number
        assert not list(folder_of(config).path.glob(".*.partial"))


def test_divergence_is_recorded_and_final(make_config):
    config = make_config("optimizer=sgd", "optimizer.lr=1e30")
    outcome = run.execute(config)
    assert outcome.status == "diverged"
    assert "at step 2" in outcome.reason
    assert load_run(folder_of(config).path).reason == outcome.reason
    assert run.execute(config.having(retry=True)).skipped


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("why"), "failed"),
        (MemoryError("too much"), "out_of_memory"),
        (torch.OutOfMemoryError("too much"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), "out_of_memory"),
    ],
    ids=["fault", "python", "cuda", "torch-cpu"],
)
def test_a_fault_is_a_row_and_runs_again_only_on_retry(make_config, monkeypatch, error, status):
    config = make_config()

    def faulty(trainer, inputs, targets):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", faulty)
        outcome = run.execute(config)
    assert outcome.status == status
    assert str(error) in outcome.reason
    record = load_run(folder_of(config).path)
    assert (record.status, record.identity["optimizer"]) == (status, "adam")
    assert run.execute(config).skipped
    again = run.execute(config.having(retry=True))
    assert (again.status, again.skipped) == ("done", False)


@pytest.mark.parametrize(
    ("left", "status"),
    [(None, "failed"), (500_000_000, "failed"), (100_000, "out_of_memory")],
    ids=["no limit", "room", "no room"],
)
def test_a_primitive_that_cannot_be_made_is_a_matter_of_memory_where_none_is_left(
    monkeypatch, left, status
):
    """oneDNN has one text for what it does not know and for what it has no room for."""
    monkeypatch.setattr(memory, "left", lambda: left)
    error = RuntimeError("could not create a primitive")
    assert failures.judge(error)[0] == status


def test_what_fails_before_the_training_is_a_row_too(make_config, monkeypatch):
    config = make_config()

    def faulty(*arguments, **options):
        raise ZeroDivisionError("why")

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "build", faulty)
        outcome = run.execute(config)
    assert (outcome.status, outcome.reason) == ("failed", "ZeroDivisionError: why")
    record = load_run(folder_of(config).path)
    assert (record.status, record.reason, record.rows) == ("failed", outcome.reason, [])
    assert "ZeroDivisionError" in (record.path / failures.TRACEBACK_FILE).read_text()
    assert "code" in json.loads((record.path / "environment.json").read_text())
    assert run.execute(config).skipped
    assert run.execute(config.having(retry=True)).status == "done"


def leave_running(config, monkeypatch) -> None:
    def dying(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "build", dying)
        with pytest.raises(Killed):
            run.execute(config)


def test_a_process_that_dies_before_the_training_leaves_a_record_to_close(make_config, monkeypatch):
    config = make_config()
    leave_running(config, monkeypatch)
    folder = folder_of(config)
    end_of_dead_child(folder, "it", -signal.SIGSEGV, for_memory=False)
    record = load_run(folder.path)
    assert (record.status, record.reason) == ("failed", "the run's process was killed by SIGSEGV")
    assert record.identity["optimizer"] == "adam"


def test_a_process_that_dies_after_the_end_was_recorded_changes_nothing(make_config):
    config = make_config()
    run.execute(config)
    outcome = end_of_dead_child(folder_of(config), "it", -signal.SIGINT, for_memory=False)
    assert (outcome.status, outcome.reason) == ("done", None)


def test_a_dead_process_does_not_wait_for_one_that_has_its_run(make_config, monkeypatch):
    config = make_config()
    leave_running(config, monkeypatch)
    folder = folder_of(config)
    monkeypatch.setattr(supervision, "_LOCK_SECONDS", 0.05)
    with folder.lock():  # as another process does for hours
        outcome = end_of_dead_child(folder, "it", -signal.SIGTERM, for_memory=False)
    assert outcome.status == "interrupted"
    assert load_run(folder.path).status == "running"


def test_a_request_to_stop_while_the_mirror_ends_costs_nothing(make_config, monkeypatch):
    config = make_config()
    folder = folder_of(config)
    seen = []

    class Told(Mirror):
        def finish(self, summary, *, failed):
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append((failed, (folder.path / CHECKPOINT_FILE).exists()))

    monkeypatch.setattr(attempt, "SECONDS_TO_LOSE", 0.0)  # so that there has been a checkpoint
    monkeypatch.setattr(attempt, "open_mirror", lambda *arguments: Told())
    assert run.execute(config).status == "done"
    assert seen == [(False, False)]


def test_a_refused_run_leaves_no_record(make_config):
    config = make_config("model.width=0")
    with pytest.raises(UserError, match="width"):
        run.execute(config)
    assert not folder_of(config).path.exists()


def test_a_full_disk_is_one_line_and_loses_nothing(make_config, monkeypatch):
    overrides = ("budget.steps=3", "task.batch_size=1150")
    config = make_config(*overrides)
    with monkeypatch.context() as patch:
        write, calls = store.write_atomic, []

        def full(path, content):
            calls.append(path.name)
            if calls.count(CHECKPOINT_FILE) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            write(path, content)

        patch.setattr(store, "write_atomic", full)
        with pytest.raises(OSError, match="No space left"):
            run.execute(config)
    unbroken = make_config(*overrides, f"runs_dir={config.runs_dir}-unbroken")
    run.execute(unbroken)
    assert run.execute(config).status == "done"
    assert measurements(config) == measurements(unbroken)


def test_what_a_kill_may_cost_is_a_second_and_an_evaluation(make_config, monkeypatch):
    """Rows are there for other processes at once."""
    seconds = iter([0.0, 0.6, 1.2, 1.8, 2.4])  # at the beginning, and at each evaluation
    monkeypatch.setattr(attempt, "SECONDS_TO_LOSE", 1.0)
    monkeypatch.setattr(attempt._Training, "_seconds", lambda self: next(seconds))
    config, saved = make_config("task.batch_size=1150"), []
    write = store.write_atomic

    def noting(path, content):
        if path.name == CHECKPOINT_FILE:
            saved.append(len(folder_of(config).read().rows))
        write(path, content)

    monkeypatch.setattr(store, "write_atomic", noting)
    assert run.execute(config).status == "done"
    assert saved == [2, 4]
    assert len(folder_of(config).read().rows) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (STATUS_FILE, b'{"schema": 1, "run_id"'),
        (STATUS_FILE, b""),
        (METRICS_FILE, b""),
        (METRICS_FILE, b"\x00\x00\n{}\n"),
    ],
)
def test_a_corrupt_record_is_set_aside_and_rerun(make_config, capsys, name, content):
    config = make_config()
    run.execute(config)
    expected = measurements(config)
    folder = folder_of(config)
    (folder.path / name).write_bytes(content)
    outcome = run.execute(config)
    assert (outcome.status, outcome.skipped) == ("done", False)
    assert "set aside" in capsys.readouterr().err
    assert measurements(config) == expected
    kept = folder.runs_dir / store.SET_ASIDE / f"{folder.run_id}-1"
    assert (kept / name).read_bytes() == content


def stopped_early(config, monkeypatch):
    def stop(trainer, inputs, targets):
        os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, inputs, targets)

    step = Trainer._step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        assert run.execute(config).status == "interrupted"


def test_a_damaged_checkpoint_is_set_aside_and_rerun(make_config, monkeypatch, capsys):
    config = make_config()
    stopped_early(config, monkeypatch)
    path = folder_of(config).path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-100])
    assert run.execute(config).status == "done"
    assert "checkpoint.pt: damaged" in capsys.readouterr().err
    unbroken = make_config(f"runs_dir={config.runs_dir}-unbroken")
    run.execute(unbroken)
    assert measurements(config) == measurements(unbroken)


def test_the_checkpoint_of_another_config_is_refused(make_config, monkeypatch):
    config, other = make_config(), make_config("seed=1")
    stopped_early(config, monkeypatch)
    stopped_early(other, monkeypatch)
    path, foreign = (folder_of(item).path / CHECKPOINT_FILE for item in (config, other))
    path.write_bytes(foreign.read_bytes())
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"checkpoint of run {other.run_id}, not of"):
        run.execute(config)
    assert path.read_bytes() == before
    assert load_run(folder_of(config).path).status == "interrupted"


def test_the_learning_rate_follows_the_schedule(make_config):
    config = make_config("budget.steps=4", "schedule=cosine", "task.batch_size=1150")
    run.execute(config)
    lr = config.optimizer.arguments["lr"]
    rates = [row["lr"] for row in measurements(config)]
    assert rates == pytest.approx([lr, lr * (0.5 + 0.5**1.5), lr / 2, lr * (0.5 - 0.5**1.5)])


def test_evaluations_divide_an_epoch(make_config):
    config = make_config("budget.steps=23", "task.evaluations_per_epoch=3", "task.batch_size=64")
    run.execute(config)  # 18 steps an epoch
    assert [row["step"] for row in measurements(config)] == [6, 12, 18, 23]


def test_metrics_do_not_depend_on_the_evaluation_batch_size(make_config):
    results = []
    for size in (1, 7, 360):
        config = make_config(f"task.eval_batch_size={size}", "budget.steps=20")
        run.execute(config)
        results.append(measurements(config)[-1])
    for key in ("validation_accuracy_percent", "test_accuracy_percent"):
        assert len({row[key] for row in results}) == 1
    losses = [row["test_loss"] for row in results]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_batch_is_the_same_for_every_method(make_config, monkeypatch):
    """Paired comparisons: one seed, the same weights and the same batches."""
    seen = {}
    step = Trainer._step
    for method in ("adam", "kfac"):
        records = []

        def spy(trainer, inputs, targets, records=records):
            if not records:
                records.append([p.detach().clone() for p in trainer.built.model.parameters()])
            records.append((inputs.clone(), targets.clone()))
            return step(trainer, inputs, targets)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", spy)
            run.execute(make_config(f"optimizer={method}"))
        seen[method] = records
    flat = [[*records[0], *(t for pair in records[1:] for t in pair)] for records in seen.values()]
    assert all(torch.equal(a, b) for a, b in zip(*flat, strict=True))


def test_built_says_what_the_loop_must_give(make_config):
    built = build(make_config("optimizer=kfac"))
    assert isinstance(built, Built)
    assert built.observes_logits
