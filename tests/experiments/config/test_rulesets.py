import json
import shutil

import pytest
import yaml

from experiments.config import commandline, compose, origin, rulesets
from experiments.errors import UserError
from experiments.records.schema import ENVIRONMENT_FILE
from experiments.run import execute
from experiments.sweep import preflight
from tests.support.configs import changed

TUNING = {"model": "small_cnn", "tokenization": None, "chosen": {"lr": 0.099}}


def config(**changes):
    chosen = compose.composed(["task=digits", "optimizer=sgd", "model=small_cnn"])
    return changed(chosen, {"tuning": TUNING, "optimizer.lr": 0.099, **changes})


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"tuning": None, "model.suite.name": "resnet18"}, []),
        (
            {"model.suite.name": "resnet18"},
            ["sgd on digits: tuned with model=small_cnn, used with model=resnet18"],
        ),
        (
            {"tokenization": {"k": 9, "suite": {"name": "bpe"}}},
            ["sgd on digits: tuned with tokenization=None, used with tokenization=bpe k=9"],
        ),
        (
            {"optimizer.lr": 0.5},
            ["sgd on digits: tuned to lr=0.099, used with lr=0.5"],
        ),
    ],
)
def test_what_differs_from_the_trials_is_told(changes, lines):
    assert rulesets.remarks(config(**changes)) == lines


@pytest.fixture
def check(tmp_path):
    return lambda *overrides: preflight.check([f"runs_dir={tmp_path}", *overrides])


@pytest.mark.parametrize(
    ("overrides", "optimizer", "task"),
    [
        (["optimizer=sgd", "task=cifar10_jpeg", "ruleset=tuned"], "sgd", "cifar10_jpeg"),
        # The last pair of the product, which no sample of the values meets.
        (
            ["optimizer=adam,sgd", "task=digits,generated_images", "ruleset=default,tuned"],
            "adam",
            "generated_images",
        ),
    ],
)
def test_a_pair_that_was_never_tuned_is_refused(check, overrides, optimizer, task):
    with pytest.raises(UserError) as refused:
        check(*overrides)
    assert f"{optimizer} is not tuned on {task}" in str(refused.value)
    assert f"`make tune OPT={optimizer} TASK={task}`" in str(refused.value)


def test_a_pair_that_was_never_tuned_takes_its_defaults_where_asked(check, capsys):
    check("optimizer=adam", "task=generated_images", "ruleset=tuned", "untuned=default")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: adam is not tuned on generated_images: it takes its defaults")
    composed = compose.composed(["optimizer=adam", "task=generated_images", "ruleset=tuned"])
    assert composed.ruleset == "default"  # as the record and every table will say
    with pytest.raises(UserError, match=r"Invalid untuned: 'no'\. Must be one of: refuse, default"):
        check("ruleset=tuned", "untuned=no")


def test_a_name_that_does_not_exist_is_still_told_as_such(check):
    with pytest.raises(UserError, match="Unknown optimizer: 'adamm'"):
        check("optimizer=sgd,adamm", "task=digits", "ruleset=tuned")


def test_a_sweep_tells_of_another_model_once_and_each_run_records_it(check, make_config, capsys):
    overrides = ["ruleset=tuned", "optimizer=sgd", "task=digits", "model=resnet18", "seed=0,1"]
    check(*overrides, "budget=steps", "budget.steps=1")
    line = "sgd on digits: tuned with model=small_cnn, used with model=resnet18"
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {line}",
        "warning: another budget on digits: sgd tuned for 20 epochs, used for 1 step",
    ]
    short = make_config(*overrides[:4], "seed=0", "budget.steps=1", "task.batch_size=2")
    short = changed(short, {"model.suite.name": "resnet18"})
    execute(short, position="run 1/2")  # however a step at that rate ends
    (environment,) = [
        json.loads(path.read_text()) for path in short.runs_dir.glob(f"*/{ENVIRONMENT_FILE}")
    ]
    assert line in environment["remarks"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["ruleset=tuned", "optimizer=sgd", "task=digits", "seed=0,1,1000"],
        ["ruleset=tuned", "optimizer=sgd", "task=digits", "seed=range(999,1001)"],
        ["ruleset=default,tuned", "optimizer=adam,sgd", "task=cifar10_jpeg,digits", "seed=1000"],
        ["ruleset=tuned", "optimizer=sgd", "task=digits", "seed=1000", "optimizer.lr=1"],
    ],
)
def test_a_seed_that_hyperparameters_were_chosen_by_is_refused(check, overrides):
    with pytest.raises(UserError) as refused:
        check("untuned=default", *overrides)
    assert "Invalid seed: 1000" in str(refused.value)
    assert "on digits was tuned with it (seeds 1000, 1001)" in str(refused.value)


def test_the_seed_of_a_job_that_names_none_is_its_config_s():
    choices = {"task": "digits", "optimizer": "sgd", "ruleset": "tuned"}
    jobs = [["optimizer=sgd"]]
    assert rulesets.check_tuned(choices, jobs, untuned="refuse", seed=0) == []
    with pytest.raises(UserError, match="Invalid seed: 1000"):
        rulesets.check_tuned(choices, jobs, untuned="refuse", seed=1000)


def test_a_seed_of_tuning_is_allowed_where_nothing_was_chosen_by_it(check):
    short = ["budget=steps", "budget.steps=1"]
    check("ruleset=default", "optimizer=sgd", "task=digits", "seed=1000", *short)
    check("ruleset=tuned", "optimizer=sgd", "task=digits", "seed=1002", *short)


@pytest.mark.parametrize("text", ["- 1", "{", "tuning: null", "optimizer: {lr: 1}"])
def test_a_tuned_file_that_tells_no_seeds_refuses_none(tmp_path, monkeypatch, text):
    path = tmp_path / "tuned" / "digits" / "sgd.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setattr(rulesets.commandline, "CONF", tmp_path)
    monkeypatch.setattr(
        rulesets.commandline, "choices", lambda group: {"task": ["digits"]}.get(group, ["sgd"])
    )
    choices = {"task": "digits", "optimizer": "sgd", "ruleset": "tuned"}
    assert rulesets.check_tuned(choices, [["seed=1000"]], untuned="refuse", seed=0) == []


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of ``conf/`` that a test may write to."""
    shutil.copytree(commandline.CONF, tmp_path / "conf")
    monkeypatch.setattr(commandline, "CONF", tmp_path / "conf")
    return tmp_path / "conf"


def write_tuned(conf, name, lr, **tuning):
    path = conf / "tuned" / "digits" / name / "sgd.yaml"
    path.parent.mkdir(exist_ok=True)
    content = {"ruleset": "tuned", "optimizer": {"lr": lr}, "tuning": {"seeds": [1000], **tuning}}
    path.write_text("# @package _global_\n" + yaml.safe_dump(content))


def test_two_settings_of_one_task_are_tuned_side_by_side(conf):
    own = compose.composed(["ruleset=tuned", "optimizer=sgd", "task=digits"])
    for setting, lr in (("w8", 0.008), ("w16", 0.016)):
        write_tuned(conf, setting, lr)
    job = ["ruleset=tuned", "tuned=w8", "optimizer=sgd", "task=digits", "model.width=8"]
    chosen = compose.composed(job)
    assert (chosen.ruleset, chosen.optimizer.arguments["lr"]) == ("tuned", 0.008)
    rates = [
        config.optimizer.arguments["lr"]
        for _, config in compose.listed(["ruleset=tuned", "tuned=w16,w8", *job[2:]])
    ]
    assert rates == [0.016, 0.008]
    again = compose.composed(["ruleset=tuned", "optimizer=sgd", "task=digits"])
    assert again.run_id == own.run_id  # the task's own files are where they were
    found = origin.of(chosen, job)
    assert found["command"] == [
        *("task=digits", "optimizer=sgd", "ruleset=tuned", "tuned=w8", "model.width=8"),
    ]
    assert found["ruleset_file"]["path"] == "tuned/digits/w8/sgd.yaml"
    assert found["typed"] == {}
    assert compose.composed(found["command"]).run_id == chosen.run_id


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["ruleset=tuned", "tuned=w9"],
            "Invalid ruleset: 'tuned'. sgd is not tuned on digits, for tuned=w9. Tune it by "
            "`make tune OPT=sgd TASK=digits ARGS=tuned=w9`, or take ruleset=default.",
        ),
        (
            ["tuned=w8"],
            "Invalid tuned: 'w8'. It says which hyperparameters ruleset=tuned takes; the ruleset "
            "is default.",
        ),
        (["tuned=ledgers"], "Invalid tuned: 'ledgers'. Trials are kept in folders of that name."),
        (["tuned=../digits"], "Unknown tuned: '../digits'. Known: {known}."),
        (["tuned=null"], "Invalid tuned: null. Must be one of: {known}."),
        (["ruleset=tuned", "tuned=w8", "seed=1000"], "Invalid seed: 1000. sgd on digits was tuned"),
    ],
)
def test_a_setting_that_is_none_is_one_line(conf, check, overrides, line):
    write_tuned(conf, "w8", 0.008)
    with pytest.raises(UserError) as refused:
        check(*commandline.normalise(["optimizer=sgd", "task=digits", *overrides]))
    settings = {path.name for path in conf.glob("tuned/*/*/")} - {"ledgers"}
    assert "w8" in settings
    assert str(refused.value).startswith(line.format(known=", ".join(sorted(settings))))


def test_of_an_experiment_the_command_tunes_what_its_file_says(conf, check):
    text = "# @package _global_\ndefaults: [override /task: digits]\ngrids: [{seed: 0}]\n"
    (conf / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        check("experiment=mine", "ruleset=tuned", "tuned=w9", "optimizer=sgd")
    assert "Tune it by `make tune EXPERIMENT=mine OPT=sgd`, or" in str(refused.value)


def test_a_sweep_of_rulesets_may_name_a_setting_of_the_tuned_one(conf, check):
    write_tuned(conf, "w8", 0.008)
    check("optimizer=sgd", "task=digits", "ruleset=default,tuned", "tuned=w8")


def test_rates_tuned_for_another_budget_are_told_once_a_task(check, capsys):
    job = ["optimizer=sgd,adam", "task=digits,tinyshakespeare", "ruleset=tuned", "seed=0,1"]
    check(*job)
    assert capsys.readouterr().err == ""
    check(*job, "budget.epochs=2")
    assert capsys.readouterr().err.splitlines() == [
        f"warning: another budget on {task}: sgd, adam tuned for {tuned}, used for 2 epochs"
        for task, tuned in (("digits", "20 epochs"), ("tinyshakespeare", "1 epoch"))
    ]
    check("optimizer=sgd,adam", "task=digits", "ruleset=default", "budget.epochs=2")
    assert capsys.readouterr().err == ""


def test_another_setting_than_that_of_the_trials_is_told_but_not_another_budget(
    conf, check, capsys
):
    setting = {"model.width": 8, "budget": "steps", "budget.steps": 9}
    write_tuned(conf, "w8", 0.008, setting=setting, chosen={"lr": 0.008})
    job = ["optimizer=sgd", "task=digits", "ruleset=tuned", "tuned=w8", "seed=0,1"]
    check(*job, "model.width=8", "budget.epochs=3")
    assert capsys.readouterr().err == ""
    check(*job, "task.batch_size=32")
    assert capsys.readouterr().err.splitlines() == [
        f"warning: sgd on digits: tuned with {one}"
        for one in (
            "model.width=8, used with model.width=its default",
            "task.batch_size=its default, used with task.batch_size=32",
        )
    ]
