"""Tuning: as many trials for every method, over a space of equal width, on validation only.

`python -m experiments tune optimizer=adafisher,adam task=digits` writes the best trial of each pair
to conf/tuned/<task>/<name>.yaml, with the effort behind it as `tuning:`, and all trials to
ledgers/<name>.yaml there. `tuned=w8` keeps both in a folder of that name there, for runs of another
setting (a width, a budget), which ask for `ruleset=tuned tuned=w8`. By default 16 trials: 8 values
evenly spaced over the space, then 8 around the best of them (`two_stages.py`), each with three
seeds and judged by its worst.
Further: `trials=`, `again=true` (as many trials again around the best), `seeds=1000,1001`,
`score=worst|mean` (of the seeds), `choose=metric|loss` (what is judged on validation),
`sampler=grid|full_grid|sobol|tpe`, where full_grid is TRIALS even values, or every combination of
`grid=lr:8,damping:3`; `startup=8` (quasi-random trials before tpe proposes any),
`pruner=none|median|halving`, `passes=2` (then as many trials of weight decay, the rate held, and
of one more that the YAML names for each further pass), `retry=true`, and any override of a run.
`experiment=NAME` tunes what `tune:` of its file says, in its setting (`written.py`).
Trials are runs of a sweep: they resume, they are isolated, and a diverged one is a result.
"""

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.config import commandline, compose, origin, rulesets
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.errors import UserError
from experiments.records.schema import load_runs
from experiments.system.output import say
from experiments.tuning import (
    full_grid,
    ledger,
    optuna_trials,
    rungs,
    space,
    tuned_file,
    two_stages,
    written,
)
from experiments.tuning.options import TuneOptions
from experiments.tuning.space import Point
from experiments.tuning.trial_scores import METRIC, SCORES, Trial, choose, of_runs
from experiments.tuning.trial_sweep import TrialSweep
from experiments.tuning.written import PLAIN, OfMethods

TRIALS_DIR = ".tuning"


@dataclass(frozen=True)
class Tuning:
    """What the trials of one method on one task came to.

    Attributes:
        space: What was searched.
        trials: All of them.
        effort: Of ``ledger.effort``.
    """

    space: space.Space
    trials: list[Trial]
    effort: dict[str, Any]


def tune(
    optimizer: str,
    task: str,
    options: TuneOptions,
    overrides: Sequence[str],
    *,
    tuned: str = rulesets.OWN,
    own: OfMethods = PLAIN,
) -> Path:
    """Run the trials of one method on one task and write the best.

    Args:
        optimizer: Name in conf/optimizer.
        task: Name in conf/task.
        options: What is tried and how.
        overrides: Further overrides, the same for every trial.
        tuned: Name of the setting that its file is for.
        own: What an experiment says of methods one by one.

    Returns:
        The file that was written.

    Raises:
        UserError: As ``search``.
        KeyboardInterrupt: Likewise.
    """
    made = search(optimizer, task, options, overrides, own=own)
    command = tuned_file.command(optimizer, task, options, overrides, tuned=tuned, own=own)
    path, kept = tuned_file.write(
        task,
        optimizer,
        tuned=tuned,
        text=tuned_file.render(command, made.effort, name=optimizer, task=task, space=made.space),
        ledger=ledger.render(command, made.trials, made.effort, space=made.space),
        facts=made.effort,
    )
    warnings = [f"{optimizer} on {task}: {text}" for text in tuned_file.remarks(made.effort)]
    for line in warnings + [kept] * bool(kept):
        say(f"warning: {line}", error=True)
    return path


def search(
    optimizer: str,
    task: str,
    options: TuneOptions,
    overrides: Sequence[str],
    *,
    own: OfMethods = PLAIN,
) -> Tuning:
    """Run the trials of one method on one task.

    Args:
        optimizer: Name in conf/optimizer.
        task: Name in conf/task.
        options: What is tried and how.
        overrides: Further overrides, the same for every trial.
        own: What an experiment says of methods one by one.

    Raises:
        UserError: If the sweep of the trials refuses its input, a seed has results, or no trial has
            a value.
        KeyboardInterrupt: If it was interrupted; asked again, it goes on where it was.
    """
    study = prepared(optimizer, task, options, overrides, own=own)
    trials = _trials(optimizer, study, options)
    effort = ledger.effort(
        study.config,
        trials,
        setting=origin.of(study.config, study.overrides)["setting"],
        space=study.space,
        options=options,
    )
    return Tuning(study.space, trials, effort)


@dataclass(frozen=True)
class Study:
    """What the trials of one method on one task share.

    Attributes:
        overrides: Those of every trial.
        config: What they compose to.
        space: What is searched.
        fixed: What every trial has besides.
    """

    overrides: list[str]
    config: RunConfig
    space: space.Space
    fixed: Point


def prepared(
    optimizer: str,
    task: str,
    options: TuneOptions,
    overrides: Sequence[str],
    *,
    own: OfMethods = PLAIN,
) -> Study:
    """Check all that can be wrong before the first trial; see ``search``."""
    base = commandline.normalise(
        [
            "tracking=none",  # unless somebody asks for it
            *overrides,
            *("ruleset=default", "fail_fast=false", "evaluate_test=false"),
            *(f"optimizer={optimizer}", f"task={task}"),
        ]
    )
    config = compose.composed(base)
    if config.debug is not None:
        raise UserError("Invalid debug: a trial is a whole run. Leave it out.")
    if config.task.arguments.get("validation_fraction") == 0:
        raise UserError(
            "Invalid task.validation_fraction: 0. Must be > 0: tuning never looks at the test set."
        )
    _check_unreported(options.seeds, task, config.runs_dir)
    dimensions = searched(own.searched(config.optimizer), options)
    if options.sampler == full_grid.NAME:
        full_grid.points(dimensions, options.counts)
    if options.sampler == "grid":
        two_stages.check(dimensions, options.trials)
    config = config.having(runs_dir=str(config.runs_dir / TRIALS_DIR))
    return Study(base, config, dimensions, own.fixed(config.optimizer))


def searched(optimizer: MethodSection, options: TuneOptions) -> list[space.Dimension]:
    """List what is searched: the YAML's space, and a further hyperparameter for each further pass.

    Raises:
        UserError: If the space makes no sense.
    """
    if options.sampler == full_grid.NAME:
        return full_grid.searched(optimizer, options.grid)
    own = space.parse(optimizer)
    if options.sampler != "grid":
        return own
    if len(own) > 1:
        described = "; ".join(one.describe() for one in own)
        raise UserError(
            "Invalid sampler: 'grid'. It searches one hyperparameter of search: and, with passes=, "
            f"those of coordinates: one after another; the space is: {described}. Take sampler="
            f"{'|'.join(optuna_trials.SAMPLERS)}."
        )
    return [*own, *space.coordinates(optimizer)[: options.passes - 1]]


def _trials(optimizer: str, study: Study, options: TuneOptions) -> list[Trial]:
    """Evaluate all trials, and show each as soon as it is known."""
    config, dimensions, fixed = study.config, study.space, study.fixed
    facts = [dimension.facts() | {"key": dimension.key} for dimension in dimensions]
    judged = SCORES[options.score] + ("" if options.choose == METRIC else f", {options.choose}")
    about = [facts, options.proposed, options.pruner, judged, *([fixed] if fixed else [])]
    judge = partial(of_runs, score=options.score, choose=options.choose)
    sweep = TrialSweep(config, study.overrides, options.seeds, about=about, judge=judge)
    cuts = rungs.budgets(options.pruner, config.budget)
    name = f"{optimizer} on {config.task.name}"
    shown: set[str] = set()

    def show(trials: Sequence[Trial]) -> None:
        for trial in trials:
            key = json.dumps(trial.point)
            if key not in shown:
                shown.add(key)
                say(ledger.line(trial, name=name))

    def evaluate(points: Sequence[Point]) -> list[Trial]:
        trials = rungs.climb([{**fixed, **point} for point in points], cuts, sweep.evaluate)
        show([trial for trial in trials if trial.status not in optuna_trials.UNFINISHED])
        return trials

    if options.sampler == full_grid.NAME:
        trials = full_grid.complete(sweep.folder, dimensions, options.counts, evaluate)
    elif options.sampler == "grid":
        # A method with nothing more to search gets the trials of that pass around its best rate.
        again = options.again + options.passes - len(dimensions)
        held = {one.key: config.optimizer.arguments[one.key] for one in dimensions}
        trials = two_stages.complete(
            sweep.folder, dimensions, options.trials, evaluate, again=again, held=held
        )
    else:
        plan = optuna_trials.TrialPlan(
            dimensions,
            options.trials,
            options.sampler,
            options.startup,
            batch=_side_by_side(config, study.overrides),
            retry=config.retry,
        )
        found = optuna_trials.complete(sweep.folder, plan, evaluate)
        trials = [replace(one, point={**fixed, **one.point}) for one in found]
        show(trials)  # those of an earlier attempt
    say(f"best: {ledger.line(choose(trials), name=name)}")
    return trials


def _check_unreported(seeds: Sequence[int], task: str, runs_dir: Path) -> None:
    """Refuse to choose by seeds that there are results of."""
    for run in load_runs(runs_dir)[0]:
        seed = run.identity["seed"]
        if run.identity["task"] == task and seed in seeds:
            raise UserError(
                f"Invalid seeds: {seed}. {runs_dir} has a result of {task} with it (run "
                f"{run.run_id}): tune with others, as seeds=2000,2001,2002."
            )


def _side_by_side(config: RunConfig, overrides: Sequence[str]) -> int:
    """Count the runs that the launcher has at once: as many trials are proposed together."""
    typed = dict(item.partition("=")[::2] for item in overrides)
    workers = typed.get("hydra.launcher.n_jobs", "1")
    return max(1, config.jobs, int(workers) if workers.isdecimal() else 1)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that what runs is saved."""
    raise KeyboardInterrupt


def main(words: Sequence[str]) -> int:
    """Tune every pair of the optimizers and tasks that were asked for; returns the exit code."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    asked = list(written.asked(commandline.normalise(list(words))))
    studies = [
        (one, task, optimizer)
        for one in asked
        for task in one.request.task
        for optimizer in one.request.optimizer
    ]
    for one, task, optimizer in studies:  # a mistake in the last one is told before the first
        prepared(optimizer, task, one.request.options, one.overrides, own=one.own)
    for one, task, optimizer in studies:
        options, tuned = one.request.options, one.request.tuned
        path = tune(optimizer, task, options, one.overrides, tuned=tuned, own=one.own)
        say(f"tuned: {path}")
    return 0
