"""A study: as many trials as declared, however often it is interrupted.

Optuna keeps the trials in a journal file and, after the quasi-random ones, may propose further
ones. A trial that was asked for and never told, because the process died, is evaluated again under
its number; what an evaluation found is written in one line of the journal before it is told.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from experiments.errors import UserError, one_line
from experiments.records.schema import FAULTS
from experiments.records.store import RunFolder
from experiments.system.output import say
from experiments.tuning import space as spaces
from experiments.tuning.space import Dimension, Point, Space
from experiments.tuning.trial_scores import UNFINISHED, Trial

SAMPLERS = ("sobol", "tpe")
JOURNAL = "journal.log"
_NAME = "tuning"
_OUTCOMES = "outcomes"
_RETRY_OF = "retry_of"

Evaluate = Callable[[Sequence[Point]], Sequence[Trial]]


@dataclass(frozen=True)
class TrialPlan:
    """What is to be tried."""

    space: Space
    trials: int  # all together, those of earlier attempts included
    sampler: str = "sobol"
    startup: int = 8  # quasi-random trials before `tpe` proposes any
    batch: int = 1  # trials that `tpe` proposes at once, to be run side by side
    retry: bool = False  # whether trials that failed are run again


def complete(folder: Path, plan: TrialPlan, evaluate: Evaluate) -> list[Trial]:
    """Evaluate trials until there are as many as planned.

    Args:
        folder: Where the study is kept.
        plan: What is to be tried.
        evaluate: Maps points to trials, in the same order. Interrupted, it is called again with
            the same points, so it should find what it has already done.

    Returns:
        The first ``plan.trials`` trials, in order.

    Raises:
        UserError: If a trial was interrupted on its own; asked again, it goes on.
    """
    with locked(folder), _open(folder) as study:
        if plan.retry:
            _ask_again(study, plan)
        while True:
            _ask(study, plan)
            batch = [
                trial for trial in _slots(study)[: plan.trials] if not trial.state.is_finished()
            ]
            if not batch:
                trials = _slots(study)[: plan.trials]
                return [
                    dataclasses.replace(_told(study, trial, plan.space), stage=_stage(plan, index))
                    for index, trial in enumerate(trials)
                ]
            _evaluate(study, plan, batch, evaluate)


def _evaluate(
    study: optuna.Study, plan: TrialPlan, batch: Sequence[FrozenTrial], evaluate: Evaluate
) -> None:
    found = study.user_attrs.get(_OUTCOMES, {})
    open_ = [trial for trial in batch if str(trial.number) not in found]
    if open_:
        outcomes = evaluate([_point(plan.space, trial) for trial in open_])
        ended = {
            str(trial.number): _kept(outcome)
            for trial, outcome in zip(open_, outcomes, strict=True)
            if outcome.status not in UNFINISHED
        }
        found = found | ended
        study.set_user_attr(_OUTCOMES, found)
    left = [trial for trial in batch if str(trial.number) not in found]
    for trial in batch:
        if trial not in left:
            _tell(study, trial, _told(study, trial, plan.space))
    if left:
        raise UserError(
            f"{len(left)} of {len(batch)} trials were interrupted. The same command goes on."
        )


def _given(plan: TrialPlan) -> int:
    """Count the trials that are quasi-random, and so known in advance."""
    return plan.trials if plan.sampler == "sobol" else min(plan.startup, plan.trials)


def _stage(plan: TrialPlan, index: int) -> str:
    return "sobol" if index < _given(plan) else plan.sampler


def _ask(study: optuna.Study, plan: TrialPlan) -> None:
    """Ask for the trials that can be run now."""
    distributions = {dimension.key: _distribution(dimension) for dimension in plan.space}
    given = _given(plan)
    quasi_random = spaces.points(plan.space, given) if given else []
    slots = _slots(study)
    finished = sum(trial.state.is_finished() for trial in slots)
    wanted = min(plan.trials, max(given, finished + plan.batch))
    for index in range(len(slots), wanted):
        if index < given:
            _add(study, quasi_random[index], distributions)
            continue
        # A generator of its own for each proposal: one study is the same in one go or in ten.
        study.sampler = optuna.samplers.TPESampler(seed=index, n_startup_trials=1)
        study.ask(distributions)


def _ask_again(study: optuna.Study, plan: TrialPlan) -> None:
    distributions = {dimension.key: _distribution(dimension) for dimension in plan.space}
    for trial in _slots(study)[: plan.trials]:
        if trial.state.is_finished() and _told(study, trial, plan.space).status in FAULTS:
            first = trial.user_attrs.get(_RETRY_OF, trial.number)
            _add(study, trial.params, distributions, {_RETRY_OF: first})


def _add(
    study: optuna.Study,
    point: Point,
    distributions: dict[str, BaseDistribution],
    notes: dict[str, int] | None = None,
) -> None:
    # One line of the journal, so that no kill leaves a trial without its point.
    study.add_trial(
        create_trial(
            state=TrialState.RUNNING, params=point, distributions=distributions, user_attrs=notes
        )
    )


def _slots(study: optuna.Study) -> list[FrozenTrial]:
    """Put the trials in order, a repeated one in the place of the one it repeats."""
    slots: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.params:  # else the process died while its point was being proposed
            slots[trial.user_attrs.get(_RETRY_OF, trial.number)] = trial
    return list(slots.values())


def _tell(study: optuna.Study, trial: FrozenTrial, outcome: Trial) -> None:
    if outcome.metric is not None and math.isfinite(outcome.cost):
        study.tell(trial.number, outcome.cost)
    # Pruned without a value ranks behind all that have one; a failed trial teaches nothing.
    elif outcome.status in FAULTS:
        study.tell(trial.number, state=TrialState.FAIL)
    else:
        study.tell(trial.number, state=TrialState.PRUNED)


def _told(study: optuna.Study, trial: FrozenTrial, space: Space) -> Trial:
    fields = study.user_attrs[_OUTCOMES][str(trial.number)]
    return Trial(_point(space, trial), **fields | {"scores": tuple(fields["scores"])})


def _kept(outcome: Trial) -> dict[str, object]:
    fields = dataclasses.asdict(outcome)
    del fields["point"]  # Optuna has it
    return fields


def _point(space: Space, trial: FrozenTrial) -> Point:
    return {dimension.key: dimension.rounded(trial.params[dimension.key]) for dimension in space}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the study, so that every trial without an end belongs to a process that is dead."""

    def wait() -> None:
        say(f"another process has the study {folder.name}; waiting")

    with RunFolder(folder.parent, folder.name).lock(on_wait=wait):
        yield


@contextlib.contextmanager
def _open(folder: Path) -> Iterator[optuna.Study]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    # What a kill may leave: Optuna's lock, and half a line, to which Optuna would append.
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield _loaded(path)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _loaded(path: Path) -> optuna.Study:
    """Load a study, or begin it."""
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True)
    except OSError:
        raise
    except Exception as error:  # Optuna raises what it meets: no closed list of types
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {one_line(error)}). Move its folder "
            "away; what its trials have recorded is kept."
        ) from error
