"""The mirror to W&B: offline by itself, one W&B run a run, and never a fault of the run."""

import bisect
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from wandb.sdk.lib.service import service_port_file

from experiments.errors import UserError
from experiments.records.schema import load_run
from experiments.run import run
from experiments.tracking import offline, server, sync
from experiments.tracking import wandb as mirror
from tests.support.wandb_server import serving


@pytest.fixture(autouse=True)
def nobody(no_login):
    """Nobody is logged in."""


def test_offline_unless_logged_in(monkeypatch):
    monkeypatch.setattr(server, "reachable", lambda url, proxies: pytest.fail("asked the network"))
    resolved, reason = mirror.resolve("auto")
    assert resolved == "offline"
    assert reason.startswith("not logged in to https://")
    assert mirror.resolve("offline") == ("offline", "tracking.mode=offline")
    assert mirror.resolve("none") == ("none", None)


@pytest.mark.parametrize("up", [True, False])
def test_logged_in_it_is_online_where_the_server_answers(monkeypatch, up):
    monkeypatch.setattr(server, "reachable", lambda url, proxies: up)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    unreached = ("offline", "https://wandb.example.org is not reachable")
    for mode in ("auto", "online"):
        assert mirror.resolve(mode) == (("online", None) if up else unreached)


@pytest.mark.parametrize(("own", "resolved"), [("disabled", "none"), ("offline", "offline")])
def test_the_environment_can_force_it(monkeypatch, own, resolved):
    monkeypatch.setenv("WANDB_MODE", own)
    mode, reason = mirror.resolve("online")
    assert mode == resolved
    assert (reason is not None and "WANDB_MODE" in reason) == (resolved == "offline")


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match=r"Invalid tracking\.mode: 'on'"):
        mirror.check(mode="on")


def test_wandb_does_not_sleep_while_its_service_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(service_port_file, "_SLEEP", time.sleep)
    server.library()  # as whoever asks W&B for anything does, and so starts it
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(service_port_file.ServicePollForTokenError):
        service_port_file.poll_for_token(tmp_path / "port", Mock(poll=lambda: None), timeout=0.05)
    assert slept
    assert max(slept) <= 0.01


class Recorder:
    """Stands for the W&B run."""

    step = 0
    dir = "nowhere/files"

    def __init__(self):
        self.rows, self.summary, self.exit_code, self.axes = [], {}, None, []

    def define_metric(self, name, **options):
        self.axes.append((name, options.get("step_metric")))

    def log(self, row, step):
        self.rows.append((step, row))

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def recorded(monkeypatch):
    """What was given to ``wandb.init``, and the run that came of it."""
    import wandb

    seen, recorder = {}, Recorder()

    def init(**arguments):
        seen.update(arguments)
        return recorder

    monkeypatch.setattr(wandb, "init", init)
    return seen, recorder


def test_what_is_mirrored(make_config, recorded):
    seen, recorder = recorded
    config = make_config("tracking=wandb", "budget.steps=20")
    assert run.execute(config).status == "done"
    assert seen["id"] == config.run_id
    assert seen["mode"] == "offline"
    assert seen["name"] == "digits-adam-seed0"
    assert seen["job_type"] == "train"
    assert config.group_id in seen["group"]
    assert set(seen["tags"]) == {"digits", "small_cnn", "adam", "default"}
    assert seen["config"]["optimizer"]["lr"] == config.optimizer.arguments["lr"]
    assert [step for step, _ in recorder.rows] == [18, 20]
    assert {("*", "step"), ("epoch", None), ("train_seconds", None)} <= set(recorder.axes)
    assert {"epoch", "train_seconds", "step"} <= set(recorder.rows[0][1])
    validated = [row["validation_accuracy_percent"] for _, row in recorder.rows]
    assert recorder.summary["best_validation"] == max(validated)
    assert recorder.summary["final"] is not None
    assert recorder.exit_code == 0


def test_a_sweep_is_told_no_best_value_of_a_run_that_diverged(recorded):
    """It had one before; chosen by it, its hyperparameters would be the best that were tried."""
    _, recorder = recorded
    online = {"folder": Path(), "offline_because": None}
    for failed, told in ((True, {}), (False, {"best_validation": 90.0})):
        recorder.summary.clear()
        made = mirror.WandbMirror(
            recorder, metric="accuracy_percent", higher_is_better=True, next_step=0, **online
        )
        for step, value in enumerate((90.0, float("nan"), float("inf"))):
            made.log({"step": step, "validation_accuracy_percent": value})
        made.finish({}, failed=failed)
        assert recorder.summary == told


@pytest.mark.parametrize(
    ("because", "told"),
    [
        (None, "published it at https://wandb.example.org/run"),
        ("no key", "logged it offline under runs/.report (no key); `make wandb-sync` uploads it"),
    ],
)
def test_what_became_of_a_report(recorded, because, told):
    _, recorder = recorded
    recorder.url = "https://wandb.example.org/run"
    made = mirror.WandbMirror(
        recorder,
        metric=None,
        higher_is_better=False,
        next_step=0,
        folder=Path("runs/.report"),
        offline_because=because,
    )
    assert made.outcome("it") == told
    assert (made.remark is None) == (because is None)


@pytest.mark.parametrize(
    ("folder", "command"),
    {
        "runs/aaa": "make wandb-sync",
        "runs/.tuning/aaa": "make wandb-sync",
        "runs/study/aaa": "make wandb-sync RUNS=runs/study",
        "my runs/.tuning/aaa": "make wandb-sync 'RUNS=my runs'",
    }.items(),
)
def test_what_uploads_a_run_is_told_with_its_folder(recorded, folder, command):
    made = mirror.WandbMirror(
        recorded[1],
        metric=None,
        higher_is_better=False,
        next_step=0,
        folder=Path(folder).absolute(),
        offline_because="no key",
    )
    assert made.remark == f"W&B: offline (no key); `{command}` uploads it"
    assert made.outcome("it").endswith(f"; `{command}` uploads it")


def test_a_trial_of_tuning_is_told_apart(make_config, tmp_path, recorded):
    from experiments.tuning.tune import TRIALS_DIR

    run.execute(make_config("tracking=wandb", f"runs_dir={tmp_path / 'runs' / TRIALS_DIR}"))
    assert recorded[0]["job_type"] == "tune"


def folder_of(config) -> Path:
    return config.runs_dir / config.run_id


def test_three_resumes_are_one_wandb_run_whose_steps_ascend(make_config, stop_after):
    # budget.steps=60 are three epochs of 18 steps, evaluated at each, and the end.
    config = make_config("tracking=wandb", "budget.steps=60")
    for step in (20, 37, 40):
        stop_after(config, step)
    assert run.execute(config).status == "done"
    logs = offline.logs(folder_of(config))
    assert [log.run_id for log in logs] == [config.run_id] * 4
    assert [log.steps for log in logs] == [[18], [36], [], [54, 60]]
    assert all(log.ended for log in logs)
    assert [row["step"] for row in load_run(folder_of(config)).rows] == [18, 36, 54, 60]


def test_rows_that_a_killed_process_took_with_it_are_mirrored_by_the_next(make_config, stop_after):
    config = make_config("tracking=wandb", "budget.steps=60")
    stop_after(config, 40)
    (first,) = offline.logs(folder_of(config))
    assert first.steps == [18, 36]
    first.path.write_bytes(first.path.read_bytes()[:7])  # what SIGKILL leaves of so short a run
    stop_after(config, 55)
    second = offline.logs(folder_of(config))[1]
    assert second.steps == [18, 36, 54]
    # Torn in the middle of the second row's record: what is whole stays, and is not logged twice.
    content = second.path.read_bytes()
    sizes = range(len(content))
    whole = bisect.bisect_left(sizes, 1, key=lambda n: len(cut(second.path, content[:n]).steps))
    second.path.write_bytes(content[: whole + 20])
    assert run.execute(config).status == "done"
    assert [log.steps for log in offline.logs(folder_of(config))] == [[], [18], [36, 54, 60]]


def cut(path: Path, content: bytes) -> offline.Log:
    path.write_bytes(content)
    return offline.read(path)


def test_an_agents_run_is_the_one_that_is_mirrored(make_config, monkeypatch):
    import wandb

    config = make_config("tracking=wandb", "budget.steps=20")
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "sweep123")
        patch.setenv("WANDB_RUN_ID", "agent456")
        assert run.execute(config).status == "done"
        # The agent may propose what an earlier run has measured: it is mirrored, not left empty.
        patch.setenv("WANDB_RUN_ID", "agent789")
        wandb.teardown()  # W&B reads the environment once a process
        assert run.execute(config).skipped
    wandb.teardown()
    logs = offline.logs(folder_of(config))
    assert {log.run_id: log.steps for log in logs} == {"agent456": [18, 20], "agent789": [18, 20]}
    # Without an agent a run that is over is mirrored once.
    assert run.execute(config).skipped
    assert len(offline.logs(folder_of(config))) == 2


@pytest.fixture
def stand_in(monkeypatch, loopback, no_login):
    """A server that the user is logged in to."""
    with serving() as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        yield served


def test_a_resumed_run_is_one_run_on_the_server(make_config, stop_after, stand_in):
    config = make_config("tracking=wandb", "budget.steps=60")
    for step in (20, 40):
        stop_after(config, step)
    assert run.execute(config).status == "done"
    rows = stand_in.history.pop(config.run_id)
    assert [row["_step"] for row in rows] == [18, 36, 54, 60]
    assert [row["step"] for row in rows] == [18, 36, 54, 60]
    assert not stand_in.history
    told = stand_in.created[config.run_id]
    assert told["groupName"].startswith("digits-adam-")
    assert told["jobType"] == "train"


def test_a_server_that_falls_silent_does_not_hold_the_run_and_a_line_says_so(
    make_config, monkeypatch, stand_in
):
    said = []
    warn = "experiments.tracking.mirror.logger.warning"
    monkeypatch.setattr(warn, lambda text, *of: said.append(text % of))
    monkeypatch.setattr(mirror, "_FINISH_SECONDS", 1.0)
    monkeypatch.setattr(mirror.WandbMirror, "log", silence(stand_in, mirror.WandbMirror.log))
    # Without a bound this waits for ever, and the test's own limit ends it.
    assert run.execute(make_config("tracking=wandb", "budget.steps=20")).status == "done"
    assert stand_in.silent
    (line,) = said
    assert "finish (W&B has not taken all of it in time, and `make wandb-sync RUNS=" in line


def test_what_a_silent_server_did_not_take_is_uploaded_later_by_one_log(
    make_config, stop_after, stand_in, monkeypatch
):
    import wandb

    config = make_config("tracking=wandb", "budget.steps=60")
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        stop_after(config, 20)
    wandb.teardown()  # W&B reads the environment once a process
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_FINISH_SECONDS", 1.0)
        patch.setattr(mirror.WandbMirror, "log", silence(stand_in, mirror.WandbMirror.log))
        assert run.execute(config).status == "done"
    logs = offline.logs(folder_of(config))
    assert [log.steps for log in logs] == [[18], [18, 36, 54, 60]]
    assert not any(map(offline.is_uploaded, logs))
    wandb.teardown()
    stand_in.silent = False
    stand_in.history.clear()  # whatever had arrived would stand there twice
    assert sync.sync(config.runs_dir) == "W&B: 2 logs of 1 run uploaded, 0 logs there already"
    assert [row["step"] for row in stand_in.history[config.run_id]] == [18, 36, 54, 60]
    assert sync.sync(config.runs_dir) == "W&B: 0 logs of 0 runs uploaded, 2 logs there already"


def test_of_an_online_run_that_arrived_nothing_is_left_to_upload(
    make_config, stop_after, stand_in, monkeypatch
):
    import wandb

    config = make_config("tracking=wandb", "budget.steps=60")
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        stop_after(config, 20)
    wandb.teardown()
    assert run.execute(config).status == "done"
    (log,) = offline.logs(folder_of(config))
    assert log.steps == [18]
    assert offline.is_uploaded(log)


def test_a_server_that_never_answers_leaves_the_rows_to_a_later_upload(
    make_config, monkeypatch, stand_in
):
    monkeypatch.setattr(mirror, "_INIT_SECONDS", 1.0)
    stand_in.silent = True
    config = make_config("tracking=wandb", "budget.steps=20")
    assert run.execute(config).status == "done"
    (log,) = offline.logs(folder_of(config))
    assert (log.run_id, log.steps) == (config.run_id, [18, 20])


def silence(served, log):
    def silent(mirror, row):
        served.silent = True
        log(mirror, row)

    return silent
