"""What the authors ran, beside what the recipes run: facts of the paper and the released files."""

import dataclasses
from typing import Any

import pytest

from analysis.published import fidelity
from analysis.published.numbers import PERPLEXITY as MEASURE
from analysis.published.numbers import read_published, records
from analysis.published.shipped import Shipped, shipped
from analysis.published.verdict import verdicts
from analysis.results.load import load_results
from analysis.tables import published_fidelity, published_vs_reproduced
from tests.support.published import identity_of, recipe_of

ROWS = records(read_published())
WORDS = {"as published", "as released", "differs", "unknown"}


def row(table: int, dataset: str, model: str, optimizer: str) -> dict[str, Any]:
    names = {"table": table, "dataset": dataset, "model": model, "optimizer": optimizer}
    (found,) = (one for one in ROWS if {key: one[key] for key in names} == names)
    return found


def of(*names: Any) -> dict[str, fidelity.Aspect]:
    return fidelity.aspects(row(*names), shipped())


def test_every_row_has_every_aspect_and_differences_say_how(runs_dir: Any) -> None:
    table = published_fidelity.build(load_results(runs_dir))
    assert len(table) == len(ROWS) == 159
    found = [one for each in ROWS for one in fidelity.aspects(each, shipped()).values()]
    assert {one.word for one in found} == WORDS
    assert all(bool(one.how) == (one.word == "differs") for one in found)
    assert set(table.columns) == {*fidelity.ASPECTS, "note"}


@pytest.mark.parametrize(
    ("names", "aspect", "text"),
    [
        ((2, "cifar10", "resnet18", "adam"), "method", "as released"),
        ((2, "cifar10", "resnet18", "adam"), "decay", "as published"),
        ((2, "cifar10", "resnet18", "adam"), "epochs", "as published"),
        ((2, "cifar10", "resnet50", "kfac"), "method", "as released"),
        ((2, "cifar100", "densenet121", "shampoo"), "initial weights", "as released"),
        ((2, "cifar10", "resnet18", "sgd"), "method", "unknown"),
        ((2, "cifar100", "swin_t", "sgd"), "decay", "unknown"),
        ((2, "cifar10", "swin_t", "adamw"), "batch", "as published"),
        ((3, "imagenet1k", "resnet50", "adam"), "model definition", "unknown"),
        ((3, "imagenet1k", "resnet50", "kfac"), "epochs", "as released"),
        ((5, "wikitext2", "gpt1_mini", "shampoo"), "method", "as released"),
        ((5, "wikitext2", "gpt1_mini", "adamw"), "loss scale", "unknown"),
        ((5, "ptb", "gpt1_mini", "adamw"), "data", "unknown"),
        ((5, "wikitext2", "gpt1_mini", "adamw"), "data", "as released"),
    ],
)
def test_a_row_is_told_by_what_is_known_of_it(names: Any, aspect: str, text: str) -> None:
    assert of(*names)[aspect].text == text


@pytest.mark.parametrize(
    ("names", "aspect", "part"),
    [
        ((2, "cifar10", "swin_t", "adafisherw"), "method", "42 tensors"),
        ((4, "cifar10", "resnet50", "adam"), "model definition", "88.1 %"),
        ((4, "cifar100", "mobilenetv3", "adam"), "model definition", "70.05M"),
        ((3, "imagenet1k", "resnet50", "lamb"), "model definition", "of the literature"),
        (
            (2, "cifar10", "resnet18", "adahessian"),
            "loss scale",
            "none here, loss_scale 65536 (released file, experiment=table2_released_trainer)",
        ),
    ],
)
def test_a_difference_says_how(names: Any, aspect: str, part: str) -> None:
    found = of(*names)[aspect]
    assert found.word == "differs"
    assert part in found.how


@pytest.mark.parametrize("model", ["swin_t", "focalnet"])
@pytest.mark.parametrize("optimizer", ["adamw", "adahessian"])
def test_a_row_of_two_batches_says_both(model: str, optimizer: str, runs_dir: Any) -> None:
    table = published_vs_reproduced.build(load_results(runs_dir))
    key = (2, "cifar10", model, "scratch", optimizer, "test_accuracy_percent")
    assert (
        "batch: batch_size 256 (paper), 128 (released file, experiment=table2_released_files)"
        in table.loc[key, "as run"]
    )


def changed(by: Shipped, section: str, **values: Any) -> Shipped:
    """The recipes, each with another value in a section of its protocol."""
    recipes = tuple(
        dataclasses.replace(
            one, protocol={**one.protocol, section: {**one.protocol[section], **values}}
        )
        for one in by.recipes
    )
    return dataclasses.replace(by, recipes=recipes)


def test_a_recipe_that_leaves_the_paper_is_told() -> None:
    other = changed(shipped(), "task", batch_size=512)
    found = fidelity.aspects(row(2, "cifar10", "resnet18", "adam"), other)
    assert found["batch"].text == "differs (512 here, batch_size 256 (paper), 256 (released file))"


def test_every_line_of_the_facts_says_something_of_a_row() -> None:
    used = [
        line
        for each in ROWS
        for lines in [[line for line in fidelity._lines() if fidelity._is_about(line, each)]]
        for aspect in fidelity.ASPECTS
        for line in fidelity._first(lines, aspect)
    ]
    assert [line for line in fidelity._lines() if line not in used] == []


@pytest.mark.parametrize(
    ("names", "changes", "recipe"),
    [
        ((2, "cifar10", "swin_t", "adamw"), {"task.batch_size": 128}, "as in the released files"),
        (
            (2, "cifar10", "swin_t", "shampoo"),
            {"schedule.horizon_epochs": 200},
            "as in the released files",
        ),
        (
            (2, "cifar10", "resnet18", "adafisher"),
            {"loss_scale": 65536},
            "with the released trainer's loss scale",
        ),
    ],
)
def test_the_judge_takes_either_reading_and_names_it(
    names: Any, changes: dict[str, Any], recipe: str, write_run: Any, runs_dir: Any
) -> None:
    mean = row(*names)["mean"]
    for seed, value in enumerate((mean, mean + 0.1, mean - 0.1, mean, mean + 0.05)):
        facts = identity_of(recipe_of(*names), **changes)
        write_run(seed=seed, values=(value, value - 1), **facts)
    made = verdicts(load_results(runs_dir)).set_index(["table", "dataset", "model", "optimizer"])
    assert made.loc[names, "verdict"] == f"reproduced (recipe: {recipe})"


@pytest.mark.parametrize(
    ("keeps", "verdict"),
    [(True, "reproduced"), (False, "not comparable (protocol: keep_gradients false, not true)")],
)
def test_only_kept_gradients_join_the_published_shampoo_of_language(
    keeps: bool, verdict: str, write_run: Any, runs_dir: Any
) -> None:
    names = (5, "wikitext2", "gpt1_mini", "shampoo")
    mean = row(*names)["mean"]
    facts = identity_of(recipe_of(*names), **{"optimizer.keep_gradients": keeps})
    for seed, factor in enumerate((1.0, 1.001, 0.999)):
        rows = [{"step": 1, "epoch": 1.0, "train_seconds": 1.0, MEASURE.metric: mean * factor}]
        write_run(seed=seed, rows=rows, **facts)
    made = verdicts(load_results(runs_dir)).set_index(["table", "dataset", "model", "optimizer"])
    assert made.loc[names, "verdict"] == verdict
