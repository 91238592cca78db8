import json

import pytest

from experiments.config import compose, compositions, identity, origin
from experiments.records.schema import load_run
from experiments.replay import migrate
from experiments.run import execute
from tests.support.configs import GONE, changed

JOBS = {
    "the task's own": ["task=digits", "optimizer=adam"],
    "values and choices": [
        "optimizer=sgd",
        "precision=bf16",
        "model.width=8",
        "budget=steps",
        "budget.steps=4",
        "schedule=constant",
        "optimizer.lr=0.25",
    ],
    "tuned, of text": ["task=tinyshakespeare", "optimizer=adam", "ruleset=tuned"],
    "an experiment": ["experiment=table2_cifar10", "model=swin_t", "optimizer=adamw"],
    "an experiment, changed": ["experiment=table2_cifar10", "model=resnet18", "task.flip=false"],
    "a text with blanks": ["optimizer=adam", 'pretrained.source="a b/c"'],
    "a control": ["optimizer=adafisher", "control=scalar"],
}


def composed(overrides):
    config = compose.resolve(compositions.of(overrides))
    return config, origin.of(config, overrides)


@pytest.mark.parametrize("overrides", JOBS.values(), ids=JOBS.keys())
def test_the_command_makes_the_config_again(overrides):
    config, found = composed([*overrides, "seed=5"])
    again, same = composed([*found["command"], "seed=5"])
    assert again.run_id == config.run_id
    assert same == found


def test_the_command_of_defaults_is_short():
    _, found = composed(["seed=3", "model=small_cnn", "schedule=cosine", "optimizer=adam"])
    assert found["command"] == ["task=digits", "optimizer=adam"]
    assert found["setting"] == found["typed"] == {}
    assert found["ruleset_file"] is None


def test_what_was_typed_is_told_from_what_the_ruleset_gives():
    _, tuned = composed(["optimizer=adam", "ruleset=tuned"])
    _, other = composed(["optimizer=adam", "ruleset=tuned", "optimizer.lr=0.25"])
    assert tuned["typed"] == {}
    assert other["typed"] == {"lr": 0.25}
    assert other["setting"] == {}
    assert tuned["ruleset_file"]["path"] == "tuned/digits/adam.yaml"


def test_a_setting_is_what_differs_from_the_task():
    _, found = composed(["optimizer=adam", "budget=steps", "budget.steps=4", "task.batch_size=16"])
    assert found["setting"] == {"budget": "steps", "task.batch_size": 16, "budget.steps": 4}


def test_a_run_of_an_experiment_keeps_what_the_experiment_says():
    config, found = composed(
        ["experiment=table2_cifar10", "model=resnet18", "optimizer=adam", "task.cutout_size=0"]
    )
    stated = found["experiment"]["protocol"]
    assert found["experiment"]["name"] == "table2_cifar10"
    assert stated["task"]["cutout_size"] == 16
    assert identity.protocol(config)["task"]["cutout_size"] == 0
    assert stated["budget"]["by_optimizer"]["adam"] == 210


def test_a_protocol_holds_neither_method_nor_seed(make_config):
    one = identity.protocol(make_config("optimizer=adam", "seed=0"))
    other = identity.protocol(make_config("optimizer=sgd", "ruleset=tuned", "seed=1"))
    assert one == other
    assert one != identity.protocol(make_config("optimizer=adam", "model.width=8"))


def test_neutral_and_null_arguments_leave_the_id_at_any_depth(make_config):
    config = make_config()
    wanted, neutral = config.run_id, config.optimizer.neutral
    later = changed(
        config,
        {
            "optimizer.later": "mean",
            "optimizer.suite.neutral": {**neutral, "later": "mean", "needs.kept": False},
            "optimizer.suite.needs.kept": False,
            "optimizer.suite.needs.further": None,
            "model.further": None,
            "late_section": None,
        },
    )
    assert later.run_id == wanted
    for change in (
        {"optimizer.later": "sum"},
        {"optimizer.later": None},  # a null beside a neutral value is a choice of its own
        {"optimizer.suite.needs.kept": True},
    ):
        assert changed(later, change).run_id != wanted


def test_nulls_that_were_hashed_from_the_first_still_are(make_config):
    config = make_config("optimizer=kfac")
    assert config.optimizer.arguments["ema_decay"] is None
    without = changed(config, {"optimizer.ema_decay": GONE})
    assert without.run_id != config.run_id


def test_a_record_of_the_first_schema_is_migrated_and_not_run_again(make_config, tmp_path, capsys):
    config = make_config("model.width=4", "optimizer.lr=0.25")
    outcome = execute(config)
    folder = config.runs_dir / outcome.run_id
    run = load_run(folder)
    identity_of_old = {k: v for k, v in run.identity.items() if k not in ("protocol", "origin")}
    _write_old(folder, run, identity_of_old)

    assert load_run(folder).schema == 1
    assert migrate.migrate(load_run(folder)) is None

    new = load_run(folder)
    assert (new.schema, new.rows, new.summary) == (2, run.rows, run.summary)
    assert new.identity["protocol"] == run.identity["protocol"]
    assert new.identity["origin"]["typed"] == {"lr": 0.25}
    assert new.identity["origin"]["setting"]["model.width"] == 4
    assert execute(config).skipped


def test_a_record_without_its_config_stays_as_it_is(make_config):
    config = make_config()
    folder = config.runs_dir / execute(config).run_id
    run = load_run(folder)
    _write_old(folder, run, {k: v for k, v in run.identity.items() if k != "protocol"})
    (folder / "config.yaml").unlink()
    before = (folder / "status.json").read_bytes()
    assert migrate.migrate(load_run(folder)) == "it has no config.yaml"
    assert (folder / "status.json").read_bytes() == before


def _write_old(folder, run, facts):
    content = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**content, "schema": 1, "identity": facts}))


def test_a_record_is_migrated_as_it_is_when_nobody_else_has_it(make_config):
    """Between the list of the records and the lock another process may have trained it on."""
    config = make_config()
    folder = config.runs_dir / execute(config).run_id
    run = load_run(folder)
    _write_old(folder, run, {k: v for k, v in run.identity.items() if k != "protocol"})
    old = (folder / "status.json").read_text()
    (folder / "status.json").write_text(old.replace('"done"', '"failed"'))
    listed = load_run(folder)
    (folder / "status.json").write_text(old)
    assert migrate._migrated(listed) is None
    assert load_run(folder).status == "done"
    assert "protocol" in load_run(folder).identity
