import shutil

import pytest
import torch

from experiments.config import commandline, identity, origin
from experiments.config.compose import composed
from experiments.config.run_config import RunConfig
from experiments.engine.build import build_optimizer
from tests.support.configs import GONE, changed


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


def test_id_does_not_depend_on_the_order_of_keys(make_config):
    config = make_config()
    other = reordered(config.values)
    assert list(other) != list(config.values)
    assert RunConfig.of(other).run_id == config.run_id


def test_id_ignores_folders_display_and_notes(make_config):
    config = make_config()
    other = changed(
        config,
        {
            **{"data_dir": "/a", "runs_dir": "/b", "cache_dir": "/c", "threads": 7, "retry": True},
            "tracking": {"mode": "online"},
            "task.workers": 3,
            "optimizer.suite.search": {"lr": {"low": 1, "high": 2}},
        },
    )
    assert other.run_id == config.run_id


def test_id_depends_on_everything_that_is_measured(make_config):
    configs = [
        [],
        ["seed=1"],
        ["optimizer.lr=0.5"],
        ["optimizer=sgd"],
        ["budget.steps=5"],
        ["task.batch_size=3"],
        ["task.eval_batch_size=3"],
        ["schedule=constant"],
        ["model.width=8"],
        ["precision=bf16"],
        ["ruleset=tuned"],
    ]
    assert len({make_config(*overrides).run_id for overrides in configs}) == len(configs)


def test_equal_numbers_have_one_id(make_config):
    ids = {make_config(f"optimizer.lr={text}").run_id for text in ("1", "1.0", "1e0")}
    assert len(ids) == 1


def test_seeds_share_a_group(make_config):
    first, second = make_config("seed=0"), make_config("seed=1")
    assert first.group_id == second.group_id
    assert first.run_id != second.run_id


def test_kept_gradients_are_part_of_the_id_and_seen_among_the_hyperparameters(make_config):
    plain, kept = make_config(), make_config("optimizer.suite.needs.keep_gradients=true")
    # Of a version that had no such flag.
    before = changed(plain, {"optimizer.suite.needs.keep_gradients": GONE})
    assert plain.run_id == before.run_id != kept.run_id
    told = kept.optimizer.hyperparameters
    assert told == plain.optimizer.hyperparameters | {"keep_gradients": True}


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_schedule_without_warm_up_has_the_id_of_before_there_was_one(make_config, name):
    plain = make_config(f"schedule={name}")
    before = changed(plain, {"schedule.warmup_fraction": GONE, "schedule.suite.neutral": GONE})
    warmed = make_config(f"schedule={name}", "schedule.warmup_fraction=0.1")
    assert plain.run_id == before.run_id != warmed.run_id


def test_a_methods_own_schedule_is_part_of_the_method_and_not_of_its_setting(make_config):
    """So it stands beside the others in the block of the setting."""
    plain = make_config()
    own = make_config("+optimizer.suite.schedule={name: linear, warmup_fraction: 0.5}")
    assert own.run_id != plain.run_id
    assert identity.protocol(own) == identity.protocol(plain)
    told = {"schedule": {"name": "linear", "warmup_fraction": 0.5}}
    assert own.optimizer.hyperparameters == plain.optimizer.hyperparameters | told


@pytest.mark.parametrize("name", commandline.choices("optimizer"))
def test_the_form_of_a_step_changes_no_id_and_another_one_is_a_variant(make_config, name):
    plain = make_config(f"optimizer={name}")
    flags = {flag for flag in ("fused", "foreach") if flag in plain.optimizer.arguments}
    # Of a version that had no such argument.
    before = changed(plain, {f"optimizer.{flag}": GONE for flag in flags})
    assert (before.run_id, before.group_id) == (plain.run_id, plain.group_id)
    for flag in flags:
        chosen = plain.optimizer.arguments[flag]
        for other in {True, False, None} - {chosen}:
            text = str(other).lower() if other is not None else "null"
            typed = [f"optimizer={name}", f"optimizer.{flag}={text}"]
            config = make_config(*typed)
            assert config.run_id != plain.run_id
            assert origin.of(config, typed)["typed"] == {flag: other}


def test_hyperparameters_that_change_no_id_are_told_apart(make_config):
    later = {"optimizer.later": "mean", "optimizer.suite.neutral.later": "mean"}
    config = changed(make_config("optimizer=kfac"), later)
    kept = config.optimizer.hashed_hyperparameters
    assert "later" in config.optimizer.hyperparameters
    assert "later" not in kept
    assert kept["ema_decay"] is None  # hashed from the first
    assert config.optimizer.having(later="sum").hashed_hyperparameters["later"] == "sum"


def test_hyperparameters_are_the_ones_of_the_method(make_config):
    names = set(make_config("optimizer=sgd").optimizer.hyperparameters)
    assert {"lr", "momentum", "weight_decay"} <= names
    assert not names & {"_target_", "_partial_", "suite", "name", "needs", "search"}


def test_a_new_key_of_the_suite_in_one_yaml_needs_no_other_edit(tmp_path, monkeypatch):
    """It composes, changes no id, reaches no object, and is there for whoever reads it."""
    overrides = ["optimizer=adam", "tracking=none"]
    before = composed(overrides)
    conf = shutil.copytree(commandline.CONF, tmp_path / "conf")
    monkeypatch.setattr(commandline, "CONF", conf)
    with (conf / "optimizer" / "adam.yaml").open("a") as file:
        file.write("  since: 2014  # a key that nobody has heard of\n")
    after = composed(overrides)
    assert after.optimizer.suite["since"] == 2014
    assert (after.run_id, after.group_id) == (before.run_id, before.group_id)
    assert after.optimizer.hyperparameters == before.optimizer.hyperparameters
    assert identity.protocol(after) == identity.protocol(before)
    assert not set(origin._hashed(after)) ^ set(origin._hashed(before))  # nor a command
    model = torch.nn.Linear(2, 2)
    assert type(build_optimizer(after.optimizer, model)) is torch.optim.Adam
