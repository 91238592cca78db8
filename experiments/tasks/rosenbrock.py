r"""Rosenbrock's valley: no data and no noise, one minimum at (1, 1) along a curved narrow valley.

.. math::
    f(x, y) = (1 - x)^2 + 100 (y - x^2)^2, \quad (x, y)_0 = (-1.2, 1).

Reference:
    Rosenbrock, 1960, The Computer Journal 3: An automatic method for finding the greatest or least
    value of a function.
"""

from pathlib import Path

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.objective import Metric, Objective
from experiments.tasks.point import Point
from experiments.tasks.source import Source
from experiments.tasks.task import OWN_ARGUMENTS, Task
from experiments.tasks.tensors import TensorSplit

SOURCE = Source(
    "Rosenbrock's valley, a function of two variables",
    size="nothing to fetch",
    terms="none: it is made up",
    made_up=True,
)
GIVES = OWN_ARGUMENTS
LIKELIHOOD = None
"""Its loss is the negative log of no distribution: nothing can sample labels."""
START, MINIMUM = (-1.2, 1.0), (1.0, 1.0)


def build(*, data_dir: Path, cache_dir: Path, samples: int) -> Task:
    """Build the task.

    Args:
        data_dir: Not used.
        cache_dir: Not used.
        samples: Of an epoch, all alike: with ``batch_size=1`` the steps between evaluations.

    Raises:
        UserError: If ``samples`` is not positive.
    """
    check(data_dir, samples=samples)
    exact = TensorSplit(torch.ones(1, 1), torch.zeros(1, 1))
    return Task(
        name="rosenbrock",
        objective=Objective(
            value,
            [
                Metric("value", higher_is_better=False, terms=value),
                Metric("distance", higher_is_better=False, terms=distance),
            ],
            likelihood=LIKELIHOOD,
        ),
        unit="samples",
        train=TensorSplit(torch.ones(samples, 1), torch.zeros(samples, 1)),
        validation=exact,
        test=exact,
        model_arguments={"make": lambda: Point(START)},
    )


def value(point: Tensor, targets: Tensor) -> Tensor:
    """Evaluate f at points ``[B, 2]``."""
    x, y = point.unbind(1)
    return (1 - x).square() + 100 * (y - x.square()).square()


def distance(point: Tensor, targets: Tensor) -> Tensor:
    """Tell how far points ``[B, 2]`` are from the minimum."""
    return torch.linalg.vector_norm(point - point.new_tensor(MINIMUM), dim=1)


def check(data_dir: Path, *, samples: object = 1) -> None:
    """Raise ``UserError`` if ``samples`` is not positive."""
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise UserError(f"Invalid task.samples: {samples}. Must be a whole number >= 1.")
