"""The facts that are read off the YAML files, against what Hydra composes from them."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.joining import complaints
from analysis.published import read_published, records
from analysis.recipes import KINDS, Recipe, published, recipes
from experiments import budget, grids, identity, preflight

ROWS = records(read_published())
RECIPES = recipes()


def recipe_of(row: dict) -> Recipe | None:
    found = [recipe for recipe in RECIPES if recipe.covers(row)]
    assert len(found) <= 1, f"{row} is made twice"
    return found[0] if found else None


def test_every_row_has_its_experiment_but_those_that_cannot() -> None:
    without = [row for row in ROWS if recipe_of(row) is None]

    # Of the literature, and MobileNetV3 with weights that its published definition cannot load.
    assert {(row["table"], row["setting"], row["model"]) for row in without} == {
        (3, "literature", "resnet50"),
        (4, "imagenet_pretrained", "mobilenetv3"),
    }
    assert len(without) == 2 + 12


CHOSEN = {  # one of every kind of file that has its own conf/paper and defaults
    "table 2, CNN": (2, "cifar10", "resnet18", "adafisher"),
    "table 2, its own model": (2, "cifar100", "mobilenetv3", "kfac"),
    "table 2, transformer": (2, "cifar100", "swin_t", "shampoo"),
    "table 3": (3, "imagenet1k", "resnet50", "kfac"),
    "table 4": (4, "cifar100", "densenet121", "adahessian"),
    "table 5": (5, "ptb", "gpt1_mini", "adafisherw"),
}


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=list(CHOSEN.keys()))
def test_the_command_makes_runs_that_join_the_row_and_follow_its_protocol(chosen: tuple) -> None:
    names = ("table", "dataset", "model", "optimizer")
    (row,) = [row for row in ROWS if tuple(row[name] for name in names) == chosen]
    recipe = recipe_of(row)
    assert recipe is not None

    words = shlex.split(recipe.command(row, [7, 8]))
    assert words[:4] == ["python", "-m", "experiments.train", "-m"]
    (grid,) = grids.spelled_out(words[4:])
    assert "seed=7,8" in grid
    job = [item.replace("7,8", "7") for item in grid if not item.startswith("hydra.")]
    config = preflight.composed(job)

    assert identity.published_as(config) == {kind: chosen[i + 1] for i, kind in enumerate(KINDS)}
    source = config["pretrained"]["source"]
    assert row["setting"] == ("scratch" if source is None else "imagenet_pretrained")
    run = {
        "optimizer": config["optimizer"]["name"],
        "model": config["model"]["name"],
        "ruleset": config["ruleset"],
        "budget": budget.describe(config["budget"]),
        "schedule": config["schedule"]["name"],
        "batch_size": config["task"]["batch_size"],
        "precision": config["precision"],
        "tokenization": identity.tokenization(config),
        "validation": bool(config["task"].get("validation_fraction", 0)),
        "control": None,
        "hyperparameters": identity.hyperparameters(config["optimizer"]),
    }
    assert complaints(run, recipe) == []
    # The comparison covers the whole section: any other value is seen.
    for key in run["hyperparameters"]:
        changed = {**run, "hyperparameters": {**run["hyperparameters"], key: "other"}}
        assert complaints(changed, recipe), key


def test_a_command_over_several_processes() -> None:
    (row,) = [row for row in ROWS if row["setting"] == "3_gpu"]
    recipe = recipe_of(row)
    assert recipe is not None
    assert recipe.command(row) == (
        "torchrun --standalone --nproc-per-node=3 -m experiments.train experiment=table6"
    )
    assert recipe.protocol("adafisher_released")["budget"] == "2 epochs"


def test_other_weights_are_another_row() -> None:
    (row,) = [row for row in ROWS if row["setting"] == "4_gpu"]
    assert recipe_of(row) is not None
    assert recipe_of({**row, "setting": "scratch"}) is None


def test_published_names() -> None:
    assert published("task", "cifar10") == "cifar10"
    assert published("task", "cifar10_jpeg") is None
    assert published("optimizer", "adafisher_released") == "adafisher"
    assert published("optimizer", "adafisher") is None
    assert published("model", "no_such_model") is None


@given(st.floats(1e-12, 1e6))
def test_a_number_is_the_same_however_it_is_spelled(value: float) -> None:
    class Plain(Recipe):
        def hyperparameters(self, optimizer: str) -> dict:
            return {"lr": repr(value)}

        def protocol(self, optimizer: str) -> dict:
            return {}

    recipe = Plain(**{**vars(RECIPES[0])})
    run = {"optimizer": "sgd", "hyperparameters": {"lr": value}}
    assert complaints(run, recipe) == []
    assert complaints({**run, "hyperparameters": {"lr": 1.001 * value}}, recipe) != []
