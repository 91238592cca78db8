"""The upload of offline logs: once each, in order, beside live runs.

The logs are W&B's own, cut from runs of the suite; nothing here reaches the network.
"""

import sys
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.records.store import RunFolder
from experiments.run import run
from experiments.tracking import offline, server, sync
from tests.support.commands import exit_code
from tests.support.wandb_server import serving

COUNTER = """
import pathlib, sys
folders = [a for a in sys.argv[1:] if not a.startswith("-")]
with open({calls!r}, "a") as calls:
    print(*(pathlib.Path(f).name for f in folders), file=calls)
for folder in folders:
    if {takes!r} in ("all", pathlib.Path(folder).parent.parent.name):
        for log in pathlib.Path(folder).glob("*.wandb"):
            log.with_name(log.name + ".synced").touch()
    else:
        print("wandb: ERROR the server is full")
"""


@pytest.fixture(autouse=True)
def nobody(no_login):
    """Nobody is logged in."""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Replace `wandb sync`: call it with what is taken; what comes back tells what was asked."""
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(server, "reachable", lambda url, proxies: True)
    calls = tmp_path / "calls"
    calls.touch()

    def takes(which="all"):
        script = COUNTER.format(calls=str(calls), takes=which)
        monkeypatch.setattr(sync, "_COMMAND", (sys.executable, "-c", script))
        return lambda: [line.split() for line in calls.read_text().splitlines()]

    return takes


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """One whole log of two rows, written by W&B."""
    import wandb

    folder = tmp_path_factory.mktemp("log")
    with wandb.init(
        project="p", id="first", mode="offline", dir=str(folder), settings={"silent": True}
    ) as one:
        one.log({"step": 1}, step=1)
        one.log({"step": 2}, step=2)
    offline.await_end(folder, seconds=60)
    return offline.logs(folder)[0].path


def add(log: Path, folder: Path, time: str, run_id: str = "first") -> Path:
    content = log.read_bytes()
    target = folder / "wandb" / f"offline-run-{time}-{run_id}" / f"run-{run_id}.wandb"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    return target


def test_each_log_is_uploaded_once_and_a_runs_logs_in_order_by_one_call(log, tmp_path, stand_in):
    asked = stand_in()
    runs = tmp_path / "runs"
    for time in ("20260102_000000", "20260101_000000"):
        add(log, runs / "aaa", time)
    add(log, runs / ".tuning" / "bbb", "20260103_000000")
    add(log, runs / ".report", "20260104_000000")
    add(log, runs / ".set-aside" / "ccc-1", "20260104_000000")
    assert sync.sync(runs).startswith("W&B: 4 logs of 3 runs uploaded, 0 logs there already")
    assert sorted(asked()) == [
        ["offline-run-20260101_000000-first", "offline-run-20260102_000000-first"],
        ["offline-run-20260103_000000-first"],
        ["offline-run-20260104_000000-first"],
    ]
    assert sync.sync(runs) == "W&B: 0 logs of 0 runs uploaded, 4 logs there already"
    assert len(asked()) == 3
    # A resumed run leaves a further log: it alone is uploaded.
    add(log, runs / "aaa", "20260105_000000")
    sync.sync(runs)
    assert asked()[3:] == [["offline-run-20260105_000000-first"]]


def test_runs_in_a_subfolder_are_uploaded_as_they_are_reported(log, tmp_path, stand_in):
    asked = stand_in()
    runs = tmp_path / "runs"
    for place in ("aaa", "study/bbb", "study/.tuning/ccc"):
        add(log, runs / place, "20260101_000000")
        (runs / place / "status.json").touch()
    assert sync.sync(runs) == "W&B: 3 logs of 3 runs uploaded, 0 logs there already"
    assert len(asked()) == 3


def test_a_log_whose_content_changed_is_uploaded_again(log, tmp_path, stand_in):
    asked = stand_in()
    path = add(log, tmp_path / "runs" / "aaa", "20260101_000000")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    sync.sync(tmp_path / "runs")
    path.write_bytes(content)
    sync.sync(tmp_path / "runs")
    sync.sync(tmp_path / "runs")
    assert len(asked()) == 2


def test_a_run_in_training_is_left_for_later(log, tmp_path, stand_in):
    asked = stand_in()
    runs = tmp_path / "runs"
    for run_id in ("aaa", "bbb"):
        add(log, runs / run_id, "20260101_000000")
    with RunFolder(runs, "aaa").lock():
        assert sync.sync(runs).endswith("; 1 run in training left for later")
        assert len(asked()) == 1
    assert sync.sync(runs) == "W&B: 1 log of 1 run uploaded, 1 log there already"


def test_what_is_refused_is_kept_for_the_next_call(log, tmp_path, stand_in):
    runs = tmp_path / "runs"
    for run_id in ("aaa", "bbb"):
        add(log, runs / run_id, "20260101_000000")
    stand_in("aaa")
    with pytest.raises(
        UserError, match=r"did not take 1 run of 2 .*server is full.*Nothing is lost"
    ):
        sync.sync(runs)
    asked = stand_in()
    assert sync.sync(runs) == "W&B: 1 log of 1 run uploaded, 1 log there already"
    assert len(asked()) == 3


def test_what_the_user_has_synced_and_what_holds_nothing_is_passed_over(log, tmp_path, stand_in):
    asked = stand_in()
    path = add(log, tmp_path / "runs" / "aaa", "20260101_000000")
    offline.synced_mark(path).touch()
    add(log, tmp_path / "runs" / "bbb", "20260101_000000").write_bytes(log.read_bytes()[:7])
    assert sync.sync(tmp_path / "runs") == "W&B: 0 logs of 0 runs uploaded, 1 log there already"
    assert asked() == []


@pytest.mark.parametrize(
    ("key", "message"), [(None, "W&B: not logged in to https://"), ("x" * 40, "is not reachable")]
)
def test_no_login_and_no_server_are_one_line_and_exit_code_2(
    log, tmp_path, monkeypatch, capsys, key, message
):
    add(log, tmp_path / "runs" / "aaa", "20260101_000000")
    monkeypatch.setattr(server, "reachable", lambda url, proxies: False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    assert exit_code("wandb_sync", f"runs_dir={tmp_path / 'runs'}") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "1 log of 1 run wait" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("argument", ["runs=x", "runs_dir=nowhere"])
def test_mistakes_are_refused(tmp_path, monkeypatch, capsys, argument):
    monkeypatch.chdir(tmp_path)
    assert exit_code("wandb_sync", argument) == 2


def test_wandb_itself_makes_one_run_of_the_logs_of_one(
    make_config, stop_after, tmp_path, monkeypatch, loopback
):
    """A run of three attempts, of which the second was torn by a kill."""
    import wandb

    runs = tmp_path / "runs"
    config = make_config("tracking=wandb", "budget.steps=60")
    run_id = config.run_id
    for step in (20, 40):
        stop_after(config, step)
    torn = offline.logs(runs / run_id)[1].path
    torn.write_bytes(torn.read_bytes()[:-60])
    assert run.execute(config).status == "done"
    logs = offline.logs(runs / run_id)
    assert [log.whole < log.size for log in logs] == [False, True, False]
    wandb.teardown()  # W&B reads the environment once a process
    with serving() as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        assert sync.sync(runs) == "W&B: 3 logs of 1 run uploaded, 0 logs there already"
        calls = served.calls
        assert sync.sync(runs) == "W&B: 0 logs of 0 runs uploaded, 3 logs there already"
        assert served.calls == calls
    assert set(served.history) == {run_id}
    assert [row["_step"] for row in served.history[run_id]] == [18, 36, 54, 60]
    assert [row["step"] for row in served.history[run_id]] == [18, 36, 54, 60]
