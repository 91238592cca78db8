"""The tuning behind a group of runs, and whether two groups had the same."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Effort:
    """What was spent on the hyperparameters of a method.

    Attributes:
        ruleset: Where they come from; the effort of two rulesets cannot be compared.
        trials: Settings tried; 0 where they are taken as given, ``None`` where it is not known.
        seeds: Seeds of each trial.
    """

    ruleset: str
    trials: int | None
    seeds: int | None = None

    @property
    def count(self) -> str:
        """The trials alone, as a column has them: ``8``, ``8 x 2 seeds``, ``unknown``."""
        if self.trials is None:
            return "unknown"
        return f"{self.trials}" + (
            f" x {self.seeds} seeds" if self.seeds and self.seeds > 1 else ""
        )

    def __str__(self) -> str:
        """Say it in words: ``tuned, 8 trials``."""
        if self.trials is None:
            return f"{self.ruleset}, trials not known"
        return f"{self.ruleset}, {self.trials} trial{'' if self.trials == 1 else 's'}" + (
            f" of {self.seeds} seeds" if self.seeds and self.seeds > 1 else ""
        )


def effort_of(runs: pd.DataFrame) -> Effort:
    """Read the effort off a group of runs (``ruleset`` and ``tuning``).

    Runs that disagree have an effort that is not known, as have tuned ones without a record of it.
    """
    found = {_effort(ruleset, tuning) for ruleset, tuning in zip(*_columns(runs), strict=True)}
    if len(found) == 1:
        return found.pop()
    return Effort(" and ".join(sorted({effort.ruleset for effort in found})) or "none", None)


def insufficient(winner: Effort, loser: Effort) -> str:
    """Why a method may not be called better, in a few words; empty where it may.

    The loser must have had at least the winner's trials and seeds of each: a method that lost
    though more was tried for it has lost. What a paper gives was tuned by others, nobody knows how.
    """
    if winner == loser and winner.trials is not None:
        return ""
    known = winner.trials is not None and loser.trials is not None
    outside = {winner.ruleset, loser.ruleset} - {"default", "tuned"}
    if known and not outside:
        spent = [(one.trials or 0, one.seeds or 1) for one in (winner, loser)]
        if spent[0][0] == 0 or all(mine <= others for mine, others in zip(*spent, strict=True)):
            return ""
    return f"{winner} against {loser}"


def both(ours: Effort, theirs: Effort) -> str:
    """Say the effort behind two methods that are compared, once where they share it."""
    return str(ours) if ours == theirs else f"{ours}; {theirs}"


def _columns(runs: pd.DataFrame) -> tuple[list[object], list[object]]:
    tuning = list(runs["tuning"]) if "tuning" in runs else [None] * len(runs)
    return list(runs["ruleset"]), tuning


def _effort(ruleset: object, tuning: object) -> Effort:
    if isinstance(tuning, dict):
        return Effort(str(ruleset), _whole(tuning.get("trials")), _whole(tuning.get("seeds")))
    return Effort(str(ruleset), None if ruleset == "tuned" else 0)


def _whole(value: object) -> int | None:
    if isinstance(value, list | tuple):  # seeds may be listed
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
