"""What a folder of runs says in a sentence: who is better, by how much, or that nothing is decided.

Never more than the intervals carry: what ``leader.best`` does not tell apart is not said to differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from analysis.results.groups import rows_of, without_row
from analysis.results.leaders import LeaderComparison, leader_comparisons
from analysis.results.load import Results
from analysis.results.settings import short_budget
from analysis.statistics.compare import BETTER, NO_SPREAD, UNEQUAL, Comparison, by_seed
from analysis.statistics.effort import Effort
from analysis.statistics.leader import Best
from analysis.style import metric_label
from experiments.records import strict_json
from experiments.records.schema import roots
from experiments.records.verdict import FILE, FOLDER
from experiments.system.output import plain_line

_METHODS = ("optimizer", "against")
EACH = 3
"""Up to so many blocks of runs have a sentence each; more are counted first."""

VARIANTS_ONLY = (
    "Nothing is compared: every run here has hyperparameters that somebody typed, and such "
    "variants carry no verdict."
)


@dataclass(frozen=True)
class Answer:
    """What the runs say.

    Attributes:
        sentences: Those to be read first: of ``make versus``, word for word, then of the runs.
        details: By the title of each block its own, where they are so many that ``sentences``
            counts them.
    """

    sentences: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Block:
    """One block: its sentence, the method that is the best, and whether any can be compared."""

    title: str
    sentence: str
    best: str | None = None
    comparable: bool = False


def answer(results: Results) -> Answer:
    """Say what the records under a folder come to, in as few sentences as that takes."""
    contests = {
        contest.title: contest
        for contest in leader_comparisons(results)
        if contest.result == "final"
    }
    members = {str(key): runs for key, runs in results.runs.groupby("group_id")}
    blocks = [
        _block(str(title), rows, contests.get(str(title)), members)
        for title, rows in rows_of(results.groups).groupby("title", sort=False)
    ]
    ambiguous = without_row(results.groups)
    ambiguous = ambiguous[ambiguous["versions"] > 1]
    blocks = [_with_versions(block, ambiguous) for block in blocks]
    versus = versus_sentences(results.runs_dir)
    if not (blocks or versus or results.runs.empty):
        return Answer((VARIANTS_ONLY,))
    if len(blocks) <= EACH:
        return Answer((*versus, *(block.sentence for block in blocks)))
    return Answer((*versus, _counted(blocks)), {block.title: block.sentence for block in blocks})


def _with_versions(block: _Block, ambiguous: pd.DataFrame) -> _Block:
    """Add which methods of a block are left out, as they have run in several versions."""
    names = ambiguous.loc[ambiguous["title"] == block.title, "label"]
    if names.empty:
        return block
    said = f"Left out: {_listed(dict.fromkeys(map(str, names)))}, run in several versions."
    return replace(block, sentence=f"{block.sentence} {said}")


def versus_sentences(runs_dir: Path | None) -> list[str]:
    """Read what ``make versus`` said of comparisons that are not void; what is damaged says none.

    Of several that share a method each says so: one of many is soon decided by chance.

    Args:
        runs_dir: Folder of the run records.
    """
    found: list[tuple[str, set[str]]] = []
    places = roots(runs_dir) if runs_dir else []
    for path in (path for place in places for path in sorted((place / FOLDER).glob(f"*/{FILE}"))):
        try:
            facts = strict_json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(facts, Mapping) and not facts.get("void"):
            text = facts.get("sentence")
            pair = {name for key in _METHODS if isinstance(name := facts.get(key), str)}
            found += [(plain_line(text), pair)] if isinstance(text, str) and text else []
    beside = [sum(bool(pair & other) for _, other in found) for _, pair in found]
    return [
        text
        + f" One of {count} comparisons here that share a method: each errs by itself."
        * (count > 1)
        for (text, _), count in zip(found, beside, strict=True)
    ]


def _counted(blocks: Sequence[_Block]) -> str:
    """Count the blocks by what they come to."""
    best = [f"{block.best} on {block.title}" for block in blocks if block.best]
    undecided = sum(block.comparable and not block.best for block in blocks)
    alone = sum(not block.comparable for block in blocks)
    named = f" ({'; '.join(best)})" if best else ""
    parts = [f"one method is the best in {len(best) or 'none'}{named}"]
    parts += [f"nothing is decided in {undecided or 'none'}"]
    parts += [f"nothing can be compared in {alone}"] * bool(alone)
    return f"Of {len(blocks)} tasks and settings, {', '.join(parts)}."


def _block(
    title: str,
    rows: pd.DataFrame,
    contest: LeaderComparison | None,
    members: Mapping[str, pd.DataFrame],
) -> _Block:
    labels = _listed(dict.fromkeys(map(str, rows["label"])))
    if contest is None:
        return _Block(title, f"On {title}, no run has a result yet ({labels}).")
    best = contest.outcome
    told = _Told(rows, contest, members)
    leader = str(best.leader)
    if not best.against:
        claim = f"nothing can be compared: {told.value(leader, named=True)} alone has a result"
        return _Block(title, told.sentence(title, claim, [leader]))
    rival = told.rival()
    if best.significant:
        said, decided, comparable = told.decided(rival), told.name(leader), True
    elif all(made.n < 2 for made in best.against.values()):
        said, decided, comparable = told.too_few(), None, False
    else:
        said, decided, comparable = told.undecided(rival), None, True
    return _Block(title, told.sentence(title, said, [leader, rival]), decided, comparable)


class _Told:
    """Words for one block of runs of which some have a result."""

    def __init__(
        self, rows: pd.DataFrame, contest: LeaderComparison, members: Mapping[str, pd.DataFrame]
    ) -> None:
        self.rows = rows.set_index("group_id", drop=False)
        self.contest = contest
        self.best: Best = contest.outcome
        first = self.rows.loc[self.best.leader]
        label = metric_label(f"test_{first['metric']}", dict(first["units"]))
        self.metric, _, unit = label.partition(" (")
        self.unit = f" {unit[:-1]}" if unit else ""
        self.higher = bool(first["higher_is_better"])
        self.collapsed = {key: int(members[key]["collapsed"].sum()) for key in contest.names}
        self.budgets = {key: _tuned_for(members[key]) for key in contest.names}
        self.means = {
            key: _mean(by_seed(members[key], contest.result).values()) for key in contest.names
        }

    def name(self, key: str) -> str:
        """Name a method, with its ruleset where there are several."""
        return self.contest.names[key]

    def value(self, key: str, *, named: bool = False) -> str:
        """Write a mean; named: ``adam (test accuracy 98.05 %)``."""
        mean = self.means[key]
        number = "no result" if math.isnan(mean) else f"{mean:.4g}{self.unit}"
        return f"{self.name(key)} ({self.metric} {number})" if named else number

    def rival(self) -> str:
        """Pick who comes next: of those that the leader is not better than, if there are any."""
        against = self.best.against
        open_ones = [key for key, made in against.items() if made.outcome != BETTER]
        sign = -1 if self.higher else 1

        def order(key: str) -> tuple[bool, float]:
            mean = self.means[key]
            return math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean

        return min(open_ones or against, key=order)

    def decided(self, rival: str) -> str:
        """Say that the leader is the best."""
        leader, others = str(self.best.leader), len(self.best.against)
        numbers = f"{self.metric} {self.value(leader)} against {self.value(rival)}"
        gap = f"by {self.gap(self.best.against[rival])}"
        if others == 1:
            return f"{self.name(leader)} is better than {self.name(rival)}: {numbers}, {gap}"
        claim = f"{self.name(leader)} is better than each of {others} others"
        return f"{claim}: {numbers} of {self.name(rival)}, the next, {gap}"

    def too_few(self) -> str:
        """Say that no two methods have two seeds in common."""
        leader, others = str(self.best.leader), self.best.against
        who = f"{self.value(leader, named=True)} and {len(others)} other methods"
        if len(others) == 1:
            (other,) = others
            who = f"{self.value(leader, named=True)} and {self.name(other)} ({self.value(other)})"
        alone = all(made.n == 1 for made in others.values())
        seeds = "one seed in common" if alone else "at most one seed in common"
        return f"nothing can be compared: {who} have {seeds}, and it takes at least two"

    def undecided(self, rival: str) -> str:
        """Say that nobody is the best, and how the first two stand."""
        leader, made = str(self.best.leader), self.best.against[rival]
        methods = f" {len(self.best.against) + 1} methods" if len(self.best.against) > 1 else ""
        lead = f"{self.name(leader)} leads{methods} with {self.metric} {self.value(leader)}"
        if math.isnan(self.means[rival]):
            said = f"{lead}, but {self.name(rival)} has no result"
        elif made.difference is None:
            said = f"{lead}, but {self.name(rival)} has no seed in common with it"
        elif not made.difference:
            both = f"{self.name(leader)} and {self.name(rival)}"
            said = f"{both} are equal in {self.metric}, {self.value(leader)} (n={made.n})"
        elif not made.ahead:  # where one of them has more seeds
            said = f"{lead}, but not over the seeds of {self.name(rival)} (n={made.n})"
        else:
            said = f"{lead}, {self.gap(made, f'ahead of {self.name(rival)}')}"
        parts = [f"nothing is decided: {said}", *self.why(made)]
        better = sum(one.outcome == BETTER for one in self.best.against.values())
        parts += [f"{self.name(leader)} is better than {better} of the others"] * bool(better)
        return "; ".join(parts)

    def gap(self, made: Comparison, what: str = "") -> str:
        """Say by how much the leader is ahead: ``0.28 points (95 % interval 0.1 to 0.46, n=3)``."""
        sign = 1 if self.higher else -1
        unit = " points" if self.unit == " %" else self.unit
        text = f"{sign * (made.difference or 0.0):.3g}{unit}{what and f' {what}'}"
        if made.low is None or made.high is None:
            return f"{text} (n={made.n})"
        low, high = sorted((sign * made.low, sign * made.high))
        return f"{text} ({100 * made.level:g} % interval {low:.3g} to {high:.3g}, n={made.n})"

    def why(self, made: Comparison) -> list[str]:
        """Say what keeps it undecided, and how many seeds such a lead takes."""
        if made.n < 2:
            return []
        if made.outcome == UNEQUAL:
            return [f"{self.unequal(made)}, so that neither is called better"]
        if made.reason:
            return ["equal differences tell no spread" if made.reason == NO_SPREAD else made.reason]
        found = []
        if made.alone is not None and made.alone <= 1 - made.level:
            found.append(f"this does not hold beside {made.family} comparisons")
        if made.seeds:
            found.append(
                f"a lead of this size would be found, in four of five cases, by {made.seeds} or "
                "more, looked at once (by stages: `make versus`)"
            )
        else:
            found.append("no affordable number of seeds would find a lead of this size")
        return found

    def unequal(self, made: Comparison) -> str:
        """Say what is wrong with the effort behind a pair."""
        pair = [self.contest.efforts[key] for key, one in self.best.against.items() if one is made]
        pair.append(self.contest.efforts[str(self.best.leader)])
        if any(effort.trials is None for effort in pair):
            return "it is not known whether they were tuned alike"
        return "they were not tuned alike"

    def sentence(self, title: str, claim: str, pair: Sequence[str]) -> str:
        """Add the budget, where the title does not have it, and the effort of both."""
        budgets = dict.fromkeys(str(self.rows.loc[key, "budget"]) for key in pair)
        shown = [
            short_budget(budget)
            for budget in budgets
            if short_budget(budget) not in title.split(", ") and budget not in title
        ]
        efforts = {
            key: _effort(self.contest.efforts[key]) + self.budgets[key]
            for key in self.contest.names
        }
        if len(set(efforts.values())) == 1:
            who = {1: "", 2: "both "}.get(len(efforts), "all ")
            tuned = f"{who}{efforts[pair[0]]}"
        elif len({efforts[key] for key in pair}) == 1:
            tuned = f"{'both ' * (len(pair) > 1)}{efforts[pair[0]]}"
        else:
            # Not by their names, which have the ruleset where there are several.
            tuned = ", ".join(f"{self.rows['label'][key]!s} {efforts[key]}" for key in pair)
        known = {self.best.leader, *self.best.against}
        gone = [name for key, name in self.contest.names.items() if key not in known]
        parts = [claim, *([f"every run of {_listed(gone)} diverged"] if gone else [])]
        twice = [str(row["label"]) for key, row in self.rows.iterrows() if key not in self.means]
        parts += [f"left out is {_listed(twice)}, with a seed twice"] if twice else []
        parts += [
            f"{self.collapsed[key]} of the runs of {self.name(key)} learned nothing (collapsed)"
            for key in pair
            if self.collapsed[key]
        ]
        parts += [*([f"budget {' against '.join(shown)}"] if shown else []), tuned]
        return f"On {title}, {'; '.join(parts)}."


def _tuned_for(runs: pd.DataFrame) -> str:
    """Say for which budget the hyperparameters of runs were tuned, where theirs is another."""
    tunings = [tuning for tuning in runs["tuning"] if isinstance(tuning, Mapping)]
    budgets = {str(tuning["budget"]) for tuning in tunings if tuning.get("budget")}
    found = [short_budget(budget) for budget in sorted(budgets - set(runs["budget"]))]
    return f" for {' and '.join(found)}" if found else ""


def _effort(effort: Effort) -> str:
    if effort.trials is None:
        return f"with the ruleset {effort.ruleset}, after trials that no record tells"
    if effort.trials == 0:
        by = {"default": "the defaults, which nobody tuned", "paper": "the paper's hyperparameters"}
        return f"with {by.get(effort.ruleset, f'the ruleset {effort.ruleset}')}"
    several = f" of {effort.seeds} seeds" if effort.seeds and effort.seeds > 1 else ""
    pruned = "".join(f" ({text})" for text in effort.pruned)
    return f"tuned with {effort.trials} trial{'s' * (effort.trials > 1)}{several}{pruned}"


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
