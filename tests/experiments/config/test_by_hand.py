"""Hydra as its users know it: `--cfg`, `--info`, ranges and globs of a sweep, completion."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from experiments.config import commandline
from tests.support import served
from tests.support.sweeps import ROOT, statuses, sweep

TRAIN = [sys.executable, "-m", "experiments.train"]


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return served.run([*TRAIN, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_config_is_shown_and_nothing_runs(tmp_path):
    typed = ["optimizer=adam", "optimizer.lr=0.25", f"runs_dir={tmp_path / 'runs'}"]
    shown = train("--cfg", "job", *typed)
    assert shown.returncode == 0, shown.stderr
    config = OmegaConf.create(shown.stdout)
    assert config.optimizer.lr == 0.25
    assert "hydra" not in config
    assert statuses(tmp_path / "runs") == []
    assert train("--info", "defaults-tree").returncode == 0


def test_the_config_of_a_sweep_is_refused_in_one_line():
    result = train("--cfg", "job", "--multirun", "seed=0,1")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr
        == "error: --cfg shows the config of one run: leave --multirun and --run out.\n"
    )


def test_bash_completes_choices_and_keys():
    line = "python -m experiments.train --multirun optimizer=ada"
    script = (
        f'eval "$({" ".join(TRAIN)} -sc install=bash)"\n'
        f'COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=({sys.executable})\n'
        '_experiments_train; echo "${COMPREPLY[@]}"\n'
        'COMP_LINE="python other.py opt"; _experiments_train; echo "${#COMPREPLY[@]}"\n'
    )
    told = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    words, others = told.stdout.splitlines()
    expected = [name for name in commandline.choices("optimizer") if name.startswith("ada")]
    assert words.split() == [f"optimizer={name}" for name in expected]
    assert others == "0"


@pytest.mark.slow
def test_a_sweep_over_a_glob_and_a_range(tmp_path):
    grid = ["optimizer=glob(adam*)", "seed=range(0,2)", "budget=steps", "budget.steps=1"]
    result = sweep(tmp_path, *grid)
    assert result.returncode == 0, result.stderr
    count = 2 * sum(name.startswith("adam") for name in commandline.choices("optimizer"))
    assert statuses(tmp_path) == ["done"] * count
