"""Resolved configs and runs for the tests of the engine.

What the fixtures need is imported in them: tests of a device run where Hydra is not installed.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.records.outcome import Outcome

Config = dict[str, Any]


@pytest.fixture
def make_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """A config of a few steps on digits whose folders lie below ``tmp_path``."""
    from experiments.config import commandline, compose
    from experiments.run import attempt

    # Runs of tests are shorter than what a kill may cost; each of their evaluations is saved.
    monkeypatch.setattr(attempt, "SECONDS_TO_LOSE", 0.0)

    def make(*overrides: str) -> Config:
        has_budget = any(item.startswith("budget=") for item in overrides)
        short = [] if has_budget else ["budget=steps", "budget.steps=4"]
        defaults = [
            "tracking=none",
            "optimizer=adam",
            "threads=1",
            f"runs_dir={tmp_path / 'runs'}",
            f"cache_dir={tmp_path / 'cache'}",
        ]
        return compose.composed(commandline.normalise([*defaults, *short, *overrides]))

    return make


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    from experiments.config import commandline, compose
    from experiments.run import run

    folder = tmp_path_factory.mktemp("recorded")
    overrides = ["optimizer=kfac", "budget=steps", "tracking=none"]
    config = compose.composed(
        commandline.normalise([*overrides, "budget.steps=24", f"runs_dir={folder}", "threads=1"])
    )
    outcome = run.execute(config)
    assert outcome.status == "done"
    return folder / outcome.run_id


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Config, int], Outcome]:
    """Attempt a run, and have it end as by a scheduler's signal after the given step."""
    from experiments.engine.loop import Trainer
    from experiments.run import run

    def stop(config: Config, step: int) -> Outcome:
        plain = Trainer._step

        def interrupted(trainer: Any, *arguments: Any) -> Any:
            if trainer.counters.step == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(trainer, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", interrupted)
            outcome = run.execute(config)
        assert outcome.status == "interrupted"
        return outcome

    return stop


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B without a user: no key, no settings, and no memory of those of an earlier test."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-settings"))
    wandb.teardown()  # it reads the environment once a process
    yield
    monkeypatch.undo()
    wandb.teardown()
