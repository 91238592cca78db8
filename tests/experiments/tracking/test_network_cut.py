"""A whole sweep on a machine without any network, not even its loopback interface."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.schema import load_runs
from experiments.tracking import offline

ROOT = Path(__file__).parents[3]
CUT = ["unshare", "--net", "--map-root-user"]


@pytest.mark.slow
def test_a_sweep_works_with_the_network_cut(tmp_path):
    try:
        able = subprocess.run([*CUT, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("this machine does not let a process leave its network (unshare --net)")
    command = [sys.executable, "-m", "experiments.train", "--multirun", "tracking=wandb"]
    grid = ["task=digits", "optimizer=adam,sgd", "budget=steps", "budget.steps=20"]
    # Logged in, so that it would go online if it could.
    environment = os.environ | {"WANDB_API_KEY": "x" * 40}
    environment.pop("WANDB_MODE", None)
    result = subprocess.run(
        [*CUT, *command, *grid, f"runs_dir={tmp_path}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "sweep of 2: 2 done" in result.stderr
    assert result.stderr.count("W&B: offline (") == result.stderr.count(" is not reachable)") == 1
    runs, broken = load_runs(tmp_path)
    assert not broken
    for run in runs:
        (log,) = offline.logs(run.path)
        assert (log.run_id, log.steps, log.ended) == (run.run_id, [18, 20], True)
