"""Which runs count for a published row: the one configuration of them that is its recipe's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.published.conformity import Conformity, conformity
from analysis.published.joining import Candidate, Key, by_key, near_runs
from analysis.published.shipped import Recipe, Shipped, ShippedMethod

Run = Mapping[str, Any]
Places = list[int]


@dataclass(frozen=True)
class Counted:
    """What counts for a row.

    Attributes:
        recipe: The recipe that the runs follow; the row's first one where none counts.
        label: Its name, where the row has several; else empty.
        places: The runs that count, by their place among all.
        why: If none does, what keeps those away that are near; empty if none is near.
        near: Places of the runs that ``why`` is about.
        note: What else would count, and does not so that no run is chosen by its result.
    """

    recipe: Recipe
    label: str
    places: tuple[int, ...] = ()
    why: str = ""
    near: tuple[int, ...] = ()
    note: str = ""


class Counting:
    """Finds what counts for published rows.

    Args:
        runs: Rows of the run-level frame.
        published: Of ``read_published``.
        shipped: Of ``shipped.shipped``.
    """

    def __init__(self, runs: Sequence[Run], published: pd.DataFrame, shipped: Shipped) -> None:
        self.runs, self.shipped = runs, shipped
        self._near: dict[Key, list[Candidate]] = by_key(near_runs(runs, published, shipped))

    def recipes(self, row: Run) -> list[Recipe]:
        """Find the accepted recipes of a row; if none is shipped, those that its runs state."""
        return self.shipped.covering(row) or self._stated(row)

    def of(self, row: Run) -> Counted | None:
        """Choose by what is recorded of the runs, never by a result; None without a recipe."""
        recipes = self.recipes(row)
        if not recipes:
            return None
        near = [one for one in self._at(row) if not one.other_rule]
        fits: list[list[tuple[Conformity, Places]]] = [[] for _ in recipes]
        refused: dict[str, tuple[float, Places]] = {}  # by what is wrong: how much, and where

        def refuse(why: str, departures: float, places: Places) -> None:
            refused.setdefault(why, (departures, []))[1].extend(places)

        for places in self._groups(one for one in near if not one.differs):
            run = self.runs[places[0]]
            number, found = _nearest([conformity(run, one, self.shipped) for one in recipes])
            if not found.departures:
                fits[number].append((found, places))
            elif not found.is_recorded:  # whatever else is there tells more
                refuse(f"protocol: {found.text}", math.inf, places)
            elif run["model"] != found.recipe.model:
                # Two models of one published name: the wrong one is more than another protocol.
                refuse(f"model: {run['model']}", 1, places)
            else:
                refuse(
                    f"protocol: {found.text}{_recipe(recipes, found.recipe, '; recipe: ')}",
                    len(found.departures),
                    places,
                )
        for number, fitting in enumerate(fits):
            if fitting:
                later = [places for of in fits[number + 1 :] for _, places in of]
                return _chosen(recipes, recipes[number], fitting, later)
        for one in near:
            if one.differs:
                refuse(", ".join(one.differs), len(one.differs), [one.index])
        label = _recipe(recipes, recipes[0])
        if not refused:
            return Counted(recipes[0], label)
        why = min(refused, key=lambda text: (refused[text][0], text))
        return Counted(recipes[0], label, why=why, near=tuple(refused[why][1]))

    def beside(self, row: Run) -> list[tuple[Conformity, Places]]:
        """Each configuration that stands near a row, and differs from it in its update rule."""
        recipes = self.recipes(row)
        groups = self._groups(one for one in self._at(row) if one.other_rule_alone)
        return [
            (_nearest([conformity(self.runs[at[0]], one, self.shipped) for one in recipes])[1], at)
            for at in groups
            if recipes
        ]

    def _at(self, row: Run) -> list[Candidate]:
        return self._near.get((row["dataset"], row["model"], row["optimizer"], row["setting"]), [])

    def _groups(self, near: Iterable[Candidate]) -> list[Places]:
        """Places of the runs of each configuration."""
        grouped: dict[str, Places] = {}
        for one in near:
            grouped.setdefault(self.runs[one.index]["group_id"], []).append(one.index)
        return list(grouped.values())

    def _stated(self, row: Run) -> list[Recipe]:
        """Gather what experiments that are not shipped say of a row that no shipped one makes."""
        found: dict[str, Recipe] = {}
        for one in self._at(row):
            run = self.runs[one.index]
            stated = (run["origin"] or {}).get("experiment")
            if one.differs or not stated or stated["name"] in self.shipped.experiments:
                continue
            if _table(stated["name"]) == row["table"]:
                found.setdefault(stated["name"], _of_record(run, stated, row))
        return list(found.values())


def _nearest(found: Sequence[Conformity]) -> tuple[int, Conformity]:
    """Find the recipe that a run departs least from; of equal ones the first."""
    number = min(range(len(found)), key=lambda at: len(found[at].departures))
    return number, found[number]


def _chosen(
    recipes: Sequence[Recipe],
    recipe: Recipe,
    fitting: Sequence[tuple[Conformity, Places]],
    later: Sequence[Places],
) -> Counted:
    """Of several configurations the one that is most like the recipe in what is ignored."""
    label = _recipe(recipes, recipe)
    first, *others = sorted(
        fitting, key=lambda one: (len(one[0].ignored), -len(one[1]), one[0].ignored)
    )
    same = [places for found, places in fitting if found.ignored == first[0].ignored]
    if len(same) > 1:  # they differ in what a record does not show: none is preferred
        why = f"protocol: {len(same)} configurations claim this row"
        return Counted(recipe, label, why=why, near=tuple(at for places in same for at in places))
    notes = [f"{len(places)} more with {', '.join(found.ignored)}" for found, places in others]
    if later:
        notes.append(f"{sum(map(len, later))} more of another recipe")
    return Counted(recipe, label, tuple(first[1]), note="; ".join(notes))


def _recipe(recipes: Sequence[Recipe], recipe: Recipe, before: str = "") -> str:
    """Name a recipe, where there are several to tell apart or it is not shipped."""
    return before + recipe.name if len(recipes) > 1 or not recipe.is_shipped else ""


def _table(experiment: str) -> int | None:
    number = re.match(r"table(\d+)", experiment)
    return int(number[1]) if number else None


def _of_record(run: Run, stated: Mapping[str, Any], row: Run) -> Recipe:
    budget = stated["protocol"]["budget"]
    command = [item for item in run["origin"]["command"] if not item.startswith("experiment=")]
    return Recipe(
        experiment=stated["name"],
        label=f"experiment {stated['name']} as recorded, which is not shipped",
        is_shipped=False,
        table=row["table"],
        published=(row["dataset"], row["model"], row["optimizer"]),
        model=stated["protocol"]["model"]["name"],
        optimizer=run["optimizer"],
        setting=row["setting"],
        ruleset=stated["ruleset"],
        seeds=(),
        protocol=stated["protocol"],
        methods={
            run["optimizer"]: ShippedMethod(
                budget=", ".join(f"{key} {budget[key]}" for key in budget if key != "by_optimizer"),
                epochs=None,
                hyperparameters=stated["hyperparameters"],
                typed=tuple(command),
            )
        },
    )
