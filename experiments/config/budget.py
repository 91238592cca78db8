"""How long a run trains: the budget of its configuration, and where the run ends by it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.records.calibration import Calibration

KINDS: dict[str, tuple[str, ...]] = {
    "epochs": (),
    "steps": (),
    "train_seconds": (),
    "target": ("max_epochs",),
    "match_seconds": ("reference_epochs", "reference_steps"),
}
"""The kinds by the key that makes them, with the further keys of each."""

COUNTED = ("epochs", "steps", "match_seconds")
"""The kinds that say beforehand how many steps there are."""

TABLE = "by_optimizer"
"""Key of a table of amounts, from which a budget of ``conf/budget/`` takes that of the method."""
CALIBRATION, MEASURED = "calibration", "measured"
"""Keys of a table of steps at equal time: what it is by, and how that was measured."""
CALIBRATED_BY = ("reference", "reference_steps", "date", "machine")
"""Keys of ``CALIBRATION``, the same for all methods of a table."""


SCHEDULE_PER = "schedule_per"
"""Key of a budget at equal time: ``step`` has a schedule that may change once an epoch change at
each step. An epoch is another part of each method's steps, and so would be how far the rate falls.
"""


@dataclass(frozen=True)
class Limits:
    """Where a run ends: at the first of these that it meets.

    Attributes:
        steps: Optimizer steps; None where the clock decides.
        train_seconds: Training time, in seconds.
        target: Value of the task's metric, on validation where there is a validation split.
        given_seconds: The training time that the budget stands for; None where it names none.
    """

    steps: int | None = None
    train_seconds: float | None = None
    target: float | None = None
    given_seconds: float | None = None

    @property
    def horizon(self) -> float:
        """Where the progress of a whole run ends, in steps or in seconds."""
        bound = self.steps if self.train_seconds is None else self.train_seconds
        assert bound is not None  # each kind of budget has one of them
        return bound

    def progress(self, step: int, train_seconds: float) -> float:
        """Tell how far a run is, in the units of ``horizon``."""
        return step if self.train_seconds is None else train_seconds

    def is_met(self, step: int, train_seconds: float) -> bool:
        """Tell whether a run has used up its budget; of the target only an evaluation can tell."""
        return self.progress(step, train_seconds) >= self.horizon


def describe(budget: Mapping[str, Any]) -> str:
    """Put the budget in words, as tables print it; ``analysis.results.groups`` reads them back.

    Example:
        >>> describe({"epochs": 5})
        '5 epochs'
        >>> describe({"train_seconds": 60.0})
        '60 seconds of training'
        >>> describe({"target": 97.5, "max_epochs": 20})
        'until 97.5, at most 20 epochs'
        >>> describe({"match_seconds": "adafisher", "reference_epochs": 200})
        'time of 200 epochs of adafisher'
        >>> told = {"reference": "sgd", "reference_steps": 9, "date": "2026-11-29", "machine": "M1"}
        >>> describe({"steps": 7, "calibration": told})
        'equal time (9 steps of sgd, timed 2026-11-29 on M1)'
    """
    kind = check(budget)
    if by := budget.get(CALIBRATION):
        amount = f"{_counted(by['reference_steps'], 'steps')} of {by['reference']}"
        return f"equal time ({amount}, timed {by['date']} on {by['machine']})"
    if kind == "train_seconds":
        return f"{_plain(budget[kind])} seconds of training"
    if kind == "target":
        bound = _counted(budget["max_epochs"], "epochs")
        return f"until {_plain(budget[kind])}, at most {bound}"
    if kind == "match_seconds":
        steps = budget.get("reference_steps")
        amount = (
            _counted(steps, "steps") if steps else _counted(budget["reference_epochs"], "epochs")
        )
        return f"time of {amount} of {budget[kind]}"
    return _counted(budget[kind], kind)


def check(budget: Mapping[str, Any]) -> str:
    """Tell the kind of a budget.

    Raises:
        UserError: If the kind is unknown, or a value is none that it can have.
    """
    beside = (TABLE, CALIBRATION, MEASURED, SCHEDULE_PER)
    given = {key: value for key, value in budget.items() if key not in beside}
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) != 1 or set(given) - {*kinds, *KINDS[kinds[0]]}:
        raise UserError(f"Invalid budget: {given}. Must be exactly one of: {', '.join(KINDS)}.")
    (kind,) = kinds
    if budget.get(SCHEDULE_PER) not in (None, "step"):
        raise UserError(
            f"Invalid budget.{SCHEDULE_PER}: {budget[SCHEDULE_PER]!r}. Must be 'step', or null for "
            "what the schedule says."
        )
    by = budget.get(CALIBRATION)
    if by is not None and not (isinstance(by, Mapping) and set(by) == set(CALIBRATED_BY)):
        known = ", ".join(CALIBRATED_BY)
        raise UserError(f"Invalid budget.{CALIBRATION}: {by}. Must have {known}.")
    if kind == "train_seconds":
        if not _is_number(given[kind]) or given[kind] <= 0:
            raise UserError(f"Invalid budget.{kind}: {given[kind]}. Must be a number > 0.")
    elif kind == "target":
        if not _is_number(given[kind]):
            raise UserError(f"Invalid budget.{kind}: {given[kind]}. Must be a number.")
        _check_count("max_epochs", given.get("max_epochs"))
    elif kind == "match_seconds":
        if not isinstance(given[kind], str):
            raise UserError(f"Invalid budget.{kind}: {given[kind]}. Must be the name of a method.")
        key = "reference_epochs" if given.get("reference_steps") is None else "reference_steps"
        _check_count(key, given.get(key))
    else:
        _check_count(kind, given[kind])
    return kind


def of_method(budget: Mapping[str, Any], method: str, *, name: str) -> dict[str, Any]:
    """Take the amount of a method from the table of a budget that is one.

    An amount that was typed in its place makes a plain budget of it, but of one at equal time.

    Args:
        budget: The section of the config.
        method: Name of the optimizer.
        name: Name of the budget in ``conf/budget/``.

    Raises:
        UserError: If the table is none or lacks the method, or an amount at equal time is typed.
    """
    table = budget.get(TABLE)
    kind = next((kind for kind in KINDS if kind in budget), None)
    if table is None or kind is None:
        return dict(budget)
    if budget[kind] is not None and CALIBRATION in budget:
        raise UserError(
            f"Invalid budget.{kind}: {budget[kind]}. Must be null with budget={name}, which has "
            f"the {kind} of each method at equal time; of other {kind}: budget={kind}."
        )
    if budget[kind] is not None:
        return {key: value for key, value in budget.items() if key != TABLE}
    if not isinstance(table, Mapping):
        raise UserError(f"Invalid budget.{TABLE}: {table!r}. Must be a mapping, as {{adam: 210}}.")
    if method not in table:
        raise UserError(
            f"Invalid budget: {name!r}. It has no {kind} of {method}, but of {', '.join(table)}."
        )
    return {**budget, kind: table[method]}


def limits(
    budget: Mapping[str, Any], *, steps_per_epoch: int, calibration: "Calibration | None" = None
) -> Limits:
    """Tell where a run of this budget ends.

    Args:
        budget: The section of the config: an amount of one of ``KINDS``, with its further keys.
        steps_per_epoch: Steps in one pass over the training data.
        calibration: What a step costs, for ``match_seconds``.

    Raises:
        UserError: If the budget is none, or a calibration is wanted and not there.
    """
    kind = check(budget)
    if kind == "epochs":
        return Limits(steps=budget[kind] * steps_per_epoch)
    if kind == "steps":
        return Limits(steps=budget[kind])
    if kind == "train_seconds":
        return Limits(train_seconds=budget[kind], given_seconds=budget[kind])
    if kind == "target":
        return Limits(steps=budget["max_epochs"] * steps_per_epoch, target=budget[kind])
    if calibration is None:
        raise UserError("budget=match_seconds: the seconds of a step are not measured.")
    wanted = reference_steps(budget, steps_per_epoch=steps_per_epoch)
    return Limits(
        steps=calibration.steps(wanted), given_seconds=calibration.reference_seconds(wanted)
    )


def schedule_arguments(budget: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of a schedule under a budget, see ``SCHEDULE_PER``.

    Args:
        budget: The section of the config.
        stated: The schedule's own.
    """
    by_steps = budget.get(SCHEDULE_PER) == "step" and stated.get("per") == "epoch"
    return {**stated, "per": "step"} if by_steps else dict(stated)


def reference(budget: Mapping[str, Any]) -> str | None:
    """Name the method whose training time every method gets; None where a budget matches none."""
    return budget.get("match_seconds")


def reference_steps(budget: Mapping[str, Any], *, steps_per_epoch: int) -> int:
    """Count the steps that the reference of a ``match_seconds`` budget takes."""
    steps: int | None = budget.get("reference_steps")
    return budget["reference_epochs"] * steps_per_epoch if steps is None else steps


def _counted(amount: int, unit: str) -> str:
    return f"{amount} {unit if amount > 1 else unit.removesuffix('s')}"


def _plain(value: float) -> str:
    return str(int(value) if float(value).is_integer() else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_count(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"Invalid budget.{key}: {value}. Must be a whole number >= 1.")
