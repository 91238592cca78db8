"""Rows with several accepted recipes, and rows that only a run's own experiment states."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from analysis.published.shipped import Recipe, Shipped, shipped
from analysis.published.verdict import beside, verdicts
from analysis.results.load import load_results
from tests.support.published import PLAIN, identity_of, recipe_of

PAPER, FILE = "batch 256 (paper)", "batch 128 (released file)"
GOOD = (94.9, 95.0, 94.8, 94.95, 94.85)  # the row has 94.85


def adam() -> Recipe:
    return recipe_of(2, "cifar10", "resnet18", "adam")


def of_batch(recipe: Recipe, size: int, label: str) -> Recipe:
    protocol = copy.deepcopy(dict(recipe.protocol))
    protocol["task"]["batch_size"] = size
    return dataclasses.replace(recipe, label=label, protocol=protocol)


@pytest.fixture
def several() -> Shipped:
    """As shipped, but with two recipes for the row of Adam."""
    one = adam()
    two = (of_batch(one, 256, PAPER), of_batch(one, 128, FILE))
    others = tuple(recipe for recipe in shipped().recipes if recipe != one)
    return dataclasses.replace(shipped(), recipes=(*two, *others))


@pytest.fixture
def seeds(write_run: Any) -> Any:
    def write(values: tuple[float, ...], **changes: Any) -> None:
        for seed, value in enumerate(values):
            write_run(seed=seed, values=(value, value - 1), **identity_of(adam(), **changes))

    return write


def row(runs_dir: Path, by: Shipped) -> Any:
    names = ("cifar10", "resnet18", "scratch", "adam")
    made = verdicts(load_results(runs_dir), by=by)
    (found,) = [r for _, r in made.iterrows() if tuple(r[list(NAMES)]) == names]
    return found


NAMES = ("dataset", "model", "setting", "optimizer")


@pytest.mark.parametrize(("size", "label"), [(256, PAPER), (128, FILE)])
def test_the_recipe_that_fits_is_named(
    seeds: Any, runs_dir: Path, several: Shipped, size: int, label: str
) -> None:
    seeds(GOOD, **{"task.batch_size": size})
    found = row(runs_dir, several)
    assert found["verdict"] == f"reproduced (recipe: {label})"
    assert found["recipe"] == label


def test_details_stand_before_it(seeds: Any, runs_dir: Path, several: Shipped) -> None:
    seeds(tuple(value - 2 for value in GOOD), **{"task.batch_size": 128})
    assert row(runs_dir, several)["verdict"] == f"differs (lower; recipe: {FILE})"


def test_where_none_fits_the_nearest_is_named(seeds: Any, runs_dir: Path, several: Shipped) -> None:
    seeds(GOOD, **{"task.batch_size": 128, "task.flip": False})
    assert row(runs_dir, several)["verdict"] == (
        f"not comparable (protocol: flip false, not true; recipe: {FILE})"
    )


def test_of_two_that_were_run_the_first_counts_whatever_the_results(
    seeds: Any, runs_dir: Path, several: Shipped
) -> None:
    seeds(GOOD, **{"task.batch_size": 128})
    seeds(tuple(value - 2 for value in GOOD[:3]))
    found = row(runs_dir, several)
    assert found["verdict"] == f"differs (lower; recipe: {PAPER})"
    assert found["note"] == "n=3/5; 5 more of another recipe"


def test_a_row_of_one_recipe_names_none(seeds: Any, runs_dir: Path) -> None:
    seeds(GOOD)
    found = row(runs_dir, shipped())
    assert (found["verdict"], found["recipe"]) == ("reproduced", "")


def test_without_runs_the_first_is_the_command(runs_dir: Path, several: Shipped) -> None:
    assert row(runs_dir, several)["outcome"] == "not run"


def test_an_alternative_without_a_label_goes_by_its_experiment(seeds: Any, runs_dir: Path) -> None:
    other = dataclasses.replace(of_batch(adam(), 128, ""), experiment="table2_small")
    by = dataclasses.replace(shipped(), recipes=(*shipped().recipes, other))
    seeds(GOOD, **{"task.batch_size": 128})
    assert row(runs_dir, by)["verdict"] == "reproduced (recipe: experiment table2_small)"


def test_rules_beside_are_compared_with_the_nearest(write_run: Any, runs_dir: Path) -> None:
    one = recipe_of(2, "cifar10", "resnet18", "adafisher")
    two = (of_batch(one, 256, PAPER), of_batch(one, 128, FILE))
    write_run(**identity_of(one, "adafisher", **{"task.batch_size": 128}))
    made = beside(load_results(runs_dir), by=dataclasses.replace(shipped(), recipes=two))
    assert made["protocol"].tolist() == [""]


def stating(name: str, **changes: Any) -> dict[str, Any]:
    """A run of an experiment of one's own that says what the recipe does, but for changes."""
    facts = identity_of(adam())
    stated = {key: facts[key] for key in ("protocol", "ruleset", "hyperparameters")}
    command = [f"experiment={name}", "model=resnet18", "optimizer=adam"]
    origin = {**PLAIN, "command": command, "experiment": {"name": name, **stated}}
    return {**identity_of(adam(), **changes), "origin": origin}


def test_a_row_that_nothing_shipped_makes_is_judged_by_what_its_runs_experiment_says(
    write_run: Any, runs_dir: Path
) -> None:
    without = tuple(recipe for recipe in shipped().recipes if recipe != adam())
    by = dataclasses.replace(shipped(), recipes=without)
    for seed, value in enumerate(GOOD):
        write_run(seed=seed, values=(value, value - 1), **stating("table2_mine"))
        write_run(seed=seed, values=(9.0,), **stating("table2_mine", **{"task.flip": False}))
    found = row(runs_dir, by)
    label = "experiment table2_mine as recorded, which is not shipped"
    assert found["verdict"] == f"reproduced (recipe: {label})"


@pytest.mark.parametrize("name", ["table4_mine", "mine"])
def test_not_by_an_experiment_of_another_table(write_run: Any, runs_dir: Path, name: str) -> None:
    without = tuple(recipe for recipe in shipped().recipes if recipe != adam())
    write_run(**stating(name))
    found = row(runs_dir, dataclasses.replace(shipped(), recipes=without))
    assert found["verdict"].startswith("not comparable (model: no experiment trains")


def test_an_experiment_of_ones_own_does_not_move_what_is_shipped(
    write_run: Any, runs_dir: Path
) -> None:
    facts = stating("table2_mine", **{"task.cutout_size": 0})
    facts["origin"]["experiment"]["protocol"] = facts["protocol"]
    write_run(**facts)
    found = row(runs_dir, shipped())
    assert found["verdict"] == "not comparable (protocol: cutout_size 0, not 16)"
