"""The configs of a sweep are tried out in a child, and its leader does without what that takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import commandline
from experiments.errors import UserError
from experiments.sweep import forks, inspection, launching, preflight
from tests.support.sweeps import ROOT

SHORT = ["task=digits", "tracking=none", "budget=steps", "budget.steps=2"]


@pytest.fixture(autouse=True)
def no_server_is_left():
    yield
    forks.end(at_once=True)


def jobs_of(*overrides: str) -> list[preflight.Job]:
    return preflight.composed(commandline.normalise([*SHORT, *overrides]))


@pytest.mark.parametrize("fresh", ["false", "true"], ids=["forked", "an interpreter of its own"])
def test_a_mistake_that_only_trying_out_shows_is_told_with_its_place(
    tmp_path: Path, fresh: str
) -> None:
    overrides = ("optimizer=adam,adamw", "optimizer.betas=[0.5,2.0]", f"fresh={fresh}")
    jobs = jobs_of(*overrides, f"runs_dir={tmp_path}")
    with pytest.raises(UserError, match=r"2\.0") as told:
        preflight.inspect(preflight.to_inspect(jobs), os.environ)
    inspected = inspection.Inspection()
    with pytest.raises(UserError) as here:
        inspected.of(jobs[0].config)
    assert str(told.value) == str(here.value)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_dies_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        returncode = -9

        def wait(self, timeout: float | None = None) -> int:
            return -9

        def kill(self) -> None:
            pass

    monkeypatch.setattr(forks, "start", lambda *arguments, **options: Dead())
    with pytest.raises(UserError, match=r"try out the configs ended with code -9\."):
        preflight.inspect(jobs_of("optimizer=adam", f"runs_dir={tmp_path}"), {})


def test_of_each_config_one_seed_is_tried_out(tmp_path: Path) -> None:
    jobs = jobs_of("optimizer=adam,adamw", "seed=3,4,5", f"runs_dir={tmp_path}")
    chosen = [(job.config.optimizer.name, job.config.seed) for job in preflight.to_inspect(jobs)]
    assert chosen == [("adam", 3), ("adamw", 3)]


LEADS = """
import sys
from experiments.sweep import launching
code = launching.launch(sys.argv[1:])
print(sorted({"torch", "torchvision", "sklearn", "wandb"} & set(sys.modules)))
sys.exit(code)
"""


def test_the_process_that_leads_a_sweep_does_without_torch(tmp_path: Path) -> None:
    words = [*SHORT, "optimizer=adam", "seed=0,1", f"runs_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", LEADS, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sweep of 2: 2 done (0 from before)" in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_where_all_is_done_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = commandline.normalise([*SHORT, "optimizer=adam", "seed=0,1", f"runs_dir={tmp_path}"])
    assert launching.launch(words) == 0

    def none(*arguments: object, **options: object) -> None:
        raise AssertionError("a process is started")

    for name in ("start", "prepare"):
        monkeypatch.setattr(forks, name, none)
    capsys.readouterr()
    assert launching.launch(words) == 0
    assert capsys.readouterr().err == "sweep of 2: 2 done (2 from before)\n"
