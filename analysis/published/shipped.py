"""What the shipped configuration says of published rows and tasks, from ``recipes.json``.

``python -m experiments recipes`` writes that file; nothing in ``analysis`` reads ``conf/`` for it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).with_name("recipes.json")
KINDS = ("task", "model", "optimizer")
BY_METHOD = "by_optimizer"


@dataclass(frozen=True)
class ShippedMethod:
    """What one method is run with in a published setting.

    Attributes:
        budget: In words, as ``210 epochs``.
        epochs: Of a budget that is a table by methods; None of any other.
        hyperparameters: All values of its ruleset.
        typed: Overrides that pick it out of its experiment.
    """

    budget: str
    epochs: int | None
    hyperparameters: Mapping[str, Any]
    typed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """One configuration of an experiment, whose runs with these seeds make a published row.

    Attributes:
        experiment: Name in ``conf/experiment``.
        label: Which of several accepted configurations of its rows it is; may be empty.
        table: Number of the published table.
        published: Its task, model and optimizer as the published tables call them.
        model: Name in ``conf/model``.
        optimizer: Name in ``conf/optimizer``.
        setting: What the training starts from; ``*`` stands for a number of processes.
        ruleset: Where the hyperparameters come from.
        seeds: Seeds of the experiment.
        protocol: By section all that a run is but its method; of a budget that is a table by
            methods, the table.
        methods: Its own, and the rules that go by the published name without being it.
        is_shipped: Whether it is of ``recipes.json``, and not of a run's record.
    """

    experiment: str
    label: str
    table: int
    published: tuple[str | None, str | None, str | None]
    model: str
    optimizer: str
    setting: str
    ruleset: str
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]
    methods: Mapping[str, ShippedMethod]
    is_shipped: bool = True

    @property
    def name(self) -> str:
        """What tells it from another recipe of its row."""
        return self.label or f"experiment {self.experiment}"

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Tell whether its runs carry the names of a published row."""
        names = (row["dataset"], row["model"], row["optimizer"])
        setting = r"\d+".join(map(re.escape, self.setting.split("*")))
        return (
            self.table == row["table"]
            and self.published == names
            and re.fullmatch(setting, row["setting"]) is not None
        )

    def command(self, row: Mapping[str, Any], seeds: Sequence[int] = ()) -> str:
        """Give the command that runs it: with the experiment's seeds, or with the ones given."""
        experiment = f"experiment={self.experiment}"
        processes = re.fullmatch(r"(\d+)_gpu", row["setting"])
        if processes:
            torchrun = ["torchrun", "--standalone", f"--nproc-per-node={processes[1]}"]
            return shlex.join([*torchrun, "-m", "experiments.train", experiment])
        chosen = [f"seed={','.join(map(str, seeds))}"] if seeds else []
        typed = self.methods[self.optimizer].typed
        return shlex.join(["python", "-m", "experiments.train", "-m", experiment, *typed, *chosen])


@dataclass(frozen=True)
class Shipped:
    """The content of ``recipes.json``.

    Attributes:
        recipes: In order of the experiments' names; of several for one row the first goes first.
        published_as: By kind, what each choice is called in the published tables; None: it is not
            in them.
        tasks: The default setting of each task: ``model``, ``tokenization`` and ``budget`` in
            words, ``batch_size``, ``schedule``, ``precision``, and the whole ``protocol``.
        epochs: Of the published budgets, by family and optimizer: ``value`` and ``source``.
        learning_rates: Of the paper's ruleset, likewise.
        neutral: By optimizer the arguments that change nothing at these values.
    """

    recipes: tuple[Recipe, ...]
    published_as: Mapping[str, Mapping[str, str | None]]
    tasks: Mapping[str, Mapping[str, Any]]
    epochs: Mapping[str, Mapping[str, Any]]
    learning_rates: Mapping[str, Mapping[str, Any]]
    neutral: Mapping[str, Mapping[str, Any]]

    def covering(self, row: Mapping[str, Any]) -> list[Recipe]:
        """Find the recipes of a published row: none, one, or several that are all accepted."""
        names = (row["dataset"], row["model"], row["optimizer"])
        alike = self._by_names.get((row["table"], names), ())
        return [recipe for recipe in alike if recipe.covers(row)]

    @cached_property
    def _by_names(self) -> dict[tuple[Any, ...], list[Recipe]]:
        """The recipes by table and names: a report asks two thousand times."""
        found: dict[tuple[Any, ...], list[Recipe]] = {}
        for recipe in self.recipes:
            found.setdefault((recipe.table, recipe.published), []).append(recipe)
        return found

    @property
    def experiments(self) -> frozenset[str]:
        """Names of the experiments that there are."""
        return frozenset(recipe.experiment for recipe in self.recipes)


@cache
def shipped(path: Path = RECIPES) -> Shipped:
    """Read the file."""
    return from_content(json.loads(path.read_text(encoding="utf-8")))


def from_content(content: Mapping[str, Any]) -> Shipped:
    """Take a content apart, with the sections and hyperparameters that its entries name."""

    def protocol(entry: Mapping[str, Any]) -> dict[str, Any]:
        named = {key: content["sections"][name] for key, name in entry["sections"].items()}
        return {**entry["protocol"], **named}

    def method(entry: Mapping[str, Any], optimizer: str, own: Mapping[str, Any]) -> ShippedMethod:
        return ShippedMethod(
            budget=own["budget"],
            epochs=protocol(entry)["budget"].get(BY_METHOD, {}).get(optimizer),
            hyperparameters=content["hyperparameters"][own["hyperparameters"]],
            typed=tuple(own.get("typed", ())),
        )

    def recipes() -> Iterator[Recipe]:
        for entry in content["recipes"]:
            beside = {name: method(entry, name, own) for name, own in entry["beside"].items()}
            for optimizer, own in entry["methods"].items():
                yield Recipe(
                    experiment=entry["experiment"],
                    label=entry["recipe"],
                    table=entry["table"],
                    published=(*(entry["published"][kind] for kind in KINDS[:2]), own["published"]),
                    model=entry["model"],
                    optimizer=optimizer,
                    setting=entry["setting"],
                    ruleset=entry["ruleset"],
                    seeds=tuple(entry["seeds"]),
                    protocol=protocol(entry),
                    methods={**beside, optimizer: method(entry, optimizer, own)},
                )

    return Shipped(
        recipes=tuple(recipes()),
        published_as=content["published_as"],
        tasks={
            name: {**entry, "protocol": protocol(entry)} for name, entry in content["tasks"].items()
        },
        epochs=content["epochs"],
        learning_rates=content["learning_rates"],
        neutral=content["neutral"],
    )
