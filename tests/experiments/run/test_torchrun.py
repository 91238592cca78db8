"""`torchrun` on the command line: one run in two gloo processes is the run of one process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine.loop import Trainer
from experiments.records.schema import CHECKPOINT_FILE, load_runs
from experiments.run import run

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("loopback")

# What the processes run, when one of them is to misbehave at a step.
SCRIPT = """
import os, runpy, signal
from experiments.engine import loop

step = loop.Trainer._step

def misbehaving(trainer, *batch):
    if trainer.counters.step == {step} and trainer.built.world.rank == {rank}:
        {deed}
    return step(trainer, *batch)

loop.Trainer._step = misbehaving
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""
DIGITS = ("task=digits", "task.batch_size=65", "budget=steps", "budget.steps=6")
TEXT = (
    *("task=tinyshakespeare", "task.batch_size=5", "task.context=32", "task.eval_batch_size=2048"),
    *("model.layers=1", "budget=steps", "budget.steps=6"),
)


def torchrun(folder: Path, *overrides: str, script: Path | None = None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(script)] if script else ["-m", "experiments.train"]
    folders = [f"runs_dir={folder / 'runs'}", f"cache_dir={folder / 'cache'}"]
    return subprocess.run(
        [*command, *folders, *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def misbehaves(folder: Path, *, rank: int, step: int, deed: str) -> Path:
    script = folder / "misbehaves.py"
    script.write_text(SCRIPT.format(rank=rank, step=step, deed=deed))
    return script


def the_run(runs_dir: Path | str):
    (found,), broken = load_runs(Path(runs_dir))
    assert broken == []
    return found


def compare(two, one, rel: float) -> None:
    """Metrics, without what a clock decides and the percentiles of a curvature."""
    assert two.run_id == one.run_id
    assert len(two.rows) == len(one.rows) > 0
    for ours, theirs in zip(two.rows, one.rows, strict=True):
        for key, value in theirs.items():
            if key != "train_seconds" and not key.startswith("curvature_"):
                assert ours[key] == pytest.approx(value, rel=rel), key


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A run in two processes, and the attempt to run it again."""
    folder = tmp_path_factory.mktemp("twice")
    arguments = (*DIGITS, "optimizer=adafisher", "tracking.mode=offline")
    return folder, torchrun(folder, *arguments), torchrun(folder, *arguments)


@pytest.fixture
def alone(make_config):
    """The same run in one process."""

    def call(*overrides: str):
        config = make_config(*overrides)
        assert run.execute(config).status == "done"
        return the_run(config.runs_dir)

    return call


def test_two_processes_leave_the_record_of_one(twice, alone):
    folder, first, _ = twice
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("done, final test accuracy") == 1
    found = the_run(folder / "runs")
    assert found.status == "done"
    assert len(list(found.path.glob("wandb/offline-run-*"))) == 1
    files = {path.name for path in found.path.iterdir()} - {"wandb", "uncommitted.patch"}
    assert files == {"config.yaml", "environment.json", "metrics.jsonl", "status.json"}
    environment = json.loads((found.path / "environment.json").read_text())
    expected = {"count": 2, "distributed": "ddp", "devices": ["cpu", "cpu"]}
    assert environment["processes"] == expected
    # The model has BatchNorm, and 65 rows do not divide by two.
    one = alone(*DIGITS, "optimizer=adafisher")
    compare(found, one, rel=1e-6)
    for key in ("parameters", "state_bytes"):
        assert found.summary[key] == one.summary[key]


def test_a_finished_run_is_skipped(twice):
    folder, _, again = twice
    assert (again.returncode, again.stderr, again.stdout) == (0, "", "")
    assert len(list(the_run(folder / "runs").path.glob("wandb/offline-run-*"))) == 1


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["optimizer=adamm"],
            "error: Unknown optimizer: 'adamm'. Did you mean: adam, adamw, ademamix?",
        ),
        pytest.param(
            ["optimizer=shampoo", "distributed=fsdp"],
            "error: optimizer=shampoo: not with distributed=fsdp, as it needs whole parameters.",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["-m", "seed=0,1"],
            "error: A sweep (-m) does not run under torchrun. Use processes=<n>.",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_said_once(tmp_path, overrides, line):
    """The launcher adds a report of its own, below."""
    result = torchrun(tmp_path, *DIGITS, *overrides)
    assert result.returncode != 0
    lines = result.stderr.splitlines()
    assert lines[0] == line
    assert sum(text.startswith("error:") for text in lines) == 1
    assert "exitcode  : 2 " in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.parametrize("optimizer", ["adafisher", "adam", "sgd"])
def test_text_in_two_processes(tmp_path, alone, optimizer, way):
    """Five windows a step, of which the last has rows that do not count."""
    folder = tmp_path / "two"
    result = torchrun(
        folder, *TEXT, f"optimizer={optimizer}", f"distributed={way}", "tracking=none"
    )
    assert result.returncode == 0, result.stderr
    compare(the_run(folder / "runs"), alone(*TEXT, f"optimizer={optimizer}"), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["kfac", "ekfac", "shampoo"])
def test_factors_are_of_the_rows_of_both_processes(tmp_path, alone, optimizer):
    # Sampled labels differ between numbers of processes, and a ridge of 1e-12 blows rounding up.
    choice = "ridge=1e-4" if optimizer == "shampoo" else "fisher=empirical"
    arguments = [*TEXT, f"optimizer={optimizer}", f"optimizer.{choice}"]
    folder = tmp_path / "two"
    result = torchrun(folder, *arguments, "tracking=none")
    assert result.returncode == 0, result.stderr
    compare(the_run(folder / "runs"), alone(*arguments), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_run_stopped_in_one_of_two_processes_goes_on_in_a_single_one(
    tmp_path, make_config, alone, way
):
    script = misbehaves(tmp_path, rank=1, step=3, deed="os.kill(os.getpid(), signal.SIGTERM)")
    arguments = (*TEXT, "optimizer=adafisher", "tracking=none")
    stopped = torchrun(tmp_path, *arguments, f"distributed={way}", script=script)
    assert stopped.returncode != 0
    found = the_run(tmp_path / "runs")
    assert (found.status, found.reason) == ("interrupted", "SIGTERM: stopped after step 4")
    assert (found.path / CHECKPOINT_FILE).exists()
    config = make_config(*arguments)
    assert run.execute(config).status == "done"
    unbroken = alone(*arguments, f"runs_dir={tmp_path / 'unbroken'}")
    compare(the_run(tmp_path / "runs"), unbroken, rel=1e-6)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_two(tmp_path, make_config, monkeypatch, alone):
    arguments = (*DIGITS, "optimizer=adafisher", "tracking=none")
    config, step = make_config(*arguments), Trainer._step

    def signalled(trainer, inputs, targets):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, inputs, targets)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", signalled)
        assert run.execute(config).status == "interrupted"
    result = torchrun(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    assert "resumed after step 1" in result.stderr
    unbroken = alone(*arguments, f"runs_dir={tmp_path / 'unbroken'}")
    compare(the_run(tmp_path / "runs"), unbroken, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "deed", "status", "reason"),
    [
        (1, "raise ZeroDivisionError('why')", "failed", "process 1: ZeroDivisionError: why"),
        (1, "raise MemoryError('too much')", "out_of_memory", "process 1: too much"),
        (1, "os._exit(1)", "interrupted", "another process of the run ended"),
        (0, "raise ZeroDivisionError('why')", "failed", "ZeroDivisionError: why"),
    ],
)
def test_a_fault_in_one_process_ends_the_run(tmp_path, rank, deed, status, reason):
    script = misbehaves(tmp_path, rank=rank, step=2, deed=deed)
    result = torchrun(tmp_path, *DIGITS, "optimizer=adam", "tracking=none", script=script)
    assert result.returncode != 0
    found = the_run(tmp_path / "runs")
    assert (found.status, found.reason) == (status, reason), result.stderr


@pytest.mark.slow
def test_a_fault_in_one_process_before_the_training_is_a_row_too(tmp_path):
    """Here while the method trains of which the run is the control."""
    script = misbehaves(tmp_path, rank=1, step=2, deed="raise ZeroDivisionError('why')")
    controlled = ("optimizer=adam", "control=scalar", "tracking=none")
    result = torchrun(tmp_path, *DIGITS, *controlled, script=script)
    assert result.returncode != 0
    found = the_run(tmp_path / "runs")
    reason = "process 1: control=scalar: the method itself fails: ZeroDivisionError: why"
    assert (found.status, found.reason) == ("failed", reason), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("steps", "reason"),
    [(6, "loss is nan at step 2"), (1, "validation_loss is nan at step 1")],
    ids=["in training", "at the end"],
)
def test_divergence_is_decided_together(tmp_path, way, steps, reason):
    # Of one model only: FSDP has no BatchNorm.
    arguments = (*TEXT, "optimizer=sgd", "optimizer.lr=1e38", "tracking=none")
    result = torchrun(tmp_path, *arguments, f"distributed={way}", f"budget.steps={steps}")
    found = the_run(tmp_path / "runs")
    assert (found.status, found.reason) == ("diverged", reason), result.stderr
    assert [row["step"] for row in found.rows] == ([1] if steps == 1 else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "reason"),
    [(3, "loss is nan at step 4"), (5, "loss is nan at step 6")],
    ids=["in training", "at the end"],
)
def test_what_only_one_process_sees_ends_both(tmp_path, step, reason):
    """The weights of the second process are bad before the step; the first has good ones."""
    deed = "[w.data.fill_(float('nan')) for w in trainer.built.model.parameters()]"
    script = misbehaves(tmp_path, rank=1, step=step, deed=deed)
    result = torchrun(tmp_path, *DIGITS, "optimizer=adam", "tracking=none", script=script)
    found = the_run(tmp_path / "runs")
    assert (found.status, found.reason) == ("diverged", reason), result.stderr
