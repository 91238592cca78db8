"""What a task minimises and what it is measured by: sums and counts, so that batches do not matter.

``outputs`` are what a model gives for a batch, not below float32, ``targets`` what a split gives
beside the inputs: tensors, or structures of them (``experiments/tasks/batches.py``).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.errors import UserError
from experiments.likelihood import LOGITS, Likelihood
from experiments.tasks.batches import rows

IGNORE = -100
"""Target of a padded row: neither the loss nor a metric counts it."""
LOSS = "loss"

Terms = Callable[[Any, Any], Tensor]
Sums = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Metric:
    """A number that tells how good a model is.

    Attributes:
        name: As in the columns of a record, behind the split: ``accuracy_percent``.
        higher_is_better: Its direction.
        unit: What it is counted in, as ``%``; empty for a plain number.
        terms: ``(outputs, targets) -> Tensor`` of any shape: their sum over a split, divided by
            how many terms the loss has there, is the metric. Or a pair of such tensors: then it is
            divided by the sum of the second. None: its objective knows.
        of_mean: What is made of that quotient, as ``math.sqrt`` of a mean squared error.
    """

    name: str
    higher_is_better: bool
    unit: str = ""
    terms: Callable[[Any, Any], Tensor | tuple[Tensor, Tensor]] | None = None
    of_mean: Callable[[float], float] = float


class Objective:
    """A loss and the metrics beside it.

    Args:
        loss: ``(outputs, targets) -> Tensor`` of any shape. Training minimises its sum over a batch
            divided by ``count``.
        metrics: What an evaluation measures besides the loss; by the first the task is judged.
        count: How many terms a batch has, from its targets; its rows by default.
        likelihood: What the loss is the negative log of, term by term and up to a constant; None:
            of nothing, and methods that sample labels are refused.
        predicted: ``(outputs, targets) -> Tensor``, the rows that the likelihood is of: for logits
            ``[rows, classes]``, else ``[rows, ...]``. By default the outputs as they are.
        loss_unit: What the loss is counted in.

    Raises:
        UserError: If there is no metric, or two have one name.
    """

    def __init__(
        self,
        loss: Terms,
        metrics: Sequence[Metric],
        *,
        count: Callable[[Any], int] = rows,
        likelihood: Likelihood | None = None,
        predicted: Callable[[Any, Any], Tensor] | None = None,
        loss_unit: str = "",
    ) -> None:
        names = [metric.name for metric in metrics]
        if not names:
            raise UserError("Invalid metrics: none. Must be one or more: a task is judged by one.")
        for name in names:
            if name == LOSS or names.count(name) > 1:
                raise UserError(
                    f"Invalid metrics: {', '.join(names)}. Must have names of their own, none of "
                    f"them {LOSS!r}, which is measured anyway."
                )
        self.loss = loss
        self.metrics = tuple(metrics)
        self.count = count
        self.likelihood = likelihood
        self._predicted = predicted
        self.loss_unit = loss_unit
        self.judged_by = self.metrics[0]
        """What a task is judged by."""

    def judging_by(self, name: str) -> Self:
        """Make the same objective, judged by another of its metrics or by the loss.

        Args:
            name: Of a metric, or ``loss``.

        Raises:
            UserError: If there is none of that name.
        """
        known = {metric.name: metric for metric in self.metrics}
        known[LOSS] = Metric(LOSS, higher_is_better=False, unit=self.loss_unit)
        if name not in known:
            raise UserError(f"Invalid judged_by: {name!r}. Must be one of: {', '.join(known)}.")
        made = copy.copy(self)
        made.judged_by = known[name]
        return made

    @property
    def units(self) -> dict[str, str]:
        """What the loss and the metrics are counted in, by name."""
        return {LOSS: self.loss_unit, **{metric.name: metric.unit for metric in self.metrics}}

    def total(self, outputs: Any, targets: Any) -> Tensor:
        """Sum the loss of a batch, for training: a scalar with its graph."""
        return self.loss(outputs, targets).sum()

    def predicted(self, outputs: Any, targets: Any) -> Any:
        """Give the outputs that the likelihood is of, row by row."""
        return outputs if self._predicted is None else self._predicted(outputs, targets)

    def sums(self, outputs: Any, targets: Any) -> dict[str, tuple[float, float]]:
        """Sum up a batch of an evaluation in float64: sum and count of the loss and each metric."""
        count = self.count(targets)
        found = {LOSS: (_sum(self.loss(outputs, targets)), float(count))}
        for metric in self.metrics:
            if metric.terms is not None:
                terms = metric.terms(outputs, targets)
                if isinstance(terms, tuple):
                    found[metric.name] = (_sum(terms[0]), _sum(terms[1]))
                else:
                    found[metric.name] = (_sum(terms), float(count))
        return found

    def measured(self, sums: Sums, facts: Mapping[str, float]) -> dict[str, float]:
        """Turn sums over a whole split into the loss and the metrics.

        Args:
            sums: Those of ``sums``, added up.
            facts: What the split tells of itself; see ``Split.facts``.
        """
        means = {name: _quotient(*pair) for name, pair in sums.items()}
        of_mean = {metric.name: metric.of_mean for metric in self.metrics}
        return {name: of_mean.get(name, float)(mean) for name, mean in means.items()}


class CrossEntropy(Objective):
    """Cross-entropy of rows: logits ``[..., classes]``, targets int64 ``[...]`` with ``IGNORE``.

    Args:
        metrics: What is measured besides.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__(
            _cross_entropies,
            metrics,
            count=lambda targets: int((targets != IGNORE).sum()),
            likelihood=LOGITS,
            loss_unit="nats",
        )

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the loss in one kernel."""
        logits, labels = outputs.flatten(0, -2), targets.flatten()
        return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")

    def predicted(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Leave out the rows that do not count; ``[rows, classes]``."""
        return outputs.flatten(0, -2)[targets.flatten() != IGNORE]


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    logits, labels = outputs.flatten(0, -2), targets.flatten()
    return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")


def _hits_percent(outputs: Tensor, targets: Tensor) -> Tensor:
    """100 for each row whose largest logit is at the target, NaN for one whose largest is none."""
    found = outputs.argmax(-1)
    largest = outputs.gather(-1, found.unsqueeze(-1)).squeeze(-1)
    return torch.where(largest.isnan(), largest, 100.0 * (found == targets))


CLASSIFICATION = CrossEntropy([Metric("accuracy_percent", True, "%", _hits_percent)])
"""Of labelled samples."""


def _sum(terms: Tensor) -> float:
    return terms.cpu().double().sum().item()


def _quotient(total: float, count: float) -> float:
    return total / count if count else float("nan")
