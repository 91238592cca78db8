import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.tuning import space, tune, tuned_file, two_stages
from experiments.tuning.options import TuneOptions
from experiments.tuning.optuna_trials import JOURNAL
from tests.support.commands import exit_code

ROOT = Path(__file__).resolve().parents[3]
SHORT = ["budget=steps", "budget.steps=20"]
FULL = ["sampler=full_grid"]
METHOD = ["optimizer=sgd", "task=digits"]
LR = space.Dimension("lr", 3e-3, 3.0, True)  # as conf/optimizer/sgd.yaml has it


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The folder that takes the place of conf/tuned."""
    monkeypatch.setattr(tuned_file, "TUNED", tmp_path / "tuned")
    return tmp_path / "tuned"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["task=digits"], "Missing value: optimizer"),
        ([*METHOD, "trials=0"], "Invalid trials: 0. Must be a whole number >= 1."),
        ([*METHOD, "trials=few"], "Invalid trials: 'few'"),
        ([*METHOD, "seeds=1,x"], "Invalid seeds: 'x'"),
        ([*METHOD, "seeds=1001,1001"], "Invalid seeds: (1001, 1001)"),
        ([*METHOD, "seeds=1000,2"], "Invalid seeds: 2. Must be >= 1000: smaller ones are for"),
        ([*METHOD, "sampler=lhs"], "Invalid sampler: 'lhs'. Must be one of: grid, full_grid, "),
        ([*METHOD, "trials=3"], "Invalid trials: 3. Must be >= 4 with sampler=grid"),
        (
            [*METHOD, "+optimizer.suite.search.momentum={low: 0.5, high: 0.9, scale: linear}"],
            "Invalid sampler: 'grid'. It searches one hyperparameter",
        ),
        ([*METHOD, "trials=5", "again=true"], "Invalid again: true. It is for sampler=grid and an"),
        ([*METHOD, "sampler=sobol", "again=true"], "Invalid again: true. It is for sampler=grid"),
        ([*METHOD, "passes=0"], "Invalid passes: 0. Must be a whole number >= 1."),
        ([*METHOD, "passes=2", "trials=7"], "Invalid passes: 2. More than 1 are for sampler=grid"),
        ([*METHOD, "passes=2", "sampler=tpe"], "Invalid passes: 2. More than 1 are for sampler="),
        (
            [*METHOD, "grid=lr:4"],
            "Invalid grid: lr:4. It is for sampler=full_grid, not for sampler=",
        ),
        ([*METHOD, *FULL, "grid=lr:8"], "Invalid grid: lr:8. It is 8 trials, not 16."),
        ([*METHOD, *FULL, "grid=lr:16,momentum:1"], "Invalid grid: lr:16,momentum:1. Must be two"),
        ([*METHOD, *FULL, "grid=lr"], "Invalid grid: 'lr'. Must be names with values, as name:8"),
        ([*METHOD, *FULL, "grid=lr:many"], "Invalid grid: 'many'. Must be a whole number."),
        ([*METHOD, *FULL, "grid=lr:8,damping:2"], "Invalid grid: 'damping'. Of sgd it must be one"),
        ([*METHOD, *FULL, "trials=1"], "Invalid trials: 1. Must be >= 2 with sampler=full_grid."),
        ([*METHOD, *FULL, "again=true"], "Invalid again: true. It is for sampler=grid"),
        ([*METHOD, "score=best"], "Invalid score: 'best'. Must be one of: worst, mean."),
        ([*METHOD, "choose=test"], "Invalid choose: 'test'. Must be one of: metric, loss."),
        ([*METHOD, "pruner=asha"], "Invalid pruner: 'asha'. Must be one of: none, median, halving"),
        ([*METHOD, "pruner=median", "sampler=tpe"], "Invalid pruner: 'median'. Must be none"),
        ([*METHOD, "pruner=halving", *SHORT, "budget.steps=3"], "Invalid pruner: 'halving'"),
        ([*METHOD, "tuned=w8,w16"], "Invalid tuned: 'w8,w16'. Must be one name."),
        ([*METHOD, "tuned=ledgers"], "Invalid tuned: 'ledgers'."),
        ([*METHOD, "seed=3"], "Invalid override: seed=3. The seeds of the trials are seeds=."),
        ([*METHOD, "optimizer.momentum=0"], "Invalid override: optimizer.momentum=0. The tuned"),
        ([*METHOD, "task.validation_fraction=0"], "Invalid task.validation_fraction: 0"),
        (["optimizer=adamm", "task=digits"], "Unknown optimizer: 'adamm'"),
        (
            [*METHOD, "+optimizer.suite.search.rate={low: 1, high: 2, scale: log}"],
            "Invalid optimizer.suite.search.rate: sgd has no such hyperparameter",
        ),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, line):
    assert exit_code("tune", *arguments, f"runs_dir={tmp_path}") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {line}")
    assert told.count("\n") == 1


def test_the_command_in_the_ledger_is_the_one_that_makes_it_again():
    asked = TuneOptions(trials=4, seeds=(2000, 2001), sampler="tpe", startup=2)
    typed = ["model=resnet18", "runs_dir=/tmp/x", "jobs=2", "hydra/launcher=joblib", "retry=true"]
    command = tuned_file.command("adam", "digits", asked, typed)
    assert command == (
        "make tune OPT=adam TASK=digits TRIALS=4 "
        "ARGS='seeds=2000,2001 sampler=tpe startup=2 model=resnet18'"
    )
    grid = TuneOptions(24, sampler="full_grid", grid={"lr": 8, "eps": 3}, choose="loss")
    assert tuned_file.command("adam", "digits", grid, []).endswith(
        "TRIALS=24 ARGS='sampler=full_grid grid=lr:8,eps:3 choose=loss'"
    )
    assert tuned_file.command("adam", "digits", TuneOptions(), []) == (
        "make tune OPT=adam TASK=digits TRIALS=16"
    )
    assert tuned_file.command("adam", "digits", TuneOptions(), ["model.width=8"], tuned="w8") == (
        "make tune OPT=adam TASK=digits TRIALS=16 ARGS='tuned=w8 model.width=8'"
    )


def test_by_default_sixteen_values_with_three_seeds_apart_from_those_of_results():
    assert TuneOptions() == TuneOptions(
        16, (1000, 1001, 1002), "grid", 8, "none", again=False, passes=1
    )


def test_a_comparison_keeps_its_name_though_options_came_later():
    """What `versus` is named by: at their defaults they are no part of it."""
    assert TuneOptions().facts == {
        "trials": 16,
        "seeds": (1000, 1001, 1002),
        "sampler": "grid",
        "startup": 8,
        "pruner": "none",
        "again": False,
        "passes": 1,
    }
    assert TuneOptions(choose="loss").facts["choose"] == "loss"


def test_a_seed_that_has_a_result_is_refused(tmp_path, tuned, make_config):
    from experiments.run import execute

    config = make_config("optimizer=adam", "task=digits", "seed=1001")
    assert execute(config).status == "done"
    with pytest.raises(UserError) as refused:
        tune.tune("sgd", "digits", TuneOptions(), [f"runs_dir={config.runs_dir}", *SHORT])
    assert str(refused.value).startswith(f"Invalid seeds: 1001. {config.runs_dir} has a result")
    tune._check_unreported((1001,), "tinyshakespeare", config.runs_dir)
    tune._check_unreported((2000,), "digits", config.runs_dir)


def test_trials_that_failed_are_told_in_one_line(tmp_path, tuned, monkeypatch, capsys):
    facts = {"trials": 16, "failed": 15, "on_edge": [], "seeds": [1000], "score": "worst seed"}
    facts |= {"spread": {"metric": "validation_loss"}, "chosen": {"lr": 0.1}, "pruner": "none"}
    facts |= {"sampler": "sobol", "budget": "1 epoch", "model": "small_cnn", "tokenization": None}
    made = tune.Tuning([LR], [], facts)
    monkeypatch.setattr(tune, "search", lambda *_, **__: made)
    tune.tune("sgd", "digits", TuneOptions(), [])
    assert capsys.readouterr().err.splitlines() == [
        "warning: sgd on digits: 15 of 16 trials failed: they say nothing of the method, and do "
        "not count as its tuning."
    ]


@pytest.mark.slow
def test_a_small_tuning_writes_the_best_of_its_trials(tmp_path, tuned, capfd):
    overrides = [f"runs_dir={tmp_path}", *SHORT]
    path = tune.tune("sgd", "digits", TuneOptions(trials=4, seeds=(1007, 1008)), overrides)
    assert path == tuned / "digits" / "sgd.yaml"
    content = yaml.safe_load(path.read_text())
    ledger = yaml.safe_load((path.parent / "ledgers" / "sgd.yaml").read_text())
    runs, _ = load_runs(tmp_path / tune.TRIALS_DIR)
    # By hand: two ends, then a half coarse step, here half the space, on either side of the better.
    tried = {run.identity["hyperparameters"]["lr"] for run in runs}
    low, high = 3e-3, 3.0
    width = (high / low) ** 0.5
    assert tried in (
        {low, high, float(f"{low / width:.3g}"), float(f"{low * width:.3g}")},
        {low, high, float(f"{high / width:.3g}"), float(f"{high * width:.3g}")},
    )
    assert {trial["values"]["lr"] for trial in ledger["trials"]} == tried
    # Each trial is the worst of its seeds' best evaluations on validation.
    best = {rate: {} for rate in tried}
    for run in runs:
        values = [row["validation_accuracy_percent"] for row in run.rows]
        best[run.identity["hyperparameters"]["lr"]][run.identity["seed"]] = max(values)
    for trial in ledger["trials"]:
        if trial["state"] == "done":
            scores = best[trial["values"]["lr"]]
            assert trial["scores"] == [scores[1007], scores[1008]]
            assert trial["score"] == min(scores.values())
    done = [trial for trial in ledger["trials"] if trial["state"] == "done"]
    chosen = min(done, key=lambda trial: (-trial["score"], trial["loss"]))
    assert content["optimizer"] == chosen["values"]
    assert (content["tuning"]["seeds"], content["tuning"]["steps"]) == ([1007, 1008], 20)
    _check_that_test_is_not_seen(runs, capfd, trials=4)


def _check_that_test_is_not_seen(runs, capfd, *, trials):
    """Nothing was measured on it, and no line speaks of it; every trial shows its score."""
    assert not [key for run in runs for row in run.rows for key in row if key.startswith("test")]
    told = capfd.readouterr()
    lines = (told.out + told.err).splitlines()
    assert not [line for line in lines if "test" in line.replace("/pytest-", "").lower()]
    shown = [line for line in told.out.splitlines() if line.startswith("sgd on digits, ")]
    assert len(shown) == trials
    assert all("lr=" in line and ("validation" in line or "diverged" in line) for line in shown)
    ended = [line for line in told.err.splitlines() if ": done" in line]
    assert len(ended) == sum(run.status == "done" for run in runs)
    assert all("validation accuracy" in line for line in ended)


@pytest.mark.slow
def test_every_method_has_as_many_trials_whatever_it_has_to_be_searched(tmp_path, tuned):
    """SGD has momentum beside weight decay; Adam none, and gets those trials for its rate."""
    overrides = [f"runs_dir={tmp_path}", *SHORT]
    asked = TuneOptions(trials=4, seeds=(1000,), passes=3)
    for name, keys in (
        ("sgd", ["lr", "weight_decay", "momentum"]),
        ("adam", ["lr", "weight_decay"]),
    ):
        path = tune.tune(name, "digits", asked, overrides)
        content = yaml.safe_load(path.read_text())
        ledger = yaml.safe_load((path.parent / "ledgers" / path.name).read_text())
        assert list(content["optimizer"]) == list(content["tuning"]["space"]) == keys
        assert content["tuning"]["trials"] == len(ledger["trials"]) == 12
        points = {tuple(trial["values"].items()) for trial in ledger["trials"]}
        assert len(points) == 12
        assert path.read_text().count("\n# ") >= 4


@pytest.mark.slow
def test_trials_of_two_hyperparameters_are_pairs_and_the_poorer_half_is_stopped(tmp_path, tuned):
    search = "+optimizer.suite.search.momentum={low: 0.5, high: 0.99, scale: linear}"
    overrides = [f"runs_dir={tmp_path}", *SHORT, search]
    asked = TuneOptions(trials=2, seeds=(1000,), sampler="sobol", pruner="median")
    path = tune.tune("sgd", "digits", asked, overrides)
    runs, _ = load_runs(tmp_path / tune.TRIALS_DIR)
    points = space.points([LR, space.Dimension("momentum", 0.5, 0.99)], 2)
    tried = [
        ({key: run.identity["hyperparameters"][key] for key in points[0]}, run.identity["budget"])
        for run in runs
    ]
    content = yaml.safe_load(path.read_text())
    expected = [*((point, "10 steps") for point in points), (content["optimizer"], "20 steps")]
    assert sorted(map(repr, tried)) == sorted(map(repr, expected))
    assert (content["tuning"]["completed"], content["tuning"]["pruned"]) == (1, 1)


INTO = """
import sys
from pathlib import Path
from experiments import __main__
from experiments.config import arguments
from experiments.tuning import tuned_file
tuned_file.TUNED = Path(FOLDER)

arguments.command(__main__.main, ["tune", *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "sobol"])
def test_killed_thrice_it_ends_with_exactly_its_trials(tmp_path, sampler):
    """For real: the process, its sweep and their runs die at once, wherever they are."""
    script = INTO.replace("FOLDER", repr(str(tmp_path / "tuned")))
    file = tmp_path / "tuned" / "digits" / "sgd.yaml"
    typed = ["trials=4", "seeds=1000", f"sampler={sampler}", f"runs_dir={tmp_path / 'runs'}"]
    command = [sys.executable, "-c", script, *METHOD, *typed, *SHORT]
    folder = tmp_path / "runs" / tune.TRIALS_DIR
    for records in (0, 1, 2):  # the last one in the second stage of a grid
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        while process.poll() is None and len(list(folder.glob("*/status.json"))) <= records:
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it could be killed"
        _kill_tree(process.pid)
        process.wait()
    assert not file.exists()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    tuning = yaml.safe_load(file.read_text())["tuning"]
    assert tuning["trials"] == tuning["completed"] + tuning["diverged"] == 4
    runs, _ = load_runs(folder)
    assert len(runs) == 4
    rates = {run.identity["hyperparameters"]["lr"] for run in runs}
    grids = [{*two_stages.coarse(LR, 2), *two_stages.fine(LR, 2, best, 2)} for best in (0, 1)]
    quasi_random = {point["lr"] for point in space.points([LR], 4)}
    assert rates in (grids if sampler == "grid" else [quasi_random])
    assert len(list(folder.glob(f"*/{JOURNAL}"))) == (sampler == "sobol")


def _kill_tree(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        _kill_tree(child)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_stops_the_sweep_and_the_same_command_goes_on(tmp_path):
    typed = [*METHOD, "trials=4", "budget=steps", "budget.steps=100000", f"runs_dir={tmp_path}"]
    process = subprocess.Popen([sys.executable, "-m", "experiments", "tune", *typed], cwd=ROOT)
    folder = tmp_path / tune.TRIALS_DIR
    while process.poll() is None and not list(folder.glob("*/status.json")):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    (run,), _ = load_runs(folder)
    assert run.status == "interrupted"
