"""Sums and counts: what an evaluation says does not depend on how a split was cut into batches."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.batches import mapped, rows
from experiments.tasks.objective import Metric, Objective

OUTPUTS = torch.randn(23, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(23, 3, generator=torch.Generator().manual_seed(1))


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets) ** 2


def overlap(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    ours, theirs = outputs > 0, targets > 0
    return ours & theirs, ours | theirs


OBJECTIVE = Objective(
    squares,
    [
        Metric("root_mean_squared_error", False, "kg", squares, of_mean=math.sqrt),
        Metric("intersection_over_union", True, terms=overlap),
    ],
    count=Tensor.numel,
)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 22, 23, 100])
def test_metrics_are_those_of_the_whole_split_for_any_batch_size(batch_size):
    sums: dict[str, tuple[float, float]] = {}
    for outputs, targets in zip(OUTPUTS.split(batch_size), TARGETS.split(batch_size), strict=True):
        for name, pair in OBJECTIVE.sums(outputs, targets).items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + pair[0], before[1] + pair[1])
    ours, theirs = OUTPUTS.double().numpy(), TARGETS.double().numpy()
    squared = np.mean((ours - theirs) ** 2)
    assert OBJECTIVE.measured(sums, {}) == pytest.approx(
        {
            "loss": squared,
            "root_mean_squared_error": np.sqrt(squared),
            "intersection_over_union": np.sum((ours > 0) & (theirs > 0))
            / np.sum((ours > 0) | (theirs > 0)),
        },
        rel=1e-6,
    )


def test_another_metric_or_the_loss_can_judge_and_measures_are_as_before():
    sums = OBJECTIVE.sums(OUTPUTS, TARGETS)
    for name in ("loss", "root_mean_squared_error", "intersection_over_union"):
        other = OBJECTIVE.judging_by(name)
        assert (other.judged_by.name, other.judged_by.higher_is_better) == (
            name,
            name == "intersection_over_union",
        )
        assert other.measured(sums, {}) == OBJECTIVE.measured(sums, {})
        assert other.units == OBJECTIVE.units
    assert OBJECTIVE.judged_by.name == "root_mean_squared_error"
    with pytest.raises(
        UserError, match=r"Invalid judged_by: 'error'\. Must be one of: root_mean_squared_error, "
    ):
        OBJECTIVE.judging_by("error")


def test_the_training_loss_is_the_sum_of_its_terms_over_their_count():
    mean = OBJECTIVE.total(OUTPUTS, TARGETS) / OBJECTIVE.count(TARGETS)
    assert mean.item() == pytest.approx(torch.nn.functional.mse_loss(OUTPUTS, TARGETS).item())


def test_a_metric_of_nothing_is_no_number():
    nothing = torch.zeros(0, 3)
    assert math.isnan(OBJECTIVE.measured(OBJECTIVE.sums(nothing, nothing), {})["loss"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "Invalid metrics: none. Must be one or more: a task is judged by one."),
        (["a", "b", "a"], "Invalid metrics: a, b, a. Must have names of their own"),
        (["loss"], "Invalid metrics: loss. Must have names of their own, none of them 'loss'"),
    ],
)
def test_metrics_that_are_none_are_refused(names, message):
    with pytest.raises(UserError) as error:
        Objective(squares, [Metric(name, False, terms=squares) for name in names])
    assert str(error.value).startswith(message)


def test_a_batch_may_be_a_structure_of_tensors():
    batch = {"views": (torch.ones(4, 2), [torch.zeros(4)]), "note": "kept"}
    assert rows(batch) == 4
    halved = mapped(lambda part: part[:2], batch)
    assert rows(halved) == 2
    assert halved["views"][1][0].shape == (2,)
    assert halved["note"] == "kept"
    assert rows({}) == rows(3) == 0
