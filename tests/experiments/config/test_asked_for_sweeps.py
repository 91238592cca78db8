"""What is a sweep, what is shown without its data, and how many runs are counted."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.sweep import launching, preflight
from tests.support import served
from tests.support.sweeps import ROOT, statuses

SHORT = ["task=digits", "optimizer=sgd", "tracking=none", "budget=steps", "budget.steps=2"]


def train_in_a_process(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.train", *words]
    return served.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("option", ["-m", "--multirun"])
def test_the_option_may_stand_between_overrides(option: str, tmp_path: Path) -> None:
    done = train_in_a_process(*SHORT, option, f"runs_dir={tmp_path}", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert "sweep of 2: 2 done (0 from before)" in done.stderr
    assert statuses(tmp_path) == ["done", "done"]


def test_jobs_that_are_one_run_are_counted_and_told_once(tmp_path: Path) -> None:
    """Side by side, one of two equal jobs would wait for the other and count as one more."""
    twice = ["optimizer.lr=0.01,1e-2", "threads=1,2", "launcher=joblib", "jobs=2"]
    done = train_in_a_process("-m", *SHORT, f"runs_dir={tmp_path}", "seed=0", *twice)
    assert done.returncode == 0, done.stderr
    assert "sweep of 1: 1 done (0 from before)" in done.stderr
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: asked for more than once, run once: digits sgd seed 0 (run ")
    assert note.endswith(" and 2 more")
    assert statuses(tmp_path) == ["done"]


def test_a_run_that_several_grids_have_is_one() -> None:
    grids = [[*SHORT, "seed=0,1"], [*SHORT, "seed=1,2,1"]]
    jobs = [job for grid in grids for job in preflight.composed(grid)]
    assert [job.config.seed for job in jobs] == [0, 1, 1, 2, 1]
    assert [job.config.seed for job in launching._distinct(jobs)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--cfg", "job"], "_target_: experiments.tasks.cifar10.build"),
        (["--cfg", "job", "--package", "model"], "_target_: experiments.models."),
        (["--info", "defaults"], "task/cifar10"),
    ],
)
def test_a_config_is_shown_without_its_data(options: list[str], shown: str, tmp_path: Path) -> None:
    runs, data = tmp_path / "runs", tmp_path / "data"
    done = train_in_a_process(*options, "task=cifar10", f"data_dir={data}", f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    assert shown in done.stdout + done.stderr  # Hydra logs what --info shows
    assert list(tmp_path.iterdir()) == []
