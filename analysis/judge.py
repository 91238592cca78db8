"""The runs as the published rows see them: what counts for a row, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.aggregate import LEVEL, Summary, summarize
from analysis.joining import Key, Near, by_key, complaints, near_runs
from analysis.load import Results
from analysis.published import MEASURES, NAMES, Measure, records
from analysis.recipes import Recipe, recipes
from analysis.statistics.equivalence import FEWEST_SEEDS, HIGHER, LOWER

REPRODUCED, DIFFERS, INCONCLUSIVE = "reproduced", "differs", "inconclusive"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
SEEDS_AT_ONCE = 20
"""A command names no more seeds than this; the verdict is to be asked again after them."""


class Judge:
    """Judges published rows by runs.

    Args:
        results: All runs.
        published: Of ``read_published``.
        conf: Folder of the configuration.
    """

    def __init__(self, results: Results, published: pd.DataFrame, conf: Path) -> None:
        self.runs = results.runs.reset_index(drop=True)
        self.records = records(self.runs)
        self.near: dict[Key, list[Near]] = by_key(near_runs(self.records, published, conf))
        self.recipes = recipes(conf)
        self.published = published
        self.results = results

    @cached_property
    def last(self) -> dict[tuple[str, str], float]:
        """Last measurement of each metric that is read so, by metric and run id."""
        metrics = {measure.metric for measure in MEASURES.values()} - {""}
        return {
            (metric, run_id): float(y[-1])
            for metric in metrics
            for run_id, (_, y) in self.results.series_by_run(metric, "step").items()
        }

    def verdict(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Judge one row; keys are columns of ``verdict.COLUMNS``, what is unknown is left out."""
        measure, recipe = MEASURES[row["metric"]], self._recipe(row)
        command = recipe.command(row, _seeds(recipe)) if recipe else ""
        line: dict[str, Any] = {
            **{key: row[key] for key in NAMES},
            **{f"published_{key}": row[key] for key in ("mean", "std", "n")},
            **{"unit": measure.unit, "margin": measure.margin, "level": LEVEL, "n": 0},
            **{"note": "", "run_ids": "", "command": command},
        }
        if recipe is None:
            return line | _outcome(NOT_COMPARABLE, _uncovered(row))
        runs, why, shown = self._counting(row, recipe)
        if runs is None:
            line["run_ids"] = " ".join(self.runs["run_id"].iloc[shown])
            return line | (_outcome(NOT_COMPARABLE, why) if why else _outcome(NOT_RUN, command))
        summary = self._summary(runs, measure, recipe)
        line |= _ours(summary) | {"run_ids": " ".join(runs["run_id"])}
        if measure.result == "seconds":
            return line | _outcome(NOT_COMPARABLE, f"hardware: {self._scaling(row, summary)}")
        return line | self._judged(row, recipe, runs, measure, summary)

    def beside(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Summarize the configurations that differ from the row in their update rule alone."""
        measure, recipe = MEASURES[row["metric"]], self._recipe(row)
        if recipe is None:
            return []
        near = (one for one in self.near.get(_key(row), []) if one.other_rule_alone)
        groups = [self.runs.iloc[places] for places in self._by_group(near)]
        return [
            {
                **{key: row[key] for key in NAMES},
                "rule": runs["optimizer"].iloc[0],
                "protocol": ", ".join(complaints(self.records[runs.index[0]], recipe)),
                **_ours(self._summary(runs, measure, recipe)),
                "level": LEVEL,
                "run_ids": " ".join(runs["run_id"]),
            }
            for runs in groups
        ]

    def _by_group(self, near: Iterable[Near]) -> list[list[int]]:
        """Places of the runs of each configuration."""
        grouped: dict[str, list[int]] = {}
        for one in near:
            grouped.setdefault(self.records[one.index]["group_id"], []).append(one.index)
        return list(grouped.values())

    def _recipe(self, row: Mapping[str, Any]) -> Recipe | None:
        return next((one for one in self.recipes if one.covers(row)), None)

    def _counting(
        self, row: Mapping[str, Any], recipe: Recipe
    ) -> tuple[pd.DataFrame | None, str, list[int]]:
        """The configuration that counts; if none does, why those near do not, and their places."""
        near = [one for one in self.near.get(_key(row), []) if not one.other_rule]
        if not near:
            return None, "", []
        follow: list[list[int]] = []
        refused: dict[str, list[int]] = {}
        for places in self._by_group(one for one in near if not one.differs):
            run = self.records[places[0]]
            wrong = complaints(run, recipe)
            if not wrong:
                follow.append(places)
                continue
            # Two models of one published name: the wrong one is more than another protocol.
            other = run["model"] != recipe.model
            why = f"model: {run['model']}" if other else f"protocol: {', '.join(wrong)}"
            refused.setdefault(why, []).extend(places)
        if len(follow) == 1:
            return self.runs.iloc[follow[0]], "", []
        if follow:  # they differ in what a record's identity does not show: none is preferred
            why = f"protocol: {len(follow)} configurations claim this row"
            return None, why, [place for places in follow for place in places]
        for one in near:
            if one.differs:
                refused.setdefault(", ".join(one.differs), []).append(one.index)
        why = min(refused, key=lambda text: (text.count(","), text))
        return None, why, refused[why]

    def _judged(
        self,
        row: Mapping[str, Any],
        recipe: Recipe,
        runs: pd.DataFrame,
        measure: Measure,
        summary: Summary,
    ) -> dict[str, Any]:
        if summary.diverged == len(runs) >= FEWEST_SEEDS:
            worse = LOWER if bool(runs["higher_is_better"].iloc[0]) else HIGHER
            return _outcome(DIFFERS, worse) | {"more_seeds": 0, "command": ""}
        done = runs[runs["status"] == "done"]
        made = measure.compare(self._values(done, measure), row)
        line: dict[str, Any] = {
            "difference": made.difference,
            "difference_low": made.low,
            "difference_high": made.high,
        }
        # A decision over the seeds that happened to end well is none.
        if made.more_seeds == 0 and not (summary.diverged or summary.not_finite):
            decided = (
                (DIFFERS, made.outcome) if made.outcome in (HIGHER, LOWER) else (REPRODUCED, "")
            )
            return line | _outcome(*decided) | {"more_seeds": 0, "command": ""}
        more = None if made.more_seeds is None else max(1, made.more_seeds)
        line |= {"more_seeds": more, "command": ""}
        if more is not None:
            taken, named = set(runs["seed"]), min(more, SEEDS_AT_ONCE)
            fresh = [seed for seed in range(len(taken) + named) if seed not in taken]
            line["command"] = recipe.command(row, fresh[:named])
        return line | _outcome(INCONCLUSIVE, _more_seeds(more))

    def _summary(self, runs: pd.DataFrame, measure: Measure, recipe: Recipe) -> Summary:
        values = runs.assign(ours=self._values(runs, measure))
        return summarize(values, "ours", expected=len(recipe.seeds))

    def _values(self, runs: pd.DataFrame, measure: Measure) -> list[float]:
        if measure.result == "last":
            return [self.last.get((measure.metric, run_id), math.nan) for run_id in runs["run_id"]]
        if measure.result == "seconds":
            epochs = pd.to_numeric(runs["final_epoch"])
            return list(pd.to_numeric(runs["train_seconds"]) / epochs.where(epochs > 0))
        return list(pd.to_numeric(runs[measure.result]))

    def _scaling(self, row: Mapping[str, Any], summary: Summary) -> str:
        """Speed relative to one process, there and here: the ratio alone can be compared."""
        for base in records(self.published):
            alike = all(base[key] == row[key] for key in NAMES if key != "setting")
            recipe = self._recipe(base) if alike and base["setting"] == "1_gpu" else None
            if recipe is None or row["setting"] == base["setting"]:
                continue
            runs, _, _ = self._counting(base, recipe)
            one = None if runs is None else self._summary(runs, MEASURES[row["metric"]], recipe)
            if one and one.mean and summary.mean:
                there, here = base["mean"] / row["mean"], one.mean / summary.mean
                return f"{there:.2f} times the speed of one process there, {here:.2f} here"
        return "seconds of another machine"


def _key(row: Mapping[str, Any]) -> Key:
    return (row["dataset"], row["model"], row["optimizer"], row["setting"])


def _outcome(outcome: str, detail: str) -> dict[str, Any]:
    return {"outcome": outcome, "verdict": f"{outcome} ({detail})" if detail else outcome}


def _uncovered(row: Mapping[str, Any]) -> str:
    if row["setting"] == "literature":
        return "protocol: a number of the literature"
    return f"model: no experiment trains the published {row['model']} from such weights"


def _seeds(recipe: Recipe) -> list[int]:
    """Seeds to name in a command: none where the experiment has enough for a verdict."""
    own = list(recipe.seeds)
    if len(own) >= FEWEST_SEEDS:
        return []
    fresh = [seed for seed in range(FEWEST_SEEDS + len(own)) if seed not in own]
    return own + fresh[: FEWEST_SEEDS - len(own)]


def _more_seeds(more: int | None) -> str:
    if more is None:
        return "more than 1000 more seeds"
    return f"{more} more seed{'' if more == 1 else 's'}"


def _ours(summary: Summary) -> dict[str, Any]:
    numbers = {key: getattr(summary, key) for key in ("mean", "std", "low", "high")}
    return {**numbers, "n": summary.n, "note": summary.note}
