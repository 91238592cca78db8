"""What the best constant prediction gets: where a model ends that learns nothing of its inputs."""

from typing import Any

import torch
from torch import Tensor

from experiments.likelihood import BERNOULLI, CATEGORICAL
from experiments.tasks.objective import IGNORE, LOSS, Objective
from experiments.tasks.task import Split, Task

CELLS = 20_000_000
"""Logits that are looked at together."""
_OF_ANOTHER_SHAPE = (RuntimeError, IndexError, TypeError, ValueError, AttributeError)
"""What a loss or metric of one's own may raise here, of whose outputs nothing is known."""


@torch.no_grad()
def constant_prediction(task: Task, split: Split | None) -> dict[str, float] | None:
    """Measure the output that fits the training targets best, the same for every input.

    It is that of the largest likelihood. Of classes: their shares, each counted once more than it
    is there, so that the most frequent one is predicted, and of text it is the unigram model. Of a
    squared error: the mean, as the mean image. Of binary answers: the share of each.

    Args:
        task: Any.
        split: One of its, on which it is measured.

    Returns:
        The loss and the metrics, by name; None where there is no split, its targets are not in
        memory, or the loss is the negative log of nothing.
    """
    kind = task.objective.likelihood
    if kind is None or split is None:
        return None
    seen, asked = task.train.known_targets, split.known_targets
    if seen is None or asked is None:
        return None
    seen, asked = seen.cpu(), asked.cpu()
    try:
        if kind.name == CATEGORICAL:
            sums = _of_classes(task.objective, seen, asked)
        else:
            mean = seen.double().mean(0).float()
            constant = torch.logit(mean, eps=1e-6) if kind.name == BERNOULLI else mean
            sums = task.objective.sums(constant.expand_as(asked), asked)
        return task.objective.measured(sums, split.facts)
    except _OF_ANOTHER_SHAPE:
        return None


def _of_classes(
    objective: Objective, seen: Tensor, asked: Tensor
) -> dict[str, tuple[float, float]]:
    """Sum up a prediction of classes, each class of the test split once and by its count.

    Args:
        objective: Of logits.
        seen: Training targets, int64 of any shape.
        asked: Those to be predicted.
    """
    counts = torch.bincount(seen[seen != IGNORE], minlength=int(asked.max()) + 1) + 1
    logits = counts.float().log()
    classes, times = asked[asked != IGNORE].unique(return_counts=True)
    total = float(objective.count(asked))
    terms: dict[str, Any] = {LOSS: objective.loss}
    terms |= {one.name: one.terms for one in objective.metrics if one.terms is not None}
    sums = dict.fromkeys(terms, 0.0)
    step = max(1, CELLS // len(logits))
    for part, weight in zip(classes.split(step), times.split(step), strict=True):
        for name, term in terms.items():
            # One row a class, whose term is that of every sample of it.
            found = term(logits.expand(len(part), -1), part)
            sums[name] += (found.double() * weight).sum().item()
    return {name: (found, total) for name, found in sums.items()}
