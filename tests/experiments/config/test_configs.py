"""Every YAML composes, is named like its file, and says all that the suite reads."""

import importlib
import inspect
import json
import re
import statistics
from functools import cache

import pytest
import yaml

from experiments.config import commandline, grids, recipes, rulesets
from experiments.config.compose import composed

OPTIMIZERS = commandline.choices("optimizer")
# Those of the repository: a file of one's own need not say so much.
SHIPPED = list(json.loads(recipes.FILE.read_text("utf-8"))["published_as"]["optimizer"])
TASKS = commandline.choices("task")
MODELS = commandline.choices("model")
EXPERIMENTS = commandline.choices("experiment")
RULE_FILES = sorted(
    path for folder in ("tuned", "paper") for path in (commandline.CONF / folder).glob("*/*.yaml")
)


@cache
def method_of(name):
    """The section, which nothing changes."""
    return composed([f"optimizer={name}"]).optimizer


KEEPS = {"needs": {"keep_gradients": True}}


@pytest.mark.parametrize("name", SHIPPED)
def test_optimizer(name):
    method = method_of(name)
    assert method.name == name
    flags = {"model", "logits", "create_graph", "closure", "keep_gradients"}
    assert set(method.suite["needs"]) == flags
    assert method.family
    text = (commandline.CONF / "optimizer" / f"{name}.yaml").read_text()
    assert text.startswith("# ")  # the source


@pytest.mark.parametrize("name", SHIPPED)
def test_the_search_space_is_three_decades_around_the_default(name):
    method = method_of(name)
    space = method.suite["search"]["lr"]
    assert space["high"] / space["low"] == pytest.approx(1000)
    assert space["low"] * 1000**0.5 == pytest.approx(method.arguments["lr"], rel=0.1)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_hyperparameter_is_written_out(name):
    """A default that a new release of a library changes must not change a run."""
    section = method_of(name)
    module, _, attribute = section.arguments["_target_"].rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), attribute))
    # What selects an implementation or the parameters, and never the result.
    technical = {"params", "model", "foreach", "capturable", "differentiable", "fused"}
    technical |= {"maximize", "loss_scale", "process_group"}  # what the suite's loop decides
    technical |= {"decay_norms_and_biases"}  # and which of torch's groups it makes
    technical |= {"schedule"}  # and its rate at each step
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    expected = {p.name for p in named} - technical
    assert set(section.hyperparameters) - technical == expected


@pytest.mark.parametrize("name", TASKS)
def test_task(name):
    config = composed([f"task={name}"])
    section = config.task
    assert section.name == name
    assert config.model.name in MODELS
    module = importlib.import_module(section.arguments["_target_"].rpartition(".")[0])
    assert callable(module.check)
    assert (commandline.CONF / "task" / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    config = composed([f"model={name}"])
    assert config.model.name == name
    assert {"published_as", "parameters"} <= set(config.model.suite)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment(name):
    text = (commandline.CONF / "experiment" / f"{name}.yaml").read_text()
    assert re.search(rf"(?i:experiment)={name}\b", text)  # the header has the command
    jobs = {
        tuple(item for item in job if not item.startswith(("hydra", "seed=")))
        for grid in grids.spelled_out([f"experiment={name}"])
        for job in commandline.samples(grid)
    }
    for job in jobs:  # its seeds compose alike
        assert composed(list(job)).task.name


def test_a_grid_refers_to_its_experiment_and_not_to_what_it_puts_in_its_place():
    table = yaml.safe_load((commandline.CONF / "budget" / "study_mnist.yaml").read_text())
    _, equal_steps, *_ = grids.spelled_out(["experiment=study_mnist"])
    job = [item for item in commandline.jobs(equal_steps)[-1] if not item.startswith("hydra")]
    config = composed(job)
    assert config.optimizer.name != "adafisher"
    assert config.budget["steps"] == table["by_optimizer"]["adafisher"]
    assert config.grids is config.values.get("tune") is None  # they are of no single run


def test_what_is_typed_replaces_the_grid_of_an_experiment():
    typed = ["experiment=schedules", "seed=7", "optimizer=adam"]
    (grid,) = grids.spelled_out(typed)
    jobs = commandline.jobs(grid)
    assert len(jobs) == 2
    assert {item for job in jobs for item in job if item.startswith("seed")} == {"seed=7"}


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_a_ruleset_only_sets_what_the_method_has(path):
    content = yaml.safe_load(path.read_text())
    assert set(content) - {"tuning"} == {"ruleset", "optimizer"}
    assert content["ruleset"] == path.parts[-3]
    section = method_of(path.stem)
    needs = content["optimizer"].pop("suite", KEEPS)
    assert needs == KEEPS
    assert set(content["optimizer"]) <= set(section.hyperparameters)


def test_tuned_values_are_taken_where_there_are_some():
    path = commandline.CONF / "tuned" / "digits" / "adam.yaml"
    tuned = yaml.safe_load(path.read_text())["optimizer"]["lr"]
    config = composed(["ruleset=tuned", "optimizer=adam", "task=digits"])
    assert (config.ruleset, config.optimizer.arguments["lr"]) == ("tuned", tuned)
    typed = composed(["ruleset=tuned", "optimizer=adam", "task=digits", "optimizer.lr=7"])
    assert typed.optimizer.arguments["lr"] == 7


@pytest.mark.parametrize(
    ("overrides", "lr"),
    [
        (["task=cifar10", "optimizer=kfac"], 0.3),  # spec of the released CNN configuration
        (["task=wikitext2", "optimizer=adamw"], 1e-5),  # Table 5's rate of AdamW
        (["task=wikitext2", "optimizer=shampoo"], 0.003),
    ],
)
def test_published_values_are_looked_up_by_the_family_of_the_model(overrides, lr):
    config = composed(["ruleset=paper", *overrides])
    assert (config.ruleset, config.optimizer.arguments["lr"]) == ("paper", lr)


def test_the_published_shampoo_of_language_keeps_its_gradients_and_no_other_does():
    shampoo = composed(["ruleset=paper", "task=wikitext2", "optimizer=shampoo"]).optimizer
    assert shampoo.hyperparameters["keep_gradients"] is True
    for overrides in (
        ["ruleset=paper", "task=wikitext2", "optimizer=adamw"],
        ["ruleset=paper", "task=cifar10", "optimizer=shampoo"],
        ["task=wikitext2", "optimizer=shampoo"],
    ):
        assert "keep_gradients" not in composed(overrides).optimizer.hyperparameters


def test_a_shipped_task_has_tuned_values_for_every_method():
    for task in ("digits", "tinyshakespeare"):
        assert set(commandline.choices(f"tuned/{task}")) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "path", sorted((commandline.CONF / "tuned").glob("*/*.yaml")), ids=lambda path: path.stem
)
def test_a_tuned_file_has_a_ledger_of_which_it_is_the_best(path):
    """Twelve rates by two seeds for every method; the chosen one has the least mean loss."""
    tuned = yaml.safe_load(path.read_text())
    ledger = yaml.safe_load((path.parent / "ledgers" / path.name).read_text())
    tuning, trials = tuned["tuning"], ledger["trials"]
    assert (ledger["ledger"], ledger["tuning"]) == (1, tuning)
    assert tuned["optimizer"] == tuning["chosen"]
    assert len(trials) == tuning["trials"] == 12
    assert tuning["seeds"] == [1000, 1001]
    done = [trial for trial in trials if trial["state"] == "done"]
    best = min(done, key=lambda trial: trial["score"])
    assert best["values"] == tuning["chosen"]
    assert (tuning["score"], tuning["choose"]) == ("mean over seeds", "loss")
    means = [statistics.fmean(trial["scores"]) for trial in done]
    assert [trial["score"] for trial in done] == pytest.approx(means)
    assert all(len(trial["scores"]) == len(tuning["seeds"]) for trial in trials)
    ended = {"diverged": ("diverged", "never finite"), "failed": ("failed", "out_of_memory")}
    for count, states in {"completed": ("done",), **ended}.items():
        assert tuning[count] == sum(trial["state"] in states for trial in trials)
    scores = sorted(trial["score"] for trial in done)
    spread = {"best": scores[0], "median": statistics.median(scores), "worst": scores[-1]}
    assert {key: tuning["spread"][key] for key in spread} == pytest.approx(spread, abs=1e-4)
    telling = [trial for trial in trials if trial["state"] not in (*ended["failed"], "pruned")]
    tried = [trial["values"]["lr"] for trial in telling]
    at_the_end = tuning["chosen"]["lr"] in (min(tried), max(tried))
    assert tuning["on_edge"] == (["lr"] if at_the_end else [])


def test_a_run_records_the_effort_behind_its_hyperparameters():
    path = commandline.CONF / "tuned" / "tinyshakespeare" / "sgd.yaml"
    config = composed(["ruleset=tuned", "optimizer=sgd", "task=tinyshakespeare"])
    assert config.tuning == yaml.safe_load(path.read_text())["tuning"]
    assert rulesets.remarks(config) == []
    assert composed(["optimizer=sgd", "task=tinyshakespeare"]).tuning is None
