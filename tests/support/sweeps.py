"""Sweeps as a user starts them, for the tests: commands, waits, and what the records say."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.records.schema import load_runs
from tests.support import served

ROOT = Path(__file__).resolve().parents[2]
SWEEP = [sys.executable, "-m", "experiments.train", "--multirun", "tracking=none", "task=digits"]
LAUNCHERS = {
    "local": ["launcher=local"],
    "joblib": ["launcher=joblib", "jobs=2"],
    "submitit_local": ["launcher=submitit_local", "jobs=2"],
    "ray": ["launcher=ray", "jobs=2"],
}


def command(runs: Path, *overrides: str) -> list[str]:
    return [*SWEEP, f"runs_dir={runs}", *overrides]


def sweep(
    runs: Path, *overrides: str, run=served.run, **options
) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end; ``run=subprocess.run``: from a start by exec, as a shell does it."""
    return run(
        command(runs, *overrides), cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def start(runs: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a sweep that leads a process group of its own."""
    return subprocess.Popen(
        command(runs, *overrides), cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0
    )


def measurements(runs: Path):
    """The rows of every run, without what a clock decides."""
    return {
        run.run_id: [{k: v for k, v in row.items() if k != "train_seconds"} for row in run.rows]
        for run in load_runs(runs)[0]
    }


def status(runs: Path) -> str:
    """What `experiments.sweep.status` tells of a folder."""
    command = [sys.executable, "-m", "experiments", "status", f"runs_dir={runs}"]
    return served.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def statuses(runs: Path) -> list[str]:
    return sorted(run.status for run in load_runs(runs)[0])


def finished(runs: Path) -> dict[str, tuple[int, bytes]]:
    """The last change and the content of each done run's status; a second run would change them."""
    files = {}
    for path in runs.glob("*/status.json"):
        content = path.read_bytes()
        if json.loads(content)["status"] == "done":
            files[path.parent.name] = (path.stat().st_mtime_ns, content)
    return files


def row_count(runs: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in runs.glob("*/metrics.jsonl"))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        assert process.poll() is None, "the sweep ended before its time"
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s")


def wait_for_rows(runs: Path, count: int, process: subprocess.Popen) -> None:
    wait_until(lambda: row_count(runs) >= count, process)


def wait_for_checkpoint(runs: Path, process: subprocess.Popen) -> None:
    wait_until(lambda: any(runs.glob("*/checkpoint.pt")), process)


def children_of(runs: Path) -> list[int]:
    """Processes of any kin that execute a run of this folder, or fork those that do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        module = {b"experiments.sweep.child", b"experiments.sweep.forkserver"} & set(words)
        if module and any(os.fsencode(runs) in word for word in words):
            found.append(int(path.parent.name))
    return found


def kin(pid: int) -> list[int]:
    """The children of a process."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]
