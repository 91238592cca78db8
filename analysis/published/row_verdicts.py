"""The runs as the published rows see them: what counts for a row, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.published.counting import Counted, Counting
from analysis.published.numbers import MEASURES, NAMES, Measure, records
from analysis.published.shipped import Recipe, Shipped
from analysis.results.load import Results
from analysis.statistics.equivalence import FEWEST_SEEDS, HIGHER, LOWER
from analysis.statistics.summary import LEVEL, Summary, summarize

REPRODUCED, DIFFERS, INCONCLUSIVE = "reproduced", "differs", "inconclusive"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
SEEDS_AT_ONCE = 20
"""A command names no more seeds than this; the verdict is to be asked again after them."""


class RowVerdicts:
    """Judges published rows by runs.

    Args:
        results: All runs.
        published: Of ``read_published``.
        shipped: What the configuration says of them.
    """

    def __init__(self, results: Results, published: pd.DataFrame, shipped: Shipped) -> None:
        self.runs = results.runs.reset_index(drop=True)
        self.counting = Counting(records(self.runs), published, shipped)
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
        measure, counted = MEASURES[row["metric"]], self.counting.of(row)
        line: dict[str, Any] = {
            **{key: row[key] for key in NAMES},
            **{f"published_{key}": row[key] for key in ("mean", "std", "n")},
            **{"unit": measure.unit, "margin": measure.margin, "level": LEVEL, "n": 0},
            **{"note": "", "run_ids": "", "command": "", "recipe": ""},
        }
        if counted is None:
            return line | _outcome(NOT_COMPARABLE, _uncovered(row))
        command = counted.recipe.command(row, _seeds(counted.recipe))
        line |= {"command": command}
        if not counted.places:
            line["run_ids"] = " ".join(self.runs["run_id"].iloc[list(counted.near)])
            why = counted.why
            return line | (_outcome(NOT_COMPARABLE, why) if why else _outcome(NOT_RUN, command))
        runs = self._runs(counted.places)
        summary = self._summary(runs, measure, counted.recipe)
        line |= _ours(summary) | {"run_ids": " ".join(runs["run_id"]), "recipe": counted.label}
        line["note"] = "; ".join(filter(None, (summary.note, counted.note)))
        if measure.result == "seconds":
            return line | _outcome(NOT_COMPARABLE, f"hardware: {self._scaling(row, summary)}")
        return line | self._judged(row, counted, runs, measure, summary)

    def beside(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Summarize the configurations that differ from the row in their update rule alone."""
        measure = MEASURES[row["metric"]]
        return [
            {
                **{key: row[key] for key in NAMES},
                "rule": runs["optimizer"].iloc[0],
                "protocol": found.text,
                **_ours(self._summary(runs, measure, found.recipe)),
                "level": LEVEL,
                "run_ids": " ".join(runs["run_id"]),
            }
            for found, places in self.counting.beside(row)
            for runs in [self._runs(places)]
        ]

    def _runs(self, places: Sequence[int]) -> pd.DataFrame:
        return self.runs.iloc[list(places)]

    def _judged(
        self,
        row: Mapping[str, Any],
        counted: Counted,
        runs: pd.DataFrame,
        measure: Measure,
        summary: Summary,
    ) -> dict[str, Any]:
        label = f"recipe: {counted.label}" if counted.label else ""
        if summary.diverged == len(runs) >= FEWEST_SEEDS:
            worse = LOWER if bool(runs["higher_is_better"].iloc[0]) else HIGHER
            return _outcome(DIFFERS, worse, label) | {"more_seeds": 0, "command": ""}
        done = runs[runs["status"] == "done"]
        made = measure.compare(self._values(done, measure), row)
        line: dict[str, Any] = {
            "difference": made.difference,
            "difference_low": made.low,
            "difference_high": made.high,
        }
        # A decision over the seeds that ended well is none, and no further seed makes one.
        if lost := summary.diverged + summary.not_finite:
            why = f"{lost} of {len(runs)} without a result"
            return line | _outcome(INCONCLUSIVE, why, label) | {"more_seeds": None, "command": ""}
        if made.more_seeds == 0:
            decided = (
                (DIFFERS, made.outcome) if made.outcome in (HIGHER, LOWER) else (REPRODUCED, "")
            )
            return line | _outcome(*decided, label) | {"more_seeds": 0, "command": ""}
        more = None if made.more_seeds is None else max(1, made.more_seeds)
        line |= {"more_seeds": more, "command": ""}
        if more is not None:
            taken, named = set(runs["seed"]), min(more, SEEDS_AT_ONCE)
            fresh = [seed for seed in range(len(taken) + named) if seed not in taken]
            line["command"] = counted.recipe.command(row, fresh[:named])
        return line | _outcome(INCONCLUSIVE, _more_seeds(more), label)

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
            if not alike or base["setting"] != "1_gpu" or row["setting"] == "1_gpu":
                continue
            counted = self.counting.of(base)
            if counted is None or not counted.places:
                continue
            runs = self._runs(counted.places)
            one = self._summary(runs, MEASURES[row["metric"]], counted.recipe)
            if one.mean and summary.mean:
                there, here = base["mean"] / row["mean"], one.mean / summary.mean
                return f"{there:.2f} times the speed of one process there, {here:.2f} here"
        return "seconds of another machine"


def _outcome(outcome: str, *details: str) -> dict[str, Any]:
    detail = "; ".join(filter(None, details))
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
