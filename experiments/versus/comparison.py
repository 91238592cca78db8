"""The record of a comparison: what is asked, what was frozen, the seeds, and what was seen.

It is named by all that makes it: the two methods in each setting, and how they are tuned. So a
method that is tuned otherwise after a look is in another comparison, with seeds of its own, and the
earlier one is void.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import commandline, compose
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.records.store import write_atomic
from experiments.records.strict_json import dumps, loads
from experiments.records.verdict import FILE, FOLDER, LOOKS, SCHEMA
from experiments.tuning import tune
from experiments.tuning.options import FIRST_SEED, TuneOptions

Facts = dict[str, Any]
SIDES = ("ours", "theirs")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        optimizer: The method, as it is typed.
        against: The one that it is compared with.
        tasks: Where.
        options: How both are tuned.
        overrides: Of all runs, the budget among them.
        margin: A difference that would not matter; None: none was typed.
    """

    optimizer: str
    against: str
    tasks: tuple[str, ...]
    options: TuneOptions
    overrides: tuple[str, ...]
    margin: float | None

    @property
    def names(self) -> dict[str, str]:
        """The two methods, by their sides."""
        return dict(zip(SIDES, (self.optimizer, self.against), strict=True))

    def config(self, task: str, side: str) -> RunConfig:
        """Compose the config of a method on a task, as it is before it is tuned."""
        words = ["ruleset=default", f"optimizer={self.names[side]}", f"task={task}"]
        return compose.composed(commandline.normalise(["tracking=none", *self.overrides, *words]))


class Comparison:
    """A question with its record on the disk, which is written whenever it has changed."""

    def __init__(self, question: Question) -> None:
        """Open the record of a question, or begin it.

        Raises:
            UserError: If the question is not that of the record, or does not compose.
        """
        configs = {
            task: {side: question.config(task, side) for side in SIDES} for task in question.tasks
        }
        settings = {
            task: digest([config.group_id for config in of.values()])
            for task, of in configs.items()
        }
        tunings = {
            task: digest(
                [
                    question.options.facts,
                    [
                        [
                            one.facts() | {"key": one.key}
                            for one in tune.searched(config.optimizer, question.options)
                        ]
                        for config in of.values()
                    ],
                ]
            )
            for task, of in configs.items()
        }
        self.question = question
        self.runs_dir = next(iter(configs.values()))["ours"].runs_dir
        name = "-".join([*map(_plain, question.names.values()), digest([settings, tunings])])
        self.path = next(
            path
            for number in itertools.count(1)
            if not (_read(path := self._place(name, number)) or {}).get("void")
        )
        self.folder = self.path.parent
        begun: Facts = {
            "schema": SCHEMA,
            "optimizer": question.optimizer,
            "against": question.against,
            "tasks": settings,
            "tunings": tunings,
            "options": question.options.facts,
            "overrides": list(question.overrides),
            "margin": question.margin,
            "looks": list(LOOKS),
            "frozen": None,
            "seeds": None,
            "void": None,
            "after": [],
            "beside": [],
            "results": {},
        }
        self.facts = _read(self.path) or begun
        if self.facts["frozen"] and self.facts["margin"] != question.margin:
            raise UserError(
                f"Invalid margin: {_typed(question.margin)}. This comparison was begun with "
                f"{_typed(self.facts['margin'])}, and a margin is typed before the first result."
            )
        self.facts["margin"] = question.margin

    def freeze(self, frozen: Mapping[str, Mapping[str, Facts]]) -> None:
        """Fix both configurations on each task, and the seeds, before the first of them is run.

        Args:
            frozen: By task and side ``hyperparameters``, and the ``effort`` behind them.

        Raises:
            UserError: If there are no seeds left that tell nothing yet.
        """
        after, beside = self._earlier()
        seeds = self._unseen()
        self.facts |= {"frozen": frozen, "seeds": seeds, "after": after, "beside": beside}
        self.save()

    def save(self, **changes: Any) -> None:
        """Write the record."""
        self.facts |= changes
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, (dumps(self.facts, indent=1) + "\n").encode())

    def _place(self, name: str, number: int) -> Path:
        """Give the file of the first, or a later, comparison of a name: a void one stays."""
        return self.runs_dir / FOLDER / (name if number == 1 else f"{name}-{number}") / FILE

    def _unseen(self) -> list[int]:
        """Choose seeds with which neither method has a result on any of the tasks."""
        most = LOOKS[-1]
        names = {
            self.question.config(task, side).optimizer.name
            for task in self.question.tasks
            for side in SIDES
        }
        used = {
            int(run.identity["seed"]) // most
            for run in load_runs(self.runs_dir)[0]
            if run.identity["task"] in self.facts["tasks"] and run.identity["optimizer"] in names
        }
        used |= {int(seed) // most for one in self._others() for seed in one["seeds"] or ()}
        for block in range(FIRST_SEED // most):
            if block not in used:
                return list(range(block * most, (block + 1) * most))
        raise UserError(
            f"{self.runs_dir} has results with seeds all the way to {FIRST_SEED}. Take another "
            "runs_dir."
        )

    def _others(self) -> list[Facts]:
        """Read the other comparisons of the two methods; each has its path."""
        found = []
        for path in sorted(self.folder.parent.glob(f"*/{FILE}")):
            facts = _read(path) if path != self.path else None
            pair = facts and {facts["optimizer"], facts["against"]}
            if facts and pair == {self.question.optimizer, self.question.against}:
                found.append({**facts, "path": path})
        return found

    def _earlier(self) -> tuple[list[str], list[str]]:
        """Void those of the same settings that were begun with another tuning.

        Returns:
            Names of those that are void, also from before, and of those that stand: of other tasks
            besides, with the same tuning where they share one.
        """
        after, beside = [], []
        for one in self._others():
            path = one.pop("path")
            shared = dict(set(one["tasks"].items()) & set(self.facts["tasks"].items()))
            if not (one["frozen"] and shared):
                continue
            theirs, ours = one.get("tunings", {}), self.facts["tunings"]
            if not one["void"] and all(theirs.get(task) == ours[task] for task in shared):
                beside.append(path.parent.name)
                continue
            after.append(path.parent.name)
            if not one["void"]:
                one["void"] = f"the methods were tuned again, for {self.folder.name}"
                write_atomic(path, (dumps(one, indent=1) + "\n").encode())
        return after, beside


def digest(value: Any) -> str:
    """Hash plain values to eight hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: Path) -> Facts | None:
    if not path.exists():
        return None
    try:
        facts = loads(path.read_bytes())
        if facts["schema"] != SCHEMA:
            raise ValueError(f"schema {facts['schema']}, not {SCHEMA}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no record of a comparison ({error}). Move its folder away; the runs stay."
        ) from error
    return dict(facts)


def _plain(name: str) -> str:
    """Make a name of a method one of a folder."""
    return "".join(one if one.isalnum() or one in "_." else "_" for one in name).strip(".")


def _typed(margin: float | None) -> str:
    return "none" if margin is None else f"{margin:g}"
