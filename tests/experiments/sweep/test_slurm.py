"""`launcher=submitit_slurm` by the job file that it makes, and by a stand-in for SLURM."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import slurm
from tests.support.sweeps import ROOT, command, measurements, statuses, sweep, wait_until

SLURM = ["launcher=submitit_slurm", "jobs=2", "hydra.launcher.partition=gpu"]
LONG = ["optimizer=adam", "seed=0,1,2", "budget.epochs=25", "threads=1"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with the calls that were made; its programs are first on the PATH."""
    home = tmp_path / "cluster"
    home.mkdir()
    stand_in = Path(slurm.__file__)
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        program = home / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} {name} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("STAND_IN", str(home))
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    return home


def calls(home: Path, name: str) -> list[list[str]]:
    lines = (home / "calls").read_text().splitlines()
    return [call for call in map(json.loads, lines) if call[0] == name]


@pytest.mark.slow
@pytest.mark.parametrize(("runs_per_job", "jobs"), [(1, 3), (2, 2)])
def test_an_array_whose_jobs_are_preempted_and_queued_again(tmp_path, cluster, runs_per_job, jobs):
    alone = tmp_path / "alone"
    assert sweep(alone, *LONG).returncode == 0
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        command(runs, *LONG, *SLURM, f"runs_per_job={runs_per_job}"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list(runs.glob("*/metrics.jsonl"))) >= jobs, process)
    script = (cluster / "job.sh").read_text()
    flags = dict(re.findall(r"#SBATCH --([\w-]+)=?(.*)", script))
    assert flags["array"] == f"0-{jobs - 1}%2"
    assert flags["partition"] == "gpu"
    assert flags["signal"] == "USR2@120"
    assert flags["time"] == "240"
    assert flags["requeue"] == ""
    assert flags["nodes"] == "1"
    time.sleep(0.5)
    listed = subprocess.run(
        ["pgrep", "-f", f"submitit.core._submit {runs}"], capture_output=True, text=True, check=True
    )
    for pid in map(int, listed.stdout.split()):
        if b"_submit" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3]:
            os.kill(pid, signal.SIGUSR2)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "sweep of 3: 3 done (0 from before)" in told
    assert statuses(runs) == ["done"] * 3
    assert measurements(runs) == measurements(alone)
    assert len(calls(cluster, "scontrol")) == jobs
    assert len(calls(cluster, "sbatch")) == 1


def test_a_machine_without_slurm_is_told_so(tmp_path):
    if shutil.which("sbatch"):
        pytest.skip("this machine has SLURM")
    result = sweep(tmp_path, *SLURM, "seed=0,1")
    assert result.returncode == 2
    assert result.stderr == (
        "error: launcher=submitit_slurm: there is no sbatch or srun. Use local.\n"
    )
