"""The mirror: offline by itself, one W&B run a run, and never a fault of the run."""

import logging
import socket
from pathlib import Path

import pytest

from experiments import identity, run, tracking
from experiments.errors import UserError


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_offline_unless_logged_in(monkeypatch):
    monkeypatch.setattr(tracking, "_reachable", lambda host: pytest.fail("asked the network"))
    assert tracking._resolve("auto") == "offline"
    assert tracking._resolve("offline") == "offline"
    assert tracking._resolve("none") == "none"


@pytest.mark.parametrize(("up", "mode"), [(True, "online"), (False, "offline")])
def test_logged_in_by_key_or_netrc(monkeypatch, tmp_path, up, mode):
    monkeypatch.setattr(tracking, "_reachable", lambda host: up)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert tracking._resolve("auto") == mode
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking._resolve("auto") == mode
    assert tracking._resolve("online") == mode


def test_the_environment_can_force_it(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking._resolve("online") == "none"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking._resolve("online") == "offline"


def test_a_dead_network_is_noticed_at_once(loopback):
    with socket.socket() as taken:  # bound and not listening: the connection is refused
        taken.bind(("127.0.0.1", 0))
        assert not tracking._reachable(f"http://127.0.0.1:{taken.getsockname()[1]}")
        taken.listen()
        assert tracking._reachable(f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match=r"Invalid tracking\.mode: 'on'"):
        tracking.check_mode("on")


def test_a_fault_of_the_mirror_is_a_warning_and_the_run_ends_well(make_config, monkeypatch, caplog):
    import wandb

    def broken(**arguments):
        raise wandb.errors.CommError("server said no")

    monkeypatch.setattr(wandb, "init", broken)
    with caplog.at_level(logging.WARNING):
        outcome = run.execute(make_config("tracking=wandb"))
    assert outcome.status == "done"
    assert "server said no" in caplog.text


class Recorder:
    """Stands for the W&B run."""

    def __init__(self):
        self.rows, self.summary, self.exit_code = [], {}, None

    def define_metric(self, *arguments, **options):
        pass

    def log(self, row, step):
        self.rows.append((step, row))

    def finish(self, exit_code):
        self.exit_code = exit_code


def test_what_is_mirrored(make_config, monkeypatch):
    import wandb

    seen, recorder = {}, Recorder()

    def init(**arguments):
        seen.update(arguments)
        return recorder

    monkeypatch.setattr(wandb, "init", init)
    config = make_config("tracking=wandb", "budget.steps=20")
    assert run.execute(config).status == "done"
    assert seen["id"] == identity.run_id(config)
    assert seen["mode"] == "offline"
    assert seen["job_type"] == "train"
    assert identity.group_id(config) in seen["group"]
    assert set(seen["tags"]) == {"digits", "small_cnn", "adam", "default"}
    assert seen["config"]["optimizer"]["lr"] == config["optimizer"]["lr"]
    assert [step for step, _ in recorder.rows] == [18, 20]
    assert recorder.summary["final"] is not None
    assert recorder.exit_code == 0


def test_offline_files_are_written_below_the_run(make_config):
    config = make_config("tracking=wandb")
    assert run.execute(config).status == "done"
    run_id = identity.run_id(config)
    folder = Path(config["runs_dir"]) / run_id / "wandb"
    files = list(folder.glob(f"offline-run-*/run-{run_id}.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0
