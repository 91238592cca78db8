"""How each published row was run by its authors, and whether the shipped recipes run it so.

What the authors ran stands in ``fidelity.csv``, what runs here in ``recipes.json``. A line of the
first is about the rows whose names its expressions match whole (empty: any); of several lines about
one key the first counts. ``paper`` is what the text says, ``released`` what
the released code and configurations have; ``none`` is a null, empty is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.published.conformity import facts_of, plain
from analysis.published.numbers import records
from analysis.published.shipped import Recipe, Shipped

FIDELITY = Path(__file__).with_name("fidelity.csv")
AS_PUBLISHED, AS_RELEASED = "as published", "as released"
DIFFERS, UNKNOWN = "differs", "unknown"
DEFINITION = "model definition"
ASPECTS = (
    *("method", DEFINITION, "data", "initial weights", "batch"),
    *("loss scale", "schedule", "decay", "epochs"),
)
"""What is told of a row."""
LITERATURE = "of the literature: the authors ran nothing, nor does anything here"
NOT_RUN = "not run here"
NONE = "none"


@dataclass(frozen=True)
class Aspect:
    """One aspect of a row.

    Attributes:
        word: ``as published``, ``as released``, ``differs`` or ``unknown``.
        how: Where it differs, how.
        note: What paper, released files and the recipes here have beside that; may be empty.
    """

    word: str
    how: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """The word, with how it differs."""
        return f"{self.word} ({self.how})" if self.how else self.word


def aspects(row: Mapping[str, Any], shipped: Shipped) -> dict[str, Aspect]:
    """Compare the first recipe of a published row with what its authors ran, by ``ASPECTS``."""
    lines = [line for line in _lines() if _is_about(line, row)]
    recipes = shipped.covering(row)
    if not recipes:
        why = next((line["note"] for line in lines if line["column"] == DEFINITION), "")
        return {
            **dict.fromkeys(ASPECTS, Aspect(DIFFERS, NOT_RUN)),
            DEFINITION: Aspect(DIFFERS, why or LITERATURE),
        }
    ours = {recipe.experiment: _facts(recipe, shipped) for recipe in recipes}
    return {
        name: _joined([_compared(line, ours) for line in _first(lines, name)]) for name in ASPECTS
    }


def notes(found: Mapping[str, Aspect], *, differences: bool = True) -> str:
    """Say what a reader of a row has to know beside the words, by aspect.

    Args:
        found: Of ``aspects``.
        differences: Whether to name what differs too.
    """

    def wording(one: Aspect) -> str:
        differs = differences and one.how and one.how != NOT_RUN
        return "; ".join(filter(None, (one.text if differs else "", one.note)))

    return "; ".join(f"{name}: {wording(one)}" for name, one in found.items() if wording(one))


@cache
def _lines() -> list[dict[str, Any]]:
    return records(pd.read_csv(FIDELITY, dtype=str, keep_default_na=False))


def _is_about(line: Mapping[str, str], row: Mapping[str, Any]) -> bool:
    return all(
        not line[key] or re.fullmatch(line[key], str(row[key]))
        for key in ("table", "dataset", "model", "optimizer")
    )


def _first(lines: Sequence[Mapping[str, str]], column: str) -> Iterator[Mapping[str, str]]:
    """Of each key of an aspect the first line; what is said of it whole, only where it is first."""
    seen: set[str] = set()
    for line in lines:
        if line["column"] != column or line["key"] in seen:
            continue
        is_whole = not line["key"] and line["status"] != DIFFERS
        if not (is_whole and seen):
            yield line
        seen.add(line["key"])
        if is_whole:
            return


def _facts(recipe: Recipe, shipped: Shipped) -> dict[str, str]:
    neutral = shipped.neutral.get(recipe.optimizer, {})
    method = recipe.methods[recipe.optimizer]
    return {key: plain(value) for key, value in facts_of(recipe, method, neutral).items()}


def _compared(line: Mapping[str, str], ours: Mapping[str, Mapping[str, str]]) -> Aspect:
    """One line beside the values of the recipes, of which the first is what is compared."""
    note = line["note"]
    if line["status"]:
        return (
            Aspect(line["status"], note)
            if line["status"] == DIFFERS
            else _noted(line["status"], note)
        )
    name, paper, released = line["key"].rpartition(".")[2], line["paper"], line["released"]
    values = {experiment: facts.get(line["key"], NONE) for experiment, facts in ours.items()}
    here = next(iter(values.values()))

    def wording(value: str, source: str) -> str:
        other = next((name for name, own in values.items() if own == value != here), None)
        return f"{value} ({source}, experiment={other})" if other else f"{value} ({source})"

    both = [
        wording(value, source)
        for value, source in ((paper, "paper"), (released, "released file"))
        if value
    ]
    stated = f"{name} {', '.join(both)}" if paper != released or here != released else ""
    if here == paper:
        return _noted(AS_PUBLISHED, stated if released else "", note)
    if here == released:
        return _noted(AS_RELEASED, stated if paper else "", note)
    return Aspect(DIFFERS, f"{here} here, {stated}", note)


def _noted(word: str, *notes: str) -> Aspect:
    return Aspect(word, note="; ".join(filter(None, notes)))


def _joined(parts: Sequence[Aspect]) -> Aspect:
    """One aspect of all its keys: the word that promises least."""
    order = (DIFFERS, UNKNOWN, AS_RELEASED, AS_PUBLISHED)
    words = [part.word for part in parts]
    word = next((one for one in order if one in words), UNKNOWN)
    return Aspect(
        word,
        "; ".join(part.how for part in parts if part.how),
        "; ".join(dict.fromkeys(part.note for part in parts if part.note)),
    )
