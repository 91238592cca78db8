import copy

from experiments.config import identity


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


def test_id_does_not_depend_on_the_order_of_keys(make_config):
    config = make_config()
    assert list(reordered(config)) != list(config)
    assert identity.run_id(reordered(config)) == identity.run_id(config)


def test_id_ignores_folders_display_and_notes(make_config):
    config = make_config()
    other = copy.deepcopy(config)
    other |= {"data_dir": "/a", "runs_dir": "/b", "cache_dir": "/c", "threads": 7, "retry": True}
    other["tracking"] = {"mode": "online"}
    other["task"]["workers"] = 3
    other["optimizer"]["search"] = {"lr": {"low": 1, "high": 2}}
    assert identity.run_id(other) == identity.run_id(config)


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
    assert len({identity.run_id(make_config(*overrides)) for overrides in configs}) == len(configs)


def test_equal_numbers_have_one_id(make_config):
    ids = {identity.run_id(make_config(f"optimizer.lr={text}")) for text in ("1", "1.0", "1e0")}
    assert len(ids) == 1


def test_seeds_share_a_group(make_config):
    first, second = make_config("seed=0"), make_config("seed=1")
    assert identity.group_id(first) == identity.group_id(second)
    assert identity.run_id(first) != identity.run_id(second)


def test_kept_gradients_are_part_of_the_id_and_seen_among_the_hyperparameters(make_config):
    plain, kept = make_config(), make_config("optimizer.needs.keep_gradients=true")
    before = copy.deepcopy(plain)  # of a version that had no such flag
    del before["optimizer"]["needs"]["keep_gradients"]
    assert identity.run_id(plain) == identity.run_id(before) != identity.run_id(kept)
    told = identity.hyperparameters(kept["optimizer"])
    assert told == identity.hyperparameters(plain["optimizer"]) | {"keep_gradients": True}


def test_hyperparameters_that_change_no_id_are_told_apart(make_config):
    section = make_config("optimizer=kfac")["optimizer"]
    section |= {"later": "mean", "neutral": {**section["neutral"], "later": "mean"}}
    kept = identity.hashed_hyperparameters(section)
    assert "later" in identity.hyperparameters(section)
    assert "later" not in kept
    assert kept["ema_decay"] is None  # hashed from the first
    assert identity.hashed_hyperparameters(section | {"later": "sum"})["later"] == "sum"


def test_hyperparameters_are_the_ones_of_the_method(make_config):
    section = make_config("optimizer=sgd")["optimizer"]
    names = set(identity.hyperparameters(section))
    assert {"lr", "momentum", "weight_decay"} <= names
    assert not names & {"_target_", "name", "needs", "search", "published_as", "family"}
