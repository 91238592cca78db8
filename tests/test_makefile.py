"""What the targets run, by the real make with stand-ins for Python."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import MAKE, ROOT, Checkout

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_help_is_the_default_and_lists_everything_without_set_up(checkout: Checkout) -> None:
    result = checkout.make()
    assert result.returncode == 0, result.stderr
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) :=", MAKEFILE, re.MULTILINE))
    listed = set(re.findall(r"^  ([A-Za-z_-]+) ", result.stdout, re.MULTILINE))
    assert {
        "sweep",
        "report",
        "tables",
        "figures",
        "tune",
        "data",
        "test",
        "lint",
        "type",
    } < targets
    assert {"OPT", "TASK", "SEEDS", "EPOCHS", "JOBS", "DATA", "RUNS", "OUT", "ARGS"} < variables
    assert listed == targets | variables
    assert "make sweep OPT=" in result.stdout
    assert not (checkout.root / ".venv").exists()


def test_sweep_with_its_defaults(ready: Checkout) -> None:
    assert ready.make("sweep").returncode == 0
    sweep, report = ready.programs()
    assert sweep == [
        *("-m", "experiments.train", "--multirun", "ruleset=tuned", "untuned=default"),
        *("optimizer=adafisher,adam,kfac,shampoo", "task=digits,tinyshakespeare", "seed=0,1,2"),
        *('data_dir="./data"', 'runs_dir="runs"'),
    ]
    assert report == ["-m", "analysis.report", "--runs", "runs", "--out", "out"]


def test_sweep_hands_every_variable_on(ready: Checkout) -> None:
    ready.make(
        *("sweep", "OPT=all", "TASK=ptb", "SEEDS=0", "EPOCHS=3", "JOBS=2"),
        *('DATA=/my data/it\'s, "here"', "RUNS=my runs", "OUT=my out"),
        "ARGS=ruleset=default budget=steps 'note=two words'",
    )
    sweep, report = ready.programs()
    assert sweep[5:] == [
        *("optimizer=all", "task=ptb", "seed=0"),
        *('data_dir="/my data/it\'s, \\"here\\""', 'runs_dir="my runs"', "budget.epochs=3"),
        *("launcher=joblib", "jobs=2"),
        *("ruleset=default", "budget=steps", "note=two words"),
    ]
    assert report[2:] == ["--runs", "my runs", "--out", "my out"]


def test_an_experiment_is_tuned_then_run_and_only_what_was_typed_narrows_it(
    ready: Checkout,
) -> None:
    assert ready.make("sweep", "EXPERIMENT=study_x", "RUNS=r").returncode == 0
    folders = ['data_dir="./data"', 'runs_dir="r"']
    tune, sweep, report = ready.programs()
    assert tune == ["-m", "experiments", "tune", "experiment=study_x", *folders]
    assert sweep == ["-m", "experiments.train", "--multirun", "experiment=study_x", *folders]
    assert report[2:] == ["--runs", "r", "--out", "out"]
    variables = ["OPT=adam", "SEEDS=0", "TRIALS=2", "JOBS=2", "ARGS=budget=steps"]
    assert ready.make("sweep", "EXPERIMENT=study_x", *variables).returncode == 0
    tune, sweep, _ = ready.programs()
    parallel = ["launcher=joblib", "jobs=2", "budget=steps"]
    assert tune[3:5] + tune[5:6] == ["experiment=study_x", "optimizer=adam", "trials=2"]
    assert sweep[3:6] == ["experiment=study_x", "optimizer=adam", "seed=0"]
    assert tune[-3:] == sweep[-3:] == parallel
    assert ready.make("plan", "EXPERIMENT=study_x").returncode == 0
    ((*_, last),) = ready.programs()
    assert last == "untuned=default"


def test_what_cannot_be_tuned_is_not_run(ready: Checkout) -> None:
    assert ready.make("sweep", "EXPERIMENT=study_x", fail="experiments:1").returncode == 2
    assert len(ready.programs()) == 1


def test_plan_takes_what_a_sweep_takes(ready: Checkout) -> None:
    variables = ["OPT=adam", "TASK=ptb", "SEEDS=0,1", "JOBS=4", "LAUNCHER=ray", "ARGS=retry=true"]
    assert ready.make("plan", *variables).returncode == 0
    (plan,) = ready.programs()
    assert ready.make("sweep", *variables).returncode == 0
    sweep, _ = ready.programs()
    assert plan[3:] == sweep[3:]
    assert sweep[-3:] == ["launcher=ray", "jobs=4", "retry=true"]


@pytest.mark.parametrize(
    ("figure", "told"), [([], []), (["FIG=a"], ["figure=a"])], ids=["all", "one"]
)
def test_missing_studies_run_before_the_figures_where_asked(
    ready: Checkout, figure: list[str], told: list[str]
) -> None:
    assert ready.make("figures", "RUN_MISSING=1", "DATA=d", *figure).returncode == 0
    study, report = ready.programs()
    assert study == [
        *("-m", "experiments", "study", "study=missing", *told, 'data_dir="d"', 'runs_dir="runs"')
    ]
    assert report[-2:] == (["--only", "a"] if figure else ["out", "--figures-only"])


def test_bench(ready: Checkout) -> None:
    given = ready.make("bench", "OUT=my out", "ARGS=part=adafisher quick=true")
    assert given.returncode == 0
    (program,) = ready.programs()
    assert program == ["-m", "experiments", "bench", 'out="my out"', "part=adafisher", "quick=true"]


@pytest.mark.parametrize(
    ("fail", "reports"),
    [
        ("experiments.train:1", True),
        ("experiments.train:2", False),
        ("analysis.report:1", True),
    ],
)
def test_a_failing_sweep_reports_and_fails(ready: Checkout, fail: str, reports: bool) -> None:
    assert ready.make("sweep", fail=fail).returncode == 2
    assert len(ready.programs()) == (2 if reports else 1)


@pytest.mark.parametrize("jobs", ["", "0", "-1", "two", "1.5", "2 3"])
def test_jobs_must_be_a_positive_whole_number(checkout: Checkout, jobs: str) -> None:
    result = checkout.make("sweep", f"JOBS={jobs}")
    assert result.returncode == 2
    assert f"error: JOBS={jobs}: must be a whole number of at least 1.\n" in result.stderr
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["report"], "analysis.report --runs runs --out out"),
        (["tables", "OUT=o"], "analysis.report --runs runs --out o --tables-only"),
        (["figures"], "analysis.report --runs runs --out out --figures-only"),
        (["figures", "FIG=a"], "analysis.report --runs runs --out out --figures-only --only a"),
        (
            ["tune", "OPT=adam", "TASK=digits", "TRIALS=9", "EPOCHS=5", "ARGS=seeds=1003"],
            "experiments tune optimizer=adam task=digits trials=9"
            ' data_dir="./data" runs_dir="runs" budget.epochs=5 seeds=1003',
        ),
        (
            ["versus", "OPT=a", "VS=b", "TASK=t", "TRIALS=8", "EPOCHS=3", "ARGS=margin=0.5"],
            "experiments versus optimizer=a against=b task=t trials=8 epochs=3"
            ' data_dir="./data" runs_dir="runs" margin=0.5',
        ),
        (
            ["tune", "EXPERIMENT=e", "OPT=adam", "ARGS=a=1"],
            'experiments tune experiment=e optimizer=adam data_dir="./data" runs_dir="runs" a=1',
        ),
        (["archive", "RUNS=r", "OUT=o"], 'experiments archive runs_dir="r" out="o"'),
        (["status", "RUNS=r"], 'experiments status runs_dir="r"'),
        (
            ["replay", "RUN=0a", "DATA=/d", "ARGS=x=1"],
            'experiments replay run=0a data_dir="/d" runs_dir="runs" x=1',
        ),
        (["calibration"], 'experiments calibration runs_dir="runs"'),
        (["publish", "OUT=o"], 'experiments publish out="o" runs_dir="runs"'),
        (["wandb-sync"], 'experiments wandb_sync runs_dir="runs"'),
        (["study"], 'experiments study study=all data_dir="./data" runs_dir="runs"'),
        (["study", "FIG=a"], 'experiments study study=a data_dir="./data" runs_dir="runs"'),
        (["paper", "OUT=o"], "analysis.report.paper --runs runs --out o"),
        (["bench-analysis", "ARGS=--runs 10"], "analysis.report.bench --runs 10"),
        (["data", "TASK=a,b", "DATA=d"], 'experiments data task=a,b data_dir="d"'),
        (["test", "ARGS=-m slow"], "pytest -m slow"),
        (["quick", "ARGS=-k b"], "pytest --quick -q -n 2 -k b"),
        (["type"], "mypy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_target_runs(ready: Checkout, arguments: list[str], call: str) -> None:
    assert ready.make(*arguments).returncode == 0
    assert ready.programs() == [["-m", *call.split(" ")]]
    assert ready.make(*arguments, fail=f"{call.split(' ')[0]}:1").returncode == 2


@pytest.mark.parametrize(("name", "given"), [("python3", []), ("mine", ["PYTHON=mine"])])
def test_gpu_check_needs_no_set_up(checkout: Checkout, name: str, given: list[str]) -> None:
    checkout.add_python(name, (3, 12))
    assert checkout.make("gpu-check", "OUT=my out", "ARGS=--seconds 9", *given).returncode == 0
    assert checkout.calls() == [["tests/gpu_check.py", "--out", "my out", "--seconds", "9"]]
    assert not (checkout.root / ".venv").exists()
    assert checkout.make("gpu-check", *given, fail="--out:1").returncode == 2


def test_lint_checks_format_and_style(ready: Checkout) -> None:
    ready.make("lint")
    assert [call[2:4] for call in ready.programs()] == [["format", "--check"], ["check", "."]]
    assert ready.make("lint", fail="ruff:1").returncode == 2


@pytest.mark.parametrize("fail", ["", "experiments.train:1"])
def test_smoke_leaves_no_folder_behind(ready: Checkout, fail: str) -> None:
    assert ready.make("smoke", fail=fail).returncode == (2 if fail else 0)
    (call,) = ready.programs()
    folder = Path(next(word for word in call if word.startswith("runs_dir=")).split('"')[1])
    assert folder.parent == ready.bin.parent
    assert not folder.exists()


def test_clean_leaves_records_data_and_venv(ready: Checkout) -> None:
    for name in ("out", "runs", "data", "wandb", ".ruff_cache", "tests/__pycache__"):
        (ready.root / name).mkdir(parents=True)
    ready.make("clean")
    left = {path.name for path in ready.root.iterdir()}
    assert {"runs", "data", "wandb", ".venv", "tests"} < left
    assert not left & {"out", ".ruff_cache"}
    assert not (ready.root / "tests" / "__pycache__").exists()


def test_ci_calls_targets_of_the_makefile_only() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    called = re.findall(r"^make (\S+)", script, re.MULTILINE)
    assert "test" in called
    assert set(called) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    # As the README tells a user to test.
    (command,) = re.findall(r"^make test.*$", script, re.MULTILINE)
    assert f"\n{command}   #" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("feature", [".ONESHELL", "!=", "&:", "$(file", "::=", ".RECIPEPREFIX"])
def test_no_feature_that_make_3_81_lacks(feature: str) -> None:
    assert feature not in MAKEFILE


def test_a_python_that_is_told_to_look_nowhere_finds_the_suite() -> None:
    for makefile, handed_on in (("", True), ("include Makefile\n", False)):
        told = subprocess.run(
            [MAKE, "--no-print-directory", "-f", "-", "show"],
            input=f"{makefile}show:\n\t@env\n",
            cwd=ROOT,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("PYTHONSAFEPATH=1" in told.stdout.splitlines()) == handed_on
