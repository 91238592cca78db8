"""What a cell of a table says, and how a table is cut to fit.

A table is a frame with named index and columns. In a *grid* the columns have several levels, of
which the first names a block; its cells are ``Summary``, ``Cell`` or text, and its CSV has one line
a cell. A *flat* table has one level of columns and plain values, and its CSV one line a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

import pandas as pd

from analysis.results.load import NOT_YET, Absent
from analysis.results.settings import is_default
from analysis.statistics.summary import Summary

T = TypeVar("T")
WIDE = 3  # more blocks than this do not fit on a page side by side
MISSING = "missing"
"""Key of ``DataFrame.attrs``: the ``Absent`` that an empty table says in place of its rows."""
NONE_OF_RUNS = "none_of_runs"
"""Key of ``DataFrame.attrs``: the ``Absent`` of a table whose rows show nothing of the runs."""
CSV_ONLY = "csv_only"
"""Key of ``DataFrame.attrs``: columns of a flat table that only its CSV has room for."""

TRIALS = "trials"
"""Name of a level of a grid's rows, and key of ``DataFrame.attrs``: by the title of a block and the
other levels of a row what stands there in the block alone."""


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A value of ``DataFrame.attrs`` that stays: pandas copies them with each row that is read."""

    value: T

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Stay."""
        return self


@dataclass(frozen=True)
class Cell:
    """A cell that is no mean over seeds.

    Attributes:
        text: What it says.
        values: Its numbers in full, for the CSV.
        source: Where they come from (``group_id``, ``run_ids``, ``command``, ...).
        strong: Whether it stands out.
    """

    text: str
    values: Mapping[str, object] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)
    strong: bool = False


def number(value: float) -> str:
    """Write a number with two decimals, of less than 0.1 with three digits, as the form allows.

    Example:
        >>> number(98.125), number(0.05265), number(0.00123), number(1234567.0)
        ('98.12', '0.0527', '1.23e-03', '1.23e+06')
    """
    if value == 0 or 0.1 <= abs(value) < 1e5:
        return f"{value:.2f}"
    return f"{value:#.3g}" if 0.005 <= abs(value) < 0.1 else f"{value:.2e}"


def range_text(low: float | None, high: float | None) -> str:
    """Write both ends of an interval; empty where there is none.

    Example:
        >>> range_text(0.5, 1.25), range_text(None, None)
        ('0.50 to 1.25', '')
    """
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def value_text(cell: Summary) -> str:
    """Write mean and spread, ``98.10 ± 0.31``; empty where no run is in the mean."""
    if cell.mean is None:
        return ""
    if cell.std is None:
        return number(cell.mean)
    spread = "<0.01" if 0 < cell.std < 0.005 and abs(cell.mean) >= 0.1 else number(cell.std)
    return f"{number(cell.mean)} ± {spread}"


def interval_text(cell: Summary) -> str:
    """Write the interval of the mean with its level; empty where n < 2."""
    if cell.low is None or cell.high is None:
        return ""
    return f"{cell.level:.0%} CI {range_text(cell.low, cell.high)}"


def cell_text(cell: object, *, fold: bool = False) -> str:
    """Write any cell: ``98.10 ± 0.31 (n=3)``, or ``diverged 3/3``; nothing for None and NaN.

    Args:
        cell: A ``Summary``, a ``Cell``, a number, or anything that prints itself.
        fold: Give a note of several parts a line of its own.
    """
    if isinstance(cell, Cell):
        return cell.text
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float):
        return number(cell)
    if not isinstance(cell, Summary):
        return str(cell)
    value = value_text(cell)
    separator = "\n" if fold and "," in cell.note else " "
    return f"{value}{separator}({cell.note})" if value else cell.note


def is_strong(cell: object) -> bool:
    """Tell whether a cell is set in bold."""
    return isinstance(cell, Summary | Cell) and cell.strong


def source_of(cell: object) -> Mapping[str, object]:
    """Tell where a cell's number comes from; empty for plain values."""
    return cell.source if isinstance(cell, Summary | Cell) else {}


def is_flat(table: pd.DataFrame) -> bool:
    """Tell whether a table has one line a row in its CSV, and no blocks."""
    return table.columns.nlevels == 1


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the columns of the table that are for its CSV alone."""
    return table.drop(columns=table.attrs.get(CSV_ONLY, []))


def nothing(table: pd.DataFrame) -> str:
    """Return what an empty table says."""
    return str(table.attrs.get(MISSING, NOT_YET))


def absent(table: pd.DataFrame) -> Absent | None:
    """Tell what makes a table show something of the runs, where it shows nothing of them."""
    found = table.attrs.get(MISSING, NOT_YET) if table.empty else table.attrs.get(NONE_OF_RUNS)
    return found if isinstance(found, Absent) else None


def commands(table: pd.DataFrame) -> dict[str, list[str]]:
    """Gather the commands behind a grid's cells, each with the places of its cells in words."""
    found: dict[str, list[str]] = {}
    if is_flat(table):
        return found
    for key, row in table.iterrows():
        for column, cell in row.items():
            command = source_of(cell).get("command")
            if command:
                place = ", ".join([*levels(key), levels(column)[0]])
                places = found.setdefault(str(command), [])
                if place not in places:
                    places.append(place)
    return found


def blocks(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split a grid by the first level of its columns; a flat table is one block without a name.

    A method that has nothing in the default setting of a task keeps one row there, whatever
    rulesets it has elsewhere; otherwise only the rows that have something are kept.
    """
    if is_flat(table):
        yield "", table
        return
    methods = [re.split(r" [(\[]", levels(key)[0])[0] for key in table.index]
    for name in dict.fromkeys(table.columns.get_level_values(0)):
        part = table[[name]]
        there = part.map(lambda cell: isinstance(cell, Summary | Cell)).any(axis=1)
        present = {method for method, kept in zip(methods, there, strict=True) if kept}
        rows = {}
        for key, method, kept in zip(part.index, methods, there, strict=True):
            if kept:
                rows[key] = part.loc[[key]]
            elif method not in present and is_default(str(name)):
                alone = (method, *[""] * (part.index.nlevels - 1))
                rows[alone] = part.loc[[key]].set_axis(
                    pd.MultiIndex.from_tuples([alone], names=part.index.names)
                )
        yield str(name), pd.concat(rows.values())


def with_own_trials(part: pd.DataFrame, title: str) -> pd.DataFrame:
    """Write the trials of a block of ``blocks`` alone where those of all blocks stand."""
    if TRIALS not in part.attrs or part.index.names[-1] != TRIALS:
        return part
    own = part.attrs[TRIALS].value.get(title, {})
    keys = [(*levels(key)[:-1], own.get(levels(key)[:-1], levels(key)[-1])) for key in part.index]
    return part.set_axis(pd.MultiIndex.from_tuples(keys, names=part.index.names))


def without_alike(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Drop the levels of the rows, but the first, that all rows share; they are told beside it.

    Returns:
        The table, and what was dropped: ``ruleset tuned``.
    """
    # A method that has not run there has none of them.
    found = {key: set(table.index.unique(key)) - {""} for key in table.index.names[1:]}
    alike = {key: values.pop() for key, values in found.items() if len(values) == 1}
    return table.droplevel(list(alike)), [f"{key} {value}" for key, value in alike.items()]


def levels(key: object) -> tuple[str, ...]:
    """Take the key of a row or column apart, whether it has one level or several."""
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)


def pages(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a table into the parts that are written below each other."""
    if table.empty:
        return []
    several = not is_flat(table) and table.columns.get_level_values(0).nunique() > WIDE
    return [part for _, part in blocks(table)] if several else [table]


def spans(table: pd.DataFrame, level: int) -> list[tuple[str, int]]:
    """Header cells of one level with their widths; equal neighbours under one parent are joined."""
    found: list[tuple[tuple[str, ...], int]] = []
    for column in table.columns:
        key = levels(column)[: level + 1]
        if found and found[-1][0] == key:
            found[-1] = (key, found[-1][1] + 1)
        else:
            found.append((key, 1))
    return [(key[-1], span) for key, span in found]
