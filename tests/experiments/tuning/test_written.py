"""What an experiment says of tuning: which studies it asks for, and that its runs take them."""

import shutil

import pytest
import yaml

from experiments.config import commandline, compose, grids
from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.tuning import trial_sweep, tuned_file, written
from experiments.tuning.options import TuneOptions
from tests.support.commands import exit_code

EXPERIMENT = """# @package _global_
defaults:
  - override /task: digits
  - override /tracking: none
model: {width: 8}
budget: {epochs: 1}
tune:
  - tuned: time
    optimizer: [sgd, adam]
    sampler: full_grid
    trials: 2
    seeds: [1000]
    choose: loss
    search: {sgd: {lr: {low: 0.01, high: 1.0, scale: log}}}
    arguments: {adam: {eps: 1.0e-6}}
  - tuned: wide
    optimizer: adafisher
    sampler: full_grid
    trials: 4
    grid: {lr: 2, damping: 2}
    model.width: 16
grids:
  - {ruleset: tuned, tuned: time, optimizer: [sgd, adam], seed: "0,1"}
  - {ruleset: tuned, tuned: wide, optimizer: [adafisher], seed: "0,1", model.width: 16}
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    shutil.copytree(commandline.CONF, tmp_path / "conf")
    monkeypatch.setattr(commandline, "CONF", tmp_path / "conf")
    monkeypatch.setattr(tuned_file, "TUNED", tmp_path / "conf" / "tuned")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    return tmp_path / "conf"


def asked(*words):
    return list(written.asked(commandline.normalise(list(words))))


def section(name):
    return compose.composed([f"optimizer={name}", "task=digits"]).optimizer


def test_each_entry_is_a_study_of_its_methods(conf):
    first, second = asked("experiment=mine", "runs_dir=r")
    assert first.request.options == TuneOptions(
        trials=2, seeds=(1000,), sampler="full_grid", choose="loss"
    )
    assert (first.request.optimizer, first.request.task) == (("sgd", "adam"), ("digits",))
    assert (first.request.tuned, second.request.tuned) == ("time", "wide")
    assert first.overrides == ["experiment=mine", "grids=null", "runs_dir=r"]
    assert second.overrides == ["experiment=mine", "grids=null", "model.width=16", "runs_dir=r"]
    assert second.request.grid == {"lr": 2, "damping": 2}
    sgd, adam = section("sgd"), section("adam")
    assert first.own.searched(sgd).suite["search"] == {
        "lr": {"low": 0.01, "high": 1.0, "scale": "log"}
    }
    assert first.own.searched(adam) == adam  # as its YAML has it
    assert (first.own.fixed(sgd), first.own.fixed(adam)) == ({}, {"eps": 1e-6})


def test_what_is_typed_narrows_or_replaces(conf):
    (only,) = asked("experiment=mine", "optimizer=adam", "trials=3", "budget.epochs=2")
    assert only.request.optimizer == ("adam",)
    assert only.request.trials == 3
    assert only.overrides[-1] == "budget.epochs=2"
    (other,) = asked("experiment=mine", "optimizer=adafisher")
    assert other.request.tuned == "wide"
    first, second = asked("experiment=mine", "grid=lr:3,damping:2", "trials=6")
    assert (first.request.grid, second.request.grid) == (None, {"lr": 3, "damping": 2})


def test_without_an_experiment_it_is_what_was_typed(conf):
    (one,) = asked("optimizer=sgd", "task=digits", "model.width=4")
    assert (one.overrides, one.own) == (["model.width=4"], written.OfMethods())


def test_an_experiment_without_tuning_says_so_and_is_no_mistake(conf, capsys):
    assert exit_code("tune", "experiment=schedules") == 0
    told = "experiment=schedules has nothing to tune: no tune: in its file\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("trials: 2", "trials: 0", "Invalid trials: 0. Must be a whole number >= 1."),
        ("trials: 2", "tirals: 2", "Unknown key: 'tirals'"),
        ("adam: {eps", "adam: {epz", "Invalid tune arguments.adam.epz: it has no such hyper"),
        (
            "search: {sgd: {lr",
            "search: {sgdd: {lr",
            "Invalid tune search of experiment=mine: 'sgdd'",
        ),
        (
            "{adam: {eps",
            "{adamm: {eps",
            "Invalid tune arguments of experiment=mine: 'adamm' is none",
        ),
        ("search: {sgd: {lr", "search: {sgd: {rl", "Invalid optimizer.suite.search.rl: sgd has no"),
        ("arguments: {adam: {eps: 1.0e-6}}", "arguments: 3", "Invalid tune arguments of exper"),
        (
            "  - tuned: time\n    optimizer: [sgd, adam]",
            "  - 3\n  - optimizer: sgd",
            "Invalid tune of",
        ),
        ("tuned: time\n", "tuned: ledgers\n", "Invalid tuned: 'ledgers'."),
    ],
)
def test_a_mistake_in_its_file_is_one_line(conf, tmp_path, capsys, monkeypatch, old, new, line):
    monkeypatch.setattr(trial_sweep.TrialSweep, "evaluate", None)
    path = conf / "experiment" / "mine.yaml"
    assert old in EXPERIMENT
    path.write_text(EXPERIMENT.replace(old, new, 1))
    method = "adam" if "adam: {" in old else "sgd"
    assert exit_code("tune", "experiment=mine", f"optimizer={method}", f"runs_dir={tmp_path}") == 2
    told = capsys.readouterr().err
    assert f"error: {line}" in told
    assert told.count("\n") == 1


def test_the_setting_of_an_experiment_can_be_run_without_its_grids(conf):
    whole = grids.spelled_out(["experiment=mine"])
    assert len(whole) == 2
    (alone,) = grids.spelled_out(["experiment=mine", "grids=null", "seed=7"])
    assert alone == ["experiment=mine", "seed=7", "hydra.sweeper.params=null"]
    grids.check_single(["experiment=mine", "grids=null"])
    config = compose.composed(["experiment=mine", "grids=null", "seed=7"])
    assert (config.model.arguments["width"], config.seed) == (8, 7)
    with pytest.raises(UserError, match="Only the files of conf/ set grids"):
        commandline.normalise(["grids=3"])


def test_the_command_in_a_tuned_file_of_an_experiment_makes_it_again(conf):
    own = written.OfMethods(("experiment=mine", "runs_dir=/tmp/x", "budget.epochs=2", "jobs=2"))
    command = tuned_file.command("adam", "digits", TuneOptions(), ["experiment=mine"], own=own)
    assert command == "make tune EXPERIMENT=mine OPT=adam ARGS='budget.epochs=2'"


def test_what_is_tuned_is_what_the_runs_of_the_experiment_take(conf, tmp_path, monkeypatch):
    """With trials that are told, not trained: the choice, what is held, and the runs' config."""
    seen = []

    def evaluate(self, points, rung=""):
        seen.extend(points)
        assert self.config.model.arguments["width"] == 8
        trials = [self.judge(point, [None]) for point in points]
        return [
            type(trial)(trial.point, "done", point["lr"], point["lr"], False, "loss", (1.0,), 9)
            for trial, point in zip(trials, points, strict=True)
        ]

    monkeypatch.setattr(trial_sweep.TrialSweep, "evaluate", evaluate)
    assert exit_code("tune", "experiment=mine", "optimizer=adam,sgd", f"runs_dir={tmp_path}/r") == 0
    assert [point for point in seen if "eps" not in point] == [{"lr": 0.01}, {"lr": 1.0}]
    assert {point["eps"] for point in seen if "eps" in point} == {1e-6}
    file = conf / "tuned" / "digits" / "time" / "adam.yaml"
    content = yaml.safe_load(file.read_text())
    assert content["optimizer"]["eps"] == 1e-6
    assert content["tuning"]["setting"] == {"model.width": 8, "budget.epochs": 1}
    grid, _ = grids.spelled_out(["experiment=mine"])
    jobs = [
        [item for item in job if not item.startswith("hydra")] for job in commandline.jobs(grid)
    ]
    found = {compose.composed(job).optimizer.arguments["lr"] for job in jobs if "seed=0" in job}
    assert found == {0.01, content["optimizer"]["lr"]}


def test_trials_that_are_over_start_no_sweep(tmp_path, make_config, monkeypatch):
    from experiments.run import execute

    config = make_config("optimizer=sgd", "task=digits", "seed=1000", "evaluate_test=false")
    sweep = trial_sweep.TrialSweep(config, [], [1000], about=None)
    point = {"lr": config.optimizer.arguments["lr"]}
    started = []
    monkeypatch.setattr(trial_sweep, "train", lambda overrides, what: started.append(what))
    assert [trial.status for trial in sweep.evaluate([point])] == ["failed"]
    assert len(started) == 1
    assert execute(config).status == "done"
    (trial,) = sweep.evaluate([point])
    (run,) = load_runs(config.runs_dir)[0]
    best = max(row["validation_accuracy_percent"] for row in run.rows)
    assert (trial.status, trial.metric) == ("done", best)
    assert len(started) == 1
