"""Is one method better than another here? `python -m experiments versus optimizer=x against=adamw`.

`task=digits,tinyshakespeare` names the tasks, `trials=16`, `passes=1` and `seeds=1000,1001,1002`
say how both are tuned (as by `tune`; the loser then gets as many trials again), `epochs=` what the
other one trains: its training time is the budget of both. Then both are frozen, and compared at 3,
5, 7 and 10 new seeds until it is decided. It prints one sentence, writes
runs/.versus/<name>/verdict.json, and exits with 0 (better on every task), 1 (not better on one), 3
(undecided) or 2 (refused).
Further: `margin=d`, a difference that would not matter, typed before; `equal_epochs=false`, which
leaves out the runs for as many epochs, of which there is no verdict; `json=true`, or `--json`; and
any override of a run.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.config import arguments, commandline
from experiments.errors import UserError
from experiments.records.strict_json import dumps, loads
from experiments.records.verdict import EXIT_CODES, LOOKS
from experiments.system import output
from experiments.system.output import say
from experiments.tuning import tune
from experiments.tuning.options import TuneOptions, check_overrides
from experiments.tuning.optuna_trials import locked
from experiments.tuning.trial_scores import choose
from experiments.tuning.two_stages import LEAST
from experiments.versus.comparison import SIDES, Comparison, Facts, Question
from experiments.versus.sentence import beside, sentence
from experiments.versus.series import Series

DECIDED_HERE = ("budget", "ruleset", "evaluate_test", "control", "fail_fast")


@dataclass(frozen=True)
class VersusRequest:
    """What is typed."""

    optimizer: str
    against: str
    task: tuple[str, ...]
    trials: int = TuneOptions.trials
    passes: int = TuneOptions.passes
    seeds: tuple[int, ...] = TuneOptions.seeds
    epochs: int | None = None
    margin: float | None = None
    equal_epochs: bool = True
    json: bool = False

    def __post_init__(self) -> None:
        for key in ("optimizer", "against"):
            name = getattr(self, key)
            if "," in name or name == commandline.ALL:
                raise UserError(f"Invalid {key}: {name!r}. Must be one method.")
        (chosen,) = commandline.normalise([f"optimizer={self.against}"])
        object.__setattr__(self, "against", chosen.partition("=")[2])  # the label of what is typed
        if self.optimizer == self.against:
            raise UserError(f"Invalid against: {self.against!r}. Must be another method.")
        if len(set(self.task)) < len(self.task):
            raise UserError(f"Invalid task: {','.join(self.task)!r}. Each may stand there once.")
        if self.margin is not None and not 0 < self.margin < float("inf"):
            raise UserError(f"Invalid margin: {self.margin}. Must be > 0, in units of the metric.")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"Invalid epochs: {self.epochs}. Must be a whole number >= 1.")
        if self.trials < LEAST or self.trials % 2:
            raise UserError(f"Invalid trials: {self.trials}. Must be an even number >= {LEAST}.")
        TuneOptions(passes=self.passes, seeds=self.seeds)

    @property
    def reference(self) -> str:
        """The method whose training time is the budget, which every run must know by its name.

        Raises:
            UserError: If both are typed in place of a name in ``conf/``.
        """
        shipped = commandline.choices("optimizer")
        for name in (self.against, self.optimizer):
            if name in shipped:
                return name
        raise UserError(
            f"Invalid against: {self.against!r}. One of the two must be a name in conf/optimizer: "
            "its training time is the budget of both."
        )

    @property
    def options(self) -> TuneOptions:
        """How both methods are tuned first."""
        return TuneOptions(trials=self.trials, passes=self.passes, seeds=self.seeds)


def main(words: Sequence[str]) -> int:
    """Compare two methods; returns the exit code."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, tune.interrupt)
    request, others = arguments.parse(
        commandline.normalise(list(words)), VersusRequest, further=True
    )
    _check(others)
    with output.aside(active=request.json):
        comparison = answer(request, others)
    facts = comparison.facts
    if request.json:
        say(dumps(facts))
    else:
        say(*beside(facts), f"record: {comparison.path}", facts["sentence"])
    return int(facts["exit_code"])


def answer(request: VersusRequest, overrides: Sequence[str]) -> Comparison:
    """Tune, freeze, and look until every task is decided or has all its seeds.

    Args:
        request: What is asked.
        overrides: Of all runs.
    """
    budget = ["budget=match_seconds", f"budget.match_seconds={request.reference}"]
    budget += [] if request.epochs is None else [f"budget.reference_epochs={request.epochs}"]
    words = (*overrides, *budget)
    question = Question(
        request.optimizer, request.against, request.task, request.options, words, request.margin
    )
    with locked(Comparison(question).folder):
        return _answered(Comparison(question), equal_epochs=request.equal_epochs)


def _answered(comparison: Comparison, *, equal_epochs: bool) -> Comparison:
    """Go on with a comparison from where it is."""
    question = comparison.question
    if not comparison.facts["frozen"]:
        comparison.freeze({task: _tuned(question, task) for task in question.tasks})
        for name in comparison.facts["after"]:
            say(f"void: {name}, as the methods were tuned again")
    series = _series(comparison)
    trained: dict[str, dict[str, list[str]]] = {}
    results: dict[str, Facts] = {}
    for n in LOOKS:
        for task in question.tasks:
            if not results.get(task, {}).get("final"):
                seeds = comparison.facts["seeds"][:n]
                trained[task] = {side: series[task][side].train(seeds) for side in SIDES}
        results = _look(comparison, trained)
        for task, one in results.items():
            say(f"look at n={one['n']}: {task} {one['verdict']}")
        if all(one["final"] for one in results.values()):
            break
    if equal_epochs:
        for task, ids in trained.items():
            seeds = comparison.facts["seeds"][: len(ids["ours"])]
            reference = question.config(task, "ours").budget["match_seconds"]
            side = SIDES[reference == question.optimizer]  # the other one has its epochs
            made = _for_as_many_epochs(comparison, task, side)
            ids[f"{side}_equal_epochs"] = made.train(seeds)
        results = _look(comparison, trained)
    return comparison


def _check(overrides: Sequence[str]) -> None:
    """Refuse what this decides itself."""
    check_overrides(overrides)
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key.partition(".")[0] in DECIDED_HERE:
            raise UserError(
                f"Invalid override: {override}. Both methods get the training time of epochs= of "
                "the one that is against=, with the hyperparameters that are tuned for it."
            )


def _tuned(question: Question, task: str) -> dict[str, Facts]:
    """Tune both methods alike, and the one that loses as long again."""
    found = {
        side: tune.search(name, task, question.options, question.overrides)
        for side, name in question.names.items()
    }
    # Of equals the one that the claim would be against.
    loser = max(reversed(SIDES), key=lambda side: choose(found[side].trials).rank)
    name, more = question.names[loser], replace(question.options, again=True)
    say(f"{name} is behind on validation of {task}: {more.trials} trials again around its best")
    found[loser] = tune.search(name, task, more, question.overrides)
    return {
        side: {"hyperparameters": choose(made.trials).point, "effort": made.effort}
        for side, made in found.items()
    }


def _series(comparison: Comparison) -> dict[str, dict[str, Series]]:
    question, frozen = comparison.question, comparison.facts["frozen"]
    return {
        task: {
            side: Series(
                name, task, question.overrides, frozen[task][side], comparison.folder / task / side
            )
            for side, name in question.names.items()
        }
        for task in question.tasks
    }


def _for_as_many_epochs(comparison: Comparison, task: str, side: str) -> Series:
    """Give a method the epochs of the other one in place of its time."""
    question = comparison.question
    reference = question.config(task, side).budget
    amount = f"epochs={reference['reference_epochs']}"
    if reference.get("reference_steps"):
        amount = f"steps={reference['reference_steps']}"
    others = [one for one in question.overrides if not one.startswith("budget")]
    kind = amount.partition("=")[0]
    return Series(
        question.names[side],
        task,
        [*others, f"budget={kind}", f"budget.{amount}"],
        comparison.facts["frozen"][task][side],
        comparison.folder / task / "equal_epochs",
    )


def _look(comparison: Comparison, trained: Any) -> dict[str, Facts]:
    """Ask what the runs say, and write it into the record."""
    request = {
        "runs_dir": str(comparison.runs_dir),
        "margin": comparison.question.margin,
        "tasks": trained,
    }
    asked = subprocess.run(
        [sys.executable, "-m", "analysis.results.versus"],
        input=dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise UserError("The runs of this comparison could not be looked at; nothing is decided.")
    results: dict[str, Facts] = loads(asked.stdout)
    verdicts = [one["verdict"] for one in results.values()]
    worst = max(verdicts, key=lambda verdict: (EXIT_CODES[verdict] == 1, EXIT_CODES[verdict]))
    comparison.save(results=results, runs=trained)
    comparison.save(exit_code=EXIT_CODES[worst], sentence=sentence(comparison.facts))
    return results
