"""What a trial is, what its runs say of it, and which trial is the best.

A trial is judged by the worst of its seeds on validation, unless their mean is asked for: a value
that one lucky seed carried would be an accident. One that diverges with any seed is behind all that
do not. What is judged is the task's metric, or its loss where that is asked for: a metric that is a
share of a few hundred images ties where the loss does not.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.errors import UserError
from experiments.records.schema import FAULTS, UNFINISHED, Run
from experiments.tuning.space import Point

SCORES = {"worst": "worst seed", "mean": "mean over seeds"}
"""How the seeds of a trial make its score, as it is typed and as records say it."""

METRIC, LOSS = "metric", "loss"
CHOICES = (METRIC, LOSS)
"""What a trial is judged by."""


@dataclass(frozen=True)
class Trial:
    """One point of the space and what validation says of it."""

    point: Point
    status: str  # of its runs, or `never finite`, or `pruned`
    metric: float | None = None  # best validation value over the evaluations, of its seeds together
    loss: float | None = None  # validation loss there, mean over the seeds; for equal metrics
    higher_is_better: bool = True
    measure: str = ""  # name of the metric, or `loss`, without the split
    scores: tuple[float | None, ...] = ()  # of each seed; None where it has none
    steps: int = 0  # most training steps of a run
    stage: str = ""  # what proposed it: `coarse` and `fine` of a grid, or the sampler

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


def check_finished(trials: Sequence[Trial]) -> None:
    """Refuse to go on from trials that were stopped.

    Raises:
        UserError: If one was interrupted on its own; asked again, it goes on.
    """
    left = sum(trial.status in UNFINISHED for trial in trials)
    if left:
        raise UserError(
            f"{left} of {len(trials)} trials were interrupted. The same command goes on."
        )


def of_runs(
    point: Point, runs: Sequence[Run | None], *, score: str = "worst", choose: str = METRIC
) -> Trial:
    """Read a trial off its runs, one a seed; without a value where one of them has none.

    Args:
        point: The hyperparameters.
        runs: Its runs; None where one left no record.
        score: One of ``SCORES``.
        choose: One of ``CHOICES``.

    Returns:
        The trial, with the score of its seeds, or with the end that keeps it from having one.

    Raises:
        UserError: If the runs had no validation split.
    """
    parts = [_of_run(point, run, by_loss=choose == LOSS) for run in runs]
    order = [*UNFINISHED, *FAULTS, "diverged", "never finite", "done"]
    ended = min(parts, key=lambda part: order.index(part.status))
    trial = dataclasses.replace(
        ended,
        metric=None,
        loss=None,
        scores=tuple(part.metric for part in parts),
        steps=max(part.steps for part in parts),
    )
    if ended.status != "done":
        return trial
    metric = max(parts, key=lambda part: part.cost).metric
    if score == "mean":
        metric = statistics.fmean(part.metric for part in parts if part.metric is not None)
    return dataclasses.replace(
        trial,
        metric=metric,
        loss=statistics.fmean(part.loss for part in parts if part.loss is not None),
    )


def _of_run(point: Point, run: Run | None, *, by_loss: bool) -> Trial:
    """Make a trial of one seed."""
    if run is None:
        return Trial(point, "failed")
    if run.identity.get("validation") is False:
        raise UserError(f"{run.identity['task']} has no validation split: nothing to choose by.")
    measure, better = run.identity["metric"], bool(run.identity["higher_is_better"])
    if by_loss:
        measure, better = LOSS, False
    steps = int(run.progress.get("step") or 0)
    valueless = Trial(point, run.status, None, None, better, measure, steps=steps)
    if run.status != "done":
        return valueless
    evaluations = [
        dataclasses.replace(valueless, metric=metric, loss=loss)
        for row in run.rows
        for metric, loss in [(row.get(f"validation_{measure}"), row.get("validation_loss"))]
        if _is_finite(metric) and _is_finite(loss)
    ]
    return (
        choose(evaluations)
        if evaluations
        else dataclasses.replace(valueless, status="never finite")
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
