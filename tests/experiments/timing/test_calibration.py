"""The cache of calibrations, and the runs that go by them."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.config import compose, named
from experiments.engine.build import build_task
from experiments.errors import UserError
from experiments.optimizers.kfac_preconditioner import KFACPreconditioner
from experiments.records.calibration import RUN_FILE, read
from experiments.records.outcome import PreparationError
from experiments.records.schema import load_run
from experiments.records.store import RunFolder
from experiments.run import run
from experiments.timing import (
    calibration,
    calibration_key,
    calibration_process,
    calibration_report,
    steppers,
)
from tests.support.calibrations import made_up

MATCH = ("budget=match_seconds", "budget.reference_steps=4")


@pytest.fixture
def config(make_config):
    return make_config("optimizer=adam", *MATCH)


@pytest.fixture
def cached(config) -> Path:
    """The file of a made-up calibration of `config`: half the cost of the reference."""
    reference = calibration_key.reference_section(config)
    key = calibration_key.key(config, reference, calibration_key.machine(config))
    path = config.runs_dir / calibration_key.CACHE_DIR / f"{key}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(made_up().to_json())
    return path


@pytest.fixture(autouse=True)
def forgotten():
    yield
    named.forget()


def no_measuring(*arguments):
    raise AssertionError("measured")


def test_another_seed_lr_or_budget_finds_the_same_file(make_config, cached):
    for change in (
        "seed=3",
        "optimizer.lr=0.5",
        "budget.reference_epochs=1",
        "task.suite.epochs=3",
        "optimizer.suite.search.lr.low=1e-6",
        "optimizer.suite.family=adam",
        "+optimizer.suite.schedule.name=constant",
    ):
        config = make_config("optimizer=adam", *MATCH, change)
        assert calibration.known(config, config.runs_dir) == made_up()
    # For a planner: what was measured serves any budget.
    assert calibration.known(make_config(), config.runs_dir) == made_up()


@pytest.mark.parametrize(
    "change",
    [
        "optimizer=sgd",
        "optimizer.amsgrad=true",
        "optimizer.weight_decay=0.1",
        "+optimizer.suite.ema=0.999",
        "optimizer.suite.needs.create_graph=true",
        "+optimizer.suite.of_another_version=1",
        "task.batch_size=32",
        "model.width=8",
        "precision=bf16",
        "deterministic=true",
        "threads=2",
        "budget.match_seconds=adam",
    ],
)
def test_what_changes_the_cost_is_not_known(make_config, cached, change):
    config = make_config("optimizer=adam", *MATCH, change)
    assert calibration.known(config, config.runs_dir) is None


def without_the_library(patch):
    patch.setenv("ADAFISHER_NATIVE", "0")


def without_a_compiler(patch):
    patch.setenv("CC", "/nowhere/cc")


def with_other_code(patch):
    patch.setattr(calibration_key, "_checksum", lambda folder: "edited")


def with_another_package(patch):
    patch.setattr(calibration_key.metadata, "version", lambda name: "9.9")


@pytest.mark.parametrize(
    "change", [without_the_library, without_a_compiler, with_other_code, with_another_package]
)
def test_what_was_measured_with_other_code_is_not_known(config, cached, monkeypatch, change):
    """Adam is torch's, its reference AdaFisher is of this repository."""
    monkeypatch.setenv("CC", " ")  # names no other compiler than none at all
    assert calibration.known(config, config.runs_dir) is not None
    change(monkeypatch)
    assert calibration.known(config, config.runs_dir) is None


@pytest.mark.parametrize(
    ("key", "amounts"),
    [
        ("optimizer.weight_decay", ("1e-5", "0.1", "0")),
        ("+optimizer.suite.ema", ("0.9", "0.999", "null")),
    ],
)
def test_every_amount_but_none_is_one_measurement(make_config, key, amounts):
    configs = [make_config(*MATCH, f"{key}={one}") for one in amounts]
    paths = [calibration_key.path_of(config, config.runs_dir) for config in configs]
    assert paths[0] == paths[1] != paths[2]


OPTIMIZER = """
import torch

class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
"""
RARELY = """
from torch.optim import SGD

REFRESHES = []

class Mine(SGD):
    def __init__(self, params, lr=0.1, *, rarity: int = 25):
        super().__init__(params, lr)
        self.rarity, self.steps = rarity, 0

    def step(self, closure=None):
        if self.steps % self.rarity == 0:
            REFRESHES.append(self.steps)
        self.steps += 1
        return super().step(closure)
"""
TASK = """
import torch
from torch import nn
from experiments.tasks.own import Metric, Task, task

def build() -> Task:
    inputs, answers = torch.ones(64, 4), torch.arange(64) % 2
    return task(
        model=lambda: nn.Linear(4, 2),
        loss=nn.functional.cross_entropy,
        train=(inputs, answers),
        validation=0.5,
        test=(inputs, answers),
    )
"""


@pytest.mark.parametrize(
    ("group", "text", "name"), [("optimizer", OPTIMIZER, ":Mine"), ("task", TASK, "")]
)
def test_an_edited_file_is_measured_anew(make_config, tmp_path, group, text, name):
    """What a step costs is in it; so are the methods of one setting that are measured together."""
    file = tmp_path / f"edited_{group}.py"
    configs = []
    for content in (text, text, f"{text}# edited"):
        file.write_text(content)
        configs.append(make_config(*MATCH, f"{group}={file}{name}"))
    paths = [calibration_key.path_of(config, config.runs_dir) for config in configs]
    assert paths[0] == paths[1] != paths[2]
    settings = [calibration_key.setting_key(config) for config in configs]
    assert settings[0] == settings[1]
    assert (settings[1] != settings[2]) is (group == "task")


def test_a_run_trains_the_matched_steps_and_keeps_the_calibration(config, cached, monkeypatch):
    monkeypatch.setattr(calibration, "measure", no_measuring)
    assert run.execute(config).status == "done"
    record = load_run(config.runs_dir / config.run_id)
    assert record.progress["step"] == record.progress["total_steps"] == 8
    assert record.summary["budget_train_seconds"] == 4.0
    assert record.summary["calibration"]["ratio"] == 0.5
    assert record.identity["budget"] == "time of 4 steps of adafisher"
    assert read(record.path / RUN_FILE) == made_up()


def test_a_control_takes_the_steps_of_its_method(make_config, cached, monkeypatch):
    monkeypatch.setattr(calibration, "measure", no_measuring)
    config = make_config("optimizer=adam", *MATCH, "control=scalar")
    assert run.execute(config).status == "done"
    record = load_run(config.runs_dir / config.run_id)
    assert record.progress["step"] == 8
    # It is no reference of the time, nor held against it.
    assert calibration_report.matched([record]) == []


def test_a_resumed_run_reads_its_own_calibration_back(config, cached, monkeypatch):
    """Even if the cache says otherwise by then, or is gone."""
    folder = RunFolder(config.runs_dir, config.run_id)
    monkeypatch.setattr(calibration, "measure", no_measuring)
    own = calibration.of_run(config, folder, lambda line: None)
    folder.create()
    folder.write(RUN_FILE, own.to_json())
    cached.write_bytes(made_up(ratio=3.0).to_json())
    assert calibration.of_run(config, folder, lambda line: None) == made_up()
    shutil.rmtree(cached.parent)
    assert calibration.of_run(config, folder, lambda line: None) == made_up()


def test_a_run_whose_calibration_is_broken_does_not_take_another(config, cached):
    folder = RunFolder(config.runs_dir, config.run_id)
    folder.create()
    folder.write(RUN_FILE, b"{")
    with pytest.raises(UserError, match=r"calibration\.json: not readable"):
        calibration.of_run(config, folder, lambda line: None)


def test_a_run_that_cannot_be_calibrated_is_a_row_and_tried_again_only_on_retry(
    config, monkeypatch
):
    asked = []

    def measure(configs, runs_dir):
        asked.append(len(configs))
        return [PreparationError("calibration: its process was killed by SIGSEGV")]

    monkeypatch.setattr(calibration_process, "measure", measure)
    outcome = run.execute(config)
    assert outcome.status == "failed"
    record = load_run(config.runs_dir / config.run_id)
    assert (record.status, record.reason) == ("failed", outcome.reason)
    assert record.reason == "calibration: its process was killed by SIGSEGV"
    assert record.identity["budget"] == "time of 4 steps of adafisher"
    assert run.execute(config).skipped
    run.execute(config.having(retry=True))
    assert asked == [1, 1]


def test_what_kills_the_process_takes_no_other_method_with_it(make_config, monkeypatch):
    """The second of three dies, and the third has a process of its own."""
    configs = [make_config(f"optimizer={name}", *MATCH) for name in ("adam", "sgd", "soap")]
    asked = []

    def process(command, *, input, **keywords):
        names = [job["optimizer"]["suite"]["name"] for job in json.loads(input)["jobs"]]
        asked.append(names)
        answers = "null\n" * (len(names) if "sgd" not in names else names.index("sgd"))
        return SimpleNamespace(stdout=answers, returncode=-signal.SIGSEGV)

    monkeypatch.setattr(calibration_process.subprocess, "run", process)
    found = calibration_process.measure(configs, configs[0].runs_dir)
    assert asked == [["adam", "sgd", "soap"], ["soap"]]
    assert [found[0], found[2]] == [None, None]
    assert str(found[1]) == "calibration: its process was killed by SIGSEGV"


def test_a_mistake_that_only_measuring_finds_is_refused_as_without_it(config, monkeypatch):
    refused = [UserError("calibration: Invalid x: 1. Must be 2.")]
    monkeypatch.setattr(calibration_process, "measure", lambda configs, runs_dir: refused)
    with pytest.raises(UserError, match="Must be 2"):
        run.execute(config)
    assert not (config.runs_dir / config.run_id).exists()


@pytest.mark.parametrize(("retry", "measured"), [("false", []), ("true", [["adam"]])])
def test_a_sweep_measures_only_for_runs_that_it_would_start(
    config, monkeypatch, capsys, retry, measured
):
    """Here the run of seed 1, which has failed already."""
    asked = []

    def measure(some, runs_dir):
        asked.append([one.optimizer.name for one in some])
        return [PreparationError("calibration: why") for _ in some]

    monkeypatch.setattr(calibration_process, "measure", measure)
    folders = (f"runs_dir={config.runs_dir}", f"cache_dir={config.cache_dir}")
    typed = ["optimizer=adam", *MATCH, "tracking=none", "threads=1", *folders, "seed=1"]
    first = compose.composed(typed)
    assert run.execute(first).status == "failed"
    asked.clear()
    calibration.prepare([compose.composed([*typed, f"retry={retry}"])], 1)
    assert asked == measured
    told = "warning: digits adam: calibration: why" in capsys.readouterr().err
    assert told is bool(measured)


def test_a_sweep_measures_with_the_cores_that_a_scheduler_gives_each_run(config, monkeypatch):
    asked = []

    def measure(some, runs_dir):
        asked.extend(one.threads for one in some)
        return [made_up() for _ in some]

    monkeypatch.setattr(calibration, "measure", measure)
    calibration.prepare([config.having(threads=None)], None, cores_each=3)
    assert asked == [3]


def test_other_budgets_have_no_calibration(make_config):
    config = make_config()
    folder = RunFolder(config.runs_dir, config.run_id)
    assert calibration.of_run(config, folder, no_measuring) is None


def test_ctrl_c_ends_the_measuring_without_a_traceback():
    command = [sys.executable, "-m", "experiments.timing.calibration_child"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    maps = Path(f"/proc/{child.pid}/maps")
    deadline = time.monotonic() + 120
    while "libtorch" not in maps.read_text():  # it is in the midst of its imports
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert (child.returncode, told) == (-signal.SIGINT, b"")


@pytest.mark.slow
def test_methods_are_measured_once_and_a_broken_file_anew(make_config, cached, monkeypatch):
    """For real, in the child process: two methods of a tiny model, of which one is known."""
    cached.write_text("{")
    configs = [make_config(f"optimizer={name}", *MATCH) for name in ("adam", "adafisher")]
    runs_dir = configs[0].runs_dir
    found = calibration.measure(configs, runs_dir)
    assert [one.method for one in found] == ["adam", "adafisher"]
    assert read(cached) == found[0]
    assert found[1].ratio == pytest.approx(1)
    assert found[1].steps(123) == 123
    assert found[0].published_ratio == 0.95
    monkeypatch.setattr(calibration_process, "measure", no_measuring)
    assert calibration.measure(configs, runs_dir) == found


def test_what_a_method_is_measured_beside_matters_to_a_plan_alone(make_config, cached):
    other = make_config("optimizer=adam", "budget=match_seconds", "budget.match_seconds=sgd")
    assert calibration.known(other, other.runs_dir) is None
    assert calibration.of_any_reference(other, other.runs_dir) == made_up()
    unknown = make_config("optimizer=sgd")
    assert calibration.of_any_reference(unknown, unknown.runs_dir) is None


def test_a_refresh_is_timed_apart_from_the_other_steps(make_config, monkeypatch):
    """By two models: one that refreshes in its first step alone, one that does in each."""
    calls, plain = [], KFACPreconditioner._refresh
    monkeypatch.setattr(
        KFACPreconditioner, "_refresh", lambda own: (calls.append(own), plain(own))[1]
    )
    config = make_config("optimizer=kfac")
    task = build_task(config)
    found = steppers.steps_of(config, task)
    assert found.period == 10
    for _ in range(12):
        found.plain()
    assert len(calls) == 1
    for _ in range(3):
        found.refreshing()
    assert len(calls) == 1 + 3
    assert steppers.steps_of(make_config("optimizer=adam"), task).refreshing is None


def test_a_refresh_of_ones_own_is_timed_apart_where_its_argument_is_named(make_config, tmp_path):
    file = tmp_path / "rarely.py"
    file.write_text(RARELY)
    typed = f"optimizer={file}:Mine"
    task = build_task(make_config())
    assert steppers.steps_of(make_config(typed), task).refreshing is None
    config = make_config(typed, "+optimizer.suite.refresh=rarity")
    found = steppers.steps_of(config, task)
    assert found.period == 25
    refreshes = sys.modules["rarely"].REFRESHES
    refreshes.clear()  # of the steps that were tried
    for _ in range(5):
        found.plain()
    assert len(refreshes) == 1
    for _ in range(5):
        found.refreshing()
    assert len(refreshes) == 1 + 5
