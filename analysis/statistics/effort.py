"""The tuning behind a group of runs, and whether two groups had the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

EDGE = "edge"
ONE_SEED = "1 seed"
MARKS = (EDGE, ONE_SEED)
LEGEND = (
    "In the trials behind a number, edge says that the chosen value is the last one that was "
    "tried, so that a better one may lie beyond, and 1 seed that one seed alone chose it."
)


@dataclass(frozen=True)
class Effort:
    """What was spent on the hyperparameters of a method.

    Attributes:
        ruleset: Where they come from; the effort of two rulesets cannot be compared.
        trials: Settings tried that say something of the method: all but those that failed. 0 where
            they are taken as given, ``None`` where it is not known.
        seeds: Seeds of each trial.
        marks: Of ``marks_of``, what makes the choice an accident; no part of how much was spent.
        length: What each trial was trained for, and in which setting, in words; empty: not known,
            or several.
        pruner: What stopped the poorer trials early; empty where each was trained to its end.
    """

    ruleset: str
    trials: int | None
    seeds: int | None = None
    marks: tuple[str, ...] = field(default=(), compare=False)
    length: str = ""
    pruner: str = ""

    @property
    def count(self) -> str:
        """The trials as a column has them: ``16 x 3 seeds``, ``8, edge, 1 seed``, ``unknown``."""
        if self.trials is None:
            return ", ".join(["unknown", *self.marks])
        several = f" x {self.seeds} seeds" if self.seeds and self.seeds > 1 else ""
        return ", ".join([f"{self.trials}{several}", *self.pruned, *self.marks])

    @property
    def pruned(self) -> list[str]:
        """That the poorer trials were stopped early, in words; empty where none was."""
        return [f"pruner {self.pruner}"] if self.pruner else []

    def __str__(self) -> str:
        """Say it in words: ``tuned, 8 trials, edge, 1 seed``."""
        if self.trials is None:
            return ", ".join([self.ruleset, "trials not known", *self.marks])
        trials = f"{self.trials} trial{'' if self.trials == 1 else 's'}"
        several = f" of {self.seeds} seeds" if self.seeds and self.seeds > 1 else ""
        return ", ".join([self.ruleset, f"{trials}{several}", *self.pruned, *self.marks])


def effort_of(runs: pd.DataFrame) -> Effort:
    """Read the effort off a group of runs (``ruleset`` and ``tuning``).

    Runs that disagree have an effort that is not known, as have tuned ones without a record of it,
    or with a value that was typed over the one that was chosen.
    """
    rulesets, tunings = _columns(runs)
    whole = {_effort(ruleset, tuning) for ruleset, tuning in zip(rulesets, tunings, strict=True)}
    found = {replace(effort, length="") for effort in whole}
    lengths = {effort.length for effort in whole}
    rulesets_text = " and ".join(sorted({effort.ruleset for effort in found})) or "none"
    effort = found.pop() if len(found) == 1 else Effort(rulesets_text, None)
    marks = {mark for tuning in tunings for mark in marks_of(tuning)}
    marked = tuple(mark for mark in MARKS if mark in marks)
    return replace(effort, marks=marked, length=lengths.pop() if len(lengths) == 1 else "")


def marks_of(tuning: object) -> list[str]:
    """List what is to be known of a tuning beside every number that was made with it.

    Args:
        tuning: The effort as a run records it; anything else has no marks.

    Returns:
        ``edge`` where a chosen value is the last one that was tried, so that a better one may lie
        beyond; ``1 seed`` where every trial was judged by one seed alone.
    """
    if not isinstance(tuning, Mapping):
        return []
    found = {EDGE: bool(tuning.get("on_edge")), ONE_SEED: _whole(tuning.get("seeds")) == 1}
    return [mark for mark in MARKS if found[mark]]


def telling_trials(tuning: Mapping[str, object]) -> int | None:
    """Count the trials that say something of the method: those that failed say nothing.

    Args:
        tuning: The effort as a run records it.

    Returns:
        Their number; None where the record has none.

    Example:
        >>> telling_trials({"trials": 16, "completed": 10, "diverged": 2, "failed": 4})
        12
    """
    trials = _whole(tuning.get("trials"))
    return None if trials is None else trials - (_whole(tuning.get("failed")) or 0)


def pruner_of(tuning: Mapping[str, object]) -> str:
    """Name what stopped the poorer trials early; empty where each was trained to its end.

    Args:
        tuning: The effort as a run records it.
    """
    pruner = tuning.get("pruner")
    return "" if pruner in (None, "none") else str(pruner)


def over_blocks(efforts: Mapping[str, Effort]) -> str:
    """Write the trials of a method over several blocks of runs in one text.

    Args:
        efforts: By the title of the block.

    Example:
        >>> one, two = Effort("tuned", 8, 1, ("1 seed",)), Effort("tuned", 8, 1, ("edge", "1 seed"))
        >>> over_blocks({"digits": one, "ptb": two})
        '8, edge on ptb, 1 seed'
        >>> over_blocks({"digits": one, "ptb": Effort("tuned", 16, 3)})
        '8, 1 seed on digits; 16 x 3 seeds on ptb'
    """
    titles: dict[str, list[str]] = {}
    for title, effort in efforts.items():
        titles.setdefault(effort.count, []).append(title)
    if len(titles) == 1:
        return next(iter(titles))
    counts = {replace(effort, marks=()).count for effort in efforts.values()}
    if len(counts) > 1:
        return "; ".join(f"{count} on {', '.join(there)}" for count, there in titles.items())
    counted = [counts.pop()]
    for mark in MARKS:
        there = [title for title, effort in efforts.items() if mark in effort.marks]
        if there:
            counted.append(mark if len(there) == len(efforts) else f"{mark} on {', '.join(there)}")
    return ", ".join(counted)


def insufficient(winner: Effort, loser: Effort) -> str:
    """Say why a method may not be called better, in a few words; empty where it may.

    The loser must have had at least the winner's trials and seeds of each, each as long, by the
    same pruner and in the same setting: a method that lost though more was tried for it has lost.
    What a paper gives was tuned by others, nobody knows how.
    """
    if winner == loser and winner.trials is not None:
        return ""
    if winner.length and loser.length and winner.length != loser.length:
        return f"trials of {winner.length} against {loser.length}"
    known = winner.trials is not None and loser.trials is not None
    outside = {winner.ruleset, loser.ruleset} - {"default", "tuned"}
    if known and not outside:
        spent = [(one.trials or 0, one.seeds or 1) for one in (winner, loser)]
        as_many = all(mine <= others for mine, others in zip(*spent, strict=True))
        if spent[0][0] == 0 or (as_many and winner.pruner == loser.pruner):
            return ""
    return " against ".join(str(replace(effort, marks=())) for effort in (winner, loser))


def both(ours: Effort, theirs: Effort) -> str:
    """Say the effort behind two methods that are compared, once where they share it."""
    return str(ours) if str(ours) == str(theirs) else f"{ours}; {theirs}"


def _columns(runs: pd.DataFrame) -> tuple[list[object], list[object]]:
    nothing = [None] * len(runs)
    tunings = list(runs["tuning"]) if "tuning" in runs else nothing
    origins = list(runs["origin"]) if "origin" in runs else nothing
    return list(runs["ruleset"]), [
        None if _is_typed_over(tuning, origin) else tuning
        for tuning, origin in zip(tunings, origins, strict=True)
    ]


def _is_typed_over(tuning: object, origin: object) -> bool:
    """Tell whether a value was typed over one that the tuning chose: it is none of its trials."""
    if not isinstance(tuning, dict) or not isinstance(origin, dict):
        return False
    return not (origin.get("typed") or {}).keys().isdisjoint(tuning.get("chosen") or {})


def _effort(ruleset: object, tuning: object) -> Effort:
    if isinstance(tuning, dict):
        numbers = telling_trials(tuning), _whole(tuning.get("seeds"))
        return Effort(str(ruleset), *numbers, length=_length(tuning), pruner=pruner_of(tuning))
    return Effort(str(ruleset), None if ruleset == "tuned" else 0)


def _length(tuning: Mapping[str, object]) -> str:
    setting = tuning.get("setting")
    changed = setting.items() if isinstance(setting, Mapping) else ()
    apart = [f"{key}={value}" for key, value in changed if key.partition(".")[0] != "budget"]
    return ", ".join([str(tuning.get("budget") or ""), *apart])


def _whole(value: object) -> int | None:
    if isinstance(value, list | tuple):  # seeds may be listed
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
