"""What a trial is, what its runs say of it, and which trial is the best."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.record import FAULTS, Run
from experiments.tuning.space import Point

UNFINISHED = ("interrupted", "running")


@dataclass(frozen=True)
class Trial:
    """One point of the space and what validation says of it."""

    point: Point
    status: str  # of its runs, or `never finite`, or `pruned`
    metric: float | None = None  # best validation value over the evaluations, mean over the seeds
    loss: float | None = None  # validation loss there; decides between equal metrics
    higher_is_better: bool = True
    measure: str = ""  # name of the metric, without the split

    @property
    def cost(self) -> float:
        """The metric, negative where more is better; infinite without a value."""
        if self.metric is None:
            return math.inf
        return -self.metric if self.higher_is_better else self.metric

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: by the metric, then by the loss."""
        return self.cost, math.inf if self.loss is None else self.loss


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the best trial by metric, then by loss; the earliest of equals.

    Raises:
        UserError: If no trial has a value.
    """
    scored = [trial for trial in trials if trial.metric is not None]
    if not scored:
        raise UserError("No trial has a finite validation metric: there is nothing to choose from.")
    return min(scored, key=lambda trial: trial.rank)


def of_runs(point: Point, runs: Sequence[Run | None]) -> Trial:
    """Read a trial off its runs, one a seed: a mean where all have a value, else the worst end.

    Args:
        point: The hyperparameters.
        runs: Its runs; None where one left no record.

    Raises:
        UserError: If the runs had no validation split.
    """
    parts = [_of_run(point, run) for run in runs]
    order = [*UNFINISHED, *FAULTS, "diverged", "never finite", "done"]
    worst = min(parts, key=lambda part: order.index(part.status))
    if worst.status != "done":
        return worst
    return dataclasses.replace(
        worst,
        metric=statistics.fmean(part.metric for part in parts if part.metric is not None),
        loss=statistics.fmean(part.loss for part in parts if part.loss is not None),
    )


def _of_run(point: Point, run: Run | None) -> Trial:
    if run is None:
        return Trial(point, "failed")
    if run.identity.get("validation") is False:
        raise UserError(f"{run.identity['task']} has no validation split: nothing to choose by.")
    measure, better = run.identity["metric"], bool(run.identity["higher_is_better"])
    valueless = Trial(point, run.status, None, None, better, measure)
    if run.status != "done":
        return valueless
    key = f"validation_{measure}"
    evaluations = [
        dataclasses.replace(valueless, metric=row[key], loss=row["validation_loss"])
        for row in run.rows
        if math.isfinite(row.get(key, math.nan))
    ]
    return (
        choose(evaluations)
        if evaluations
        else dataclasses.replace(valueless, status="never finite")
    )
