import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments import commandline, tune
from experiments.record import load_runs
from experiments.tuning import space
from experiments.tuning.study import JOURNAL

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["budget=steps", "budget.steps=20"]
METHOD = ["optimizer=sgd", "task=digits"]


@pytest.fixture
def written(monkeypatch):
    """What would have gone into conf/, by path."""
    files = {}
    monkeypatch.setattr(
        tune, "write_atomic", lambda path, text: files.update({path: text.decode()})
    )
    return files


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["task=digits"], "Missing argument: optimizer"),
        ([*METHOD, "trials=0"], "Invalid trials: '0'. Must be a whole number >= 1."),
        ([*METHOD, "trials=few"], "Invalid trials: 'few'"),
        ([*METHOD, "seeds=1,x"], "Invalid seeds: 'x'"),
        ([*METHOD, "seeds=1,1"], "Invalid seeds: '1,1'"),
        ([*METHOD, "sampler=grid"], "Invalid sampler: 'grid'. Must be one of: sobol, tpe"),
        ([*METHOD, "pruner=asha"], "Invalid pruner: 'asha'. Must be one of: none, median, halving"),
        ([*METHOD, "pruner=median", "sampler=tpe"], "Invalid pruner: 'median'. Must be none"),
        ([*METHOD, "pruner=halving", *SHORT, "budget.steps=3"], "Invalid pruner: 'halving'"),
        ([*METHOD, "seed=3"], "Invalid override: seed=3. The seeds of the trials are seeds=."),
        ([*METHOD, "experiment=table3"], "Invalid override: experiment=table3"),
        ([*METHOD, "optimizer.momentum=0"], "Invalid override: optimizer.momentum=0. The tuned"),
        ([*METHOD, "task.validation_fraction=0"], "Invalid task.validation_fraction: 0"),
        (["optimizer=adamm", "task=digits"], "Unknown optimizer: 'adamm'"),
        (
            [*METHOD, "+optimizer.search.rate={low: 1, high: 2, scale: log}"],
            "Invalid optimizer.search.rate: sgd has no such hyperparameter",
        ),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, line):
    monkeypatch.setattr("sys.argv", ["tune", *arguments, f"runs_dir={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        tune.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {line}")
    assert told.count("\n") == 1


def test_the_command_in_the_ledger_is_the_one_that_makes_it_again():
    options = tune.Options(trials=4, seeds=(1, 2), sampler="tpe", startup=2)
    typed = ["model=resnet18", "runs_dir=/tmp/x", "jobs=2", "hydra/launcher=joblib", "retry=true"]
    command = tune._command("adam", "digits", options, typed)
    assert command == (
        "make tune OPT=adam TASK=digits TRIALS=4 "
        "ARGS='seeds=1,2 sampler=tpe startup=2 model=resnet18'"
    )
    assert tune._command("adam", "digits", tune.Options(), []) == (
        "make tune OPT=adam TASK=digits TRIALS=8"
    )


@pytest.mark.slow
def test_a_small_tuning_writes_the_best_of_its_trials(tmp_path, written, capfd):
    overrides = [f"runs_dir={tmp_path}", *SHORT]
    path = tune.tune("sgd", "digits", tune.Options(trials=2, seeds=(7, 8)), overrides)
    assert path == commandline.CONF / "tuned" / "digits" / "sgd.yaml"
    text = written[path]
    content = yaml.safe_load(text)
    rates = [point["lr"] for point in space.points([space.Dimension("lr", 3e-3, 3.0, True)], 2)]
    assert content["optimizer"]["lr"] in rates
    assert content["tuning"]["seeds"] == [7, 8]
    assert (content["tuning"]["model"], content["tuning"]["on_edge"]) == ("small_cnn", ["lr"])
    assert text.count("<- chosen") == 1
    told = capfd.readouterr().err
    assert "warning: sgd on digits: The best lr lies on the edge" in told
    runs, _ = load_runs(tmp_path / tune.TRIALS_DIR)
    tried = sorted((run.identity["hyperparameters"]["lr"], run.identity["seed"]) for run in runs)
    assert tried == sorted((rate, seed) for rate in rates for seed in (7, 8))
    # Each trial is the mean of its seeds' best evaluations.
    best = {rate: [] for rate in rates}
    for run in runs:
        values = [row["validation_accuracy_percent"] for row in run.rows]
        best[run.identity["hyperparameters"]["lr"]].append(max(values))
    assert content["tuning"]["spread"]["best"] == pytest.approx(
        max(sum(values) / 2 for values in best.values()), abs=1e-4
    )


@pytest.mark.slow
def test_trials_of_two_hyperparameters_are_pairs_and_the_poorer_half_is_stopped(tmp_path, written):
    search = "+optimizer.search.momentum={low: 0.5, high: 0.99, scale: linear}"
    overrides = [f"runs_dir={tmp_path}", *SHORT, search]
    path = tune.tune("sgd", "digits", tune.Options(trials=2, pruner="median"), overrides)
    runs, _ = load_runs(tmp_path / tune.TRIALS_DIR)
    points = space.points(
        [space.Dimension("lr", 3e-3, 3.0, True), space.Dimension("momentum", 0.5, 0.99)], 2
    )
    tried = [
        ({key: run.identity["hyperparameters"][key] for key in points[0]}, run.identity["budget"])
        for run in runs
    ]
    chosen = yaml.safe_load(written[path])["optimizer"]
    expected = [*((point, "10 steps") for point in points), (chosen, "20 steps")]
    assert sorted(map(repr, tried)) == sorted(map(repr, expected))
    tuning = yaml.safe_load(written[path])["tuning"]
    assert (tuning["completed"], tuning["pruned"]) == (1, 1)


INTO = """
import sys
from pathlib import Path
from experiments import tune
tune.write_atomic = lambda path, text: Path(FILE).write_bytes(text)

tune.main()
"""


@pytest.mark.slow
def test_killed_twice_it_ends_with_exactly_its_trials(tmp_path):
    """For real: the process, its sweep and their runs die at once, wherever they are."""
    file = tmp_path / "sgd.yaml"
    script = INTO.replace("FILE", repr(str(file)))
    typed = [*METHOD, "trials=3", *SHORT, f"runs_dir={tmp_path / 'runs'}"]
    command = [sys.executable, "-c", script, *typed]
    folder = tmp_path / "runs" / tune.TRIALS_DIR
    for records in (0, 1):
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        while process.poll() is None and len(list(folder.glob("*/status.json"))) <= records:
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it could be killed"
        _kill_tree(process.pid)
        process.wait()
    assert not file.exists()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    tuning = yaml.safe_load(file.read_text())["tuning"]
    assert (tuning["trials"], tuning["completed"]) == (3, 3)
    runs, _ = load_runs(folder)
    rates = [point["lr"] for point in space.points([space.Dimension("lr", 3e-3, 3.0, True)], 3)]
    assert sorted(run.identity["hyperparameters"]["lr"] for run in runs) == sorted(rates)
    assert len(list(folder.glob(f"*/{JOURNAL}"))) == 1


def _kill_tree(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        _kill_tree(child)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_stops_the_sweep_and_the_same_command_goes_on(tmp_path):
    typed = [*METHOD, "trials=2", "budget=steps", "budget.steps=100000", f"runs_dir={tmp_path}"]
    process = subprocess.Popen([sys.executable, "-m", "experiments.tune", *typed], cwd=ROOT)
    folder = tmp_path / tune.TRIALS_DIR
    while process.poll() is None and not list(folder.glob("*/status.json")):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    (run,), _ = load_runs(folder)
    assert run.status == "interrupted"
