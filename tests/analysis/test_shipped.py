"""The mapping as the report reads it: every published row, and the commands that make its runs."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.published.conformity import conformity
from analysis.published.numbers import read_published, records
from analysis.published.shipped import KINDS, Recipe, from_content, shipped
from experiments.config import compose, grids, identity

ROOT = Path(__file__).resolve().parents[2]
ROWS = records(read_published())


def test_no_row_has_two_recipes_of_one_name() -> None:
    for row in ROWS:
        names = [recipe.name for recipe in shipped().covering(row)]
        assert len(set(names)) == len(names), f"{row} is made twice"


def test_every_row_has_its_experiment_but_those_that_cannot() -> None:
    without = [row for row in ROWS if not shipped().covering(row)]

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
    recipes = shipped().covering(row)
    assert recipes
    for recipe in recipes:
        follow(recipe, row, chosen)


def follow(recipe: Recipe, row: dict[str, Any], chosen: tuple) -> None:
    words = shlex.split(recipe.command(row, [7, 8]))
    assert words[:4] == ["python", "-m", "experiments.train", "-m"]
    (grid,) = grids.spelled_out(words[4:])
    assert "seed=7,8" in grid
    job = [item.replace("7,8", "7") for item in grid if not item.startswith("hydra.")]
    config = compose.composed(job)

    assert identity.published_as(config) == {kind: chosen[i + 1] for i, kind in enumerate(KINDS)}
    assert row["setting"] == identity.setting(config)
    split = bool(config.task.arguments.get("validation_fraction", 0)) or None
    task = SimpleNamespace(metric="", higher_is_better=True, unit="", units={}, validation=split)
    run = identity.describe(config, task)
    assert conformity(run, recipe, shipped()).text == ""
    assert conformity(run, recipe, shipped()).ignored == ()
    # The comparison covers the whole method: any other value is seen.
    for key in run["hyperparameters"]:
        changed = {**run, "hyperparameters": {**run["hyperparameters"], key: "other"}}
        (text,) = conformity(changed, recipe, shipped()).departures
        assert text.startswith(f"{key} other, not ")


def test_a_command_over_several_processes() -> None:
    (row,) = [row for row in ROWS if row["setting"] == "3_gpu"]
    (recipe,) = shipped().covering(row)
    assert recipe.command(row) == (
        "torchrun --standalone --nproc-per-node=3 -m experiments.train experiment=table6"
    )
    assert recipe.methods["adafisher_released"].budget == "2 epochs"


def test_other_weights_are_another_row() -> None:
    (row,) = [row for row in ROWS if row["setting"] == "4_gpu"]
    assert shipped().covering(row)
    assert not shipped().covering({**row, "setting": "scratch"})


def test_a_task_has_its_default_setting() -> None:
    digits = shipped().tasks["digits"]
    assert (digits["model"], digits["budget"], digits["batch_size"]) == (
        "small_cnn",
        "20 epochs",
        64,
    )
    assert digits["protocol"]["task"]["validation_fraction"] == 0.2
    assert digits["protocol"]["budget"] == {"epochs": 20}


def test_an_argument_that_came_after_a_run_changes_nothing_at_its_neutral_value() -> None:
    content = json.loads((ROOT / "analysis" / "published" / "recipes.json").read_text())
    content["hyperparameters"]["paper/cnn/adam"]["later"] = "mean"
    content["neutral"]["adam"] = {"later": "mean"}
    newer = from_content(content)
    (row,) = [
        row
        for row in ROWS
        if (row["table"], row["dataset"], row["model"], row["optimizer"])
        == (2, "cifar10", "resnet18", "adam")
    ]
    (recipe,) = newer.covering(row)
    values = dict(recipe.methods["adam"].hyperparameters)
    protocol = {**recipe.protocol, "budget": {"epochs": 210}}
    run = {"protocol": protocol, "optimizer": "adam", "ruleset": "paper", "model": "resnet18"}
    run |= {"budget": "210 epochs", "validation": False, "control": "", "origin": {}}
    for later, text in (
        ({"later": "mean"}, ""),
        ({"later": "sum"}, "later sum, not mean"),
        ({}, ""),
    ):
        del values["later"]
        values |= later
        assert conformity({**run, "hyperparameters": values}, recipe, newer).text == text
        values["later"] = "mean"


def test_the_verdicts_need_no_configuration(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "analysis", tmp_path / "analysis")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    script = (
        "from pathlib import Path\n"
        "from analysis.results.load import load_results\n"
        "from analysis.published.verdict import counts, verdicts\n"
        "print(counts(verdicts(load_results(Path('none')))))"
    )
    made = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'not comparable': 14, 'not run': 145" in made.stdout
