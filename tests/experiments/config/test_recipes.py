"""The mapping that the report knows of ``conf/``, against Hydra and in every form that it takes."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from experiments.config import commandline, compose, compositions, recipes
from experiments.config.sourced import sourced
from tests.support.commands import exit_code


@pytest.fixture(scope="module")
def content():
    return recipes.Mapped().content()


def test_the_committed_mapping_is_fresh(content):
    text = recipes.text_of(content) + "\n"
    assert json.loads(text) == content
    assert recipes.FILE.read_text("utf-8") == text, "run `python -m experiments recipes`"


def test_seconds_over_processes_are_of_any_number_of_them(content):
    (six,) = [entry for entry in content["recipes"] if entry["table"] == 6]
    assert six["setting"] == "*_gpu"
    assert six["seeds"] == [0]
    assert six["methods"]["adafisher_released"]["typed"] == []


def test_a_task_has_its_defaults(content):
    digits = content["tasks"]["digits"]
    facts = {"model": "small_cnn", "tokenization": None, "budget": "20 epochs", "batch_size": 64}
    facts |= {"schedule": "cosine", "precision": "fp32"}
    assert {key: digits[key] for key in facts} == facts
    assert content["sections"][digits["sections"]["task"]]["validation_fraction"] == 0.2
    assert content["tasks"]["ptb"]["tokenization"] == "word"


SAMPLE = [
    [f"experiment={experiment}", f"task={task}", f"model={model}", f"optimizer={optimizer}"]
    for experiment, task in (("table2_cifar10", "cifar10"), ("table4", "cifar100"))
    for model in ("resnet18", "densenet121", "swin_t")
    for optimizer in ("sgd", "kfac")
]


def by_hydra(job):
    """The sections and the choices that Hydra itself composes, with nothing of another job."""
    whole = compositions.compose_job(job)
    choices = dict(whole.hydra.runtime.choices)
    plain = OmegaConf.to_container(whole)
    del plain["hydra"]
    return plain, {group: choices[group] for group in commandline.GROUPS}


def ours(made):
    return OmegaConf.to_container(made.config), {
        group: made.choices[group] for group in commandline.GROUPS
    }


@pytest.fixture
def asked(monkeypatch):
    """The jobs that Hydra was asked to compose."""
    jobs = []
    plain = compositions.compose_job
    monkeypatch.setattr(compositions, "compose_job", lambda job: jobs.append(job) or plain(job))
    return jobs


def test_a_job_that_follows_from_others_is_the_one_that_hydra_composes(asked):
    kept = compositions.Compositions()
    made = {tuple(job): kept.of(job) for job in SAMPLE}
    # Two methods for each family of models, as these have hyperparameters of their own, another
    # model, and the other experiment with one method and model.
    assert len(asked) == 6
    for job, found in made.items():
        assert ours(found) == by_hydra(job)
    rates = {compose.resolve(found).optimizer.arguments["lr"] for found in made.values()}
    assert rates == {0.1, 0.3, 0.0333, 0.003}


def test_what_is_not_chosen_is_that_of_the_place():
    """The model of a task is its own, also where another task was given the same one by name."""
    kept = compositions.Compositions()
    for task in ("digits", "tinyshakespeare"):
        for model in ([], ["model=small_cnn"])[:: 1 if task == "digits" else -1]:
            job = [f"task={task}", "optimizer=adam", *model]
            assert ours(kept.of(job)) == by_hydra(job)


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=7", "optimizer.lr=0.5", "budget.epochs=3"],
        ["+optimizer.foreach=true", "++seed=2", "optimizer.betas=[0.5,0.6]"],
        ["data_dir='a b'", "setting=null", "threads=${seed}", "task.suite.threads=2"],
        ["~optimizer.suite.search.lr", "jobs=3", "launcher=joblib"],
        ["hydra.launcher.n_jobs=2", "hydra/launcher=joblib", "task={batch_size:8}"],
    ],
    ids=["values", "new keys and lists", "text and references", "without", "of hydra"],
)
def test_values_are_set_on_the_choices_as_hydra_does(typed):
    kept = compositions.Compositions()
    for method in ("adam", "adamw"):
        job = [f"optimizer={method}", "task=digits", *typed]
        assert ours(kept.of(job)) == by_hydra(job)


def test_values_need_no_composing(asked):
    kept = compositions.Compositions()
    rates = [kept.of([f"optimizer.lr={lr}", f"seed={lr}"]).config.optimizer.lr for lr in (1, 2, 3)]
    assert rates == [1, 2, 3]
    assert len(asked) == 1


@pytest.mark.slow
def test_every_job_is_the_one_that_hydra_composes():
    kept = compositions.Compositions()
    for path in sorted((commandline.CONF / "experiment").glob("table*.yaml")):
        for job in recipes._jobs(path.stem):
            assert ours(kept.of(job)) == by_hydra(job)


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A configuration with two tasks and one experiment, ``table2``, that a test writes."""
    folder = tmp_path / "conf"
    shutil.copytree(commandline.CONF, folder, ignore=shutil.ignore_patterns("table*.yaml"))
    for path in (folder / "task").glob("*.yaml"):
        if path.stem not in ("cifar10", "digits"):
            path.unlink()
    monkeypatch.setattr(commandline, "CONF", folder)
    return folder


EXPERIMENT = """# @package _global_
defaults:
  - override /task: cifar10
  - override /budget: paper_cifar
  - override /ruleset: paper
hydra:
  sweeper:
    params:
      seed: 0,1
      optimizer: sgd,adam
"""
FORMS = {  # each a valid one
    "range": ("seed: 0,1", "seed: range(0,5)", [0, 1, 2, 3, 4], {"sgd", "adam"}),
    "a YAML list": ("seed: 0,1", "seed: [0, 1]", [0, 1], {"sgd", "adam"}),
    "glob": ("optimizer: sgd,adam", "optimizer: glob([sg*,sh*])", [0, 1], {"sgd", "shampoo"}),
}


@pytest.mark.parametrize(("old", "new", "seeds", "methods"), FORMS.values(), ids=FORMS.keys())
def test_every_form_that_hydra_takes_is_understood(old, new, seeds, methods, conf):
    (conf / "experiment" / "table2.yaml").write_text(EXPERIMENT.replace(old, new))
    (entry,) = recipes.Mapped().content()["recipes"]
    assert entry["seeds"] == seeds
    assert set(entry["methods"]) == methods
    assert entry["methods"]["sgd"]["budget"] == "210 epochs"
    assert entry["methods"]["sgd"]["typed"] == ["optimizer=sgd"]


def test_what_an_experiment_changes_is_in_its_entry_alone(conf):
    own = "recipe: batch 128 (ours)\ntask: {batch_size: 128}\noptimizer: {weight_decay: 0.5}\n"
    (conf / "experiment" / "table2.yaml").write_text(EXPERIMENT)
    (conf / "experiment" / "table2_small.yaml").write_text(EXPERIMENT + own)
    content = recipes.Mapped().content()
    plain, small = content["recipes"]
    assert (plain["recipe"], small["recipe"]) == ("", "batch 128 (ours)")
    assert (plain["table"], small["table"]) == (2, 2)
    tasks = [content["sections"][entry["sections"]["task"]] for entry in (plain, small)]
    assert [task["batch_size"] for task in tasks] == [256, 128]
    for name in ("sgd", "adam"):
        decays = [
            content["hyperparameters"][entry["methods"][name]["hyperparameters"]]["weight_decay"]
            for entry in (plain, small)
        ]
        assert decays == [5e-4, 0.5]


def test_the_rules_that_stand_beside_have_the_methods_setting(conf):
    own = EXPERIMENT.replace("sgd,adam", "sgd,adafisher_released")
    (conf / "experiment" / "table2.yaml").write_text(own)
    content = recipes.Mapped().content()
    (entry,) = content["recipes"]
    assert set(entry["beside"]) == {"adafisher", "adafisher_v3"}
    for rule in entry["beside"].values():
        assert rule["budget"] == "200 epochs"
        assert content["hyperparameters"][rule["hyperparameters"]]["weight_decay"] == 5e-4


def test_a_value_that_is_neutral_is_told(conf):
    file = conf / "optimizer" / "adam.yaml"
    own = "neutral: {"
    text = file.read_text().replace(own, f"{own}later: mean, needs.late: false, ")
    file.write_text(f"{text}later: mean\n")
    (conf / "experiment" / "table2.yaml").write_text(EXPERIMENT)
    assert recipes.Mapped().content()["neutral"] == {
        "adam": {"later": "mean", "fused": True, "keep_gradients": False},
        "sgd": {"fused": True, "keep_gradients": False},
    }


BROKEN = {
    "a choice": ("/task: cifar10", "/task: cifar", "Unknown"),
    "a value": ("optimizer: sgd,adam", "optimizer: sgd,adamm", "Unknown optimizer: 'adamm'"),
    "a seed": ("seed: 0,1", "seed: first", "Invalid seed: first. Must be a whole number >= 0."),
    "a sweep": ("seed: 0,1", "seed: range(0", "range(0"),
    "YAML": ("defaults:", "defaults: [", "table2"),
}


@pytest.mark.parametrize(("old", "new", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_an_experiment_that_does_not_compose_is_one_line(
    old, new, said, conf, tmp_path, monkeypatch, capsys
):
    (conf / "experiment" / "table2.yaml").write_text(EXPERIMENT.replace(old, new))
    file = tmp_path / "made.json"
    assert exit_code("recipes", f"file={file}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: conf/experiment/table2.yaml: ")
    assert said in line
    assert not file.exists()


def test_a_source_is_the_comment_on_the_line(tmp_path):
    file = tmp_path / "adam.yaml"
    file.write_text(
        "# lr: 9\ntuning:\n  lr: 7\noptimizer:\n  lr: 1e-3  # Table 9, #2\n  beta: 1\n"
        "  name: 'a # b'  # ours\n  betas: [1, 2]  # no plain value\n"
    )
    assert sourced(file, "optimizer") == {
        "lr": {"value": 1e-3, "source": "Table 9, #2"},
        "beta": {"value": 1, "source": ""},
        "name": {"value": "a # b", "source": "ours"},
    }
    flow = "optimizer: {lr: 0.1, beta: 2}  # both\n"
    file.write_text(flow)
    assert {key: found["value"] for key, found in sourced(file, "optimizer").items()} == {
        "lr": 0.1,
        "beta": 2,
    }


def test_what_is_published_has_its_names(content):
    names = content["published_as"]
    assert names["task"] | {"cifar10": "cifar10", "cifar10_jpeg": None} == names["task"]
    assert names["optimizer"]["adafisher_released"] == "adafisher"
    assert names["optimizer"]["adafisher"] is None
