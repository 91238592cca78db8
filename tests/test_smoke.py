"""The main job end to end: every optimizer, two steps on both shipped tasks, to a report."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import commandline
from experiments.records.schema import load_runs
from tests.support import served

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("digits", "tinyshakespeare")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return served.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    result = python(
        "experiments.train",
        "--multirun",
        "optimizer=all",
        f"task={','.join(TASKS)}",
        "ruleset=tuned",
        "untuned=default",
        "budget=steps",
        "budget.steps=2",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        f"runs_dir={folder / 'runs'}",
    )
    assert result.returncode == 0, result.stderr
    report = python("analysis.report", "--runs", str(folder / "runs"), "--out", str(folder / "out"))
    assert report.returncode == 0, report.stderr
    return folder, report.stdout


def test_every_optimizer_ran_on_every_task(swept):
    runs, broken = load_runs(swept[0] / "runs")
    assert broken == []
    expected = {(task, name) for task in TASKS for name in commandline.choices("optimizer")}
    assert {(run.identity["task"], run.identity["optimizer"]) for run in runs} == expected
    assert {run.status for run in runs} == {"done"}
    assert {run.progress["step"] for run in runs} == {2}
    assert {run.identity["ruleset"] for run in runs} == {"tuned"}


def test_every_run_is_mirrored_offline(swept):
    for run in load_runs(swept[0] / "runs")[0]:
        assert list(run.path.glob(f"wandb/offline-run-*/run-{run.run_id}.wandb"))
        environment = json.loads((run.path / "environment.json").read_text())
        assert all(len(digest) == 64 for digest in environment["data_sha256"].values())
        assert environment["data_sha256"]


def test_the_report_holds_every_result(swept):
    folder, printed = swept
    page = (folder / "out" / "report.html").read_text()
    with (folder / "out" / "tables" / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for name in commandline.choices("optimizer"):
        assert name in printed
        assert name in page
        assert any(name in row.values() for row in rows)
    for path in ("tables/results.md", "tables/results.tex"):
        assert (folder / "out" / path).stat().st_size > 0
    figures = {path.name for path in (folder / "out" / "figures").iterdir()}
    for name in ("train_loss", "test_metric"):
        for axis in ("epoch", "train_seconds"):
            assert f"{name}_vs_{axis}.svg" in figures
