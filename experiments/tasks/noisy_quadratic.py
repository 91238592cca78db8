r"""A quadratic with a given spectrum and noisy gradients, for which the course of SGD is known.

With eigenvalues h_i = condition^{-(i - 1) / (d - 1)}, from 1 down to 1 / condition, and noise of a
sample :math:`\epsilon_i \sim N(0, \sigma^2 h_i)`,

.. math::
    L(\theta) = \tfrac12 \sum_i h_i \theta_i^2, \quad
    \ell(\theta; \epsilon) = L(\theta) - \epsilon^T \theta, \quad \theta_0 = (1, ..., 1).

Under SGD with the rate :math:`\alpha` and batches of B, and so in the end,

.. math::
    E\theta_i^2 \leftarrow (1 - \alpha h_i)^2 E\theta_i^2 + \alpha^2 \sigma^2 h_i / B, \quad
    L = \tfrac12 \sum_i \alpha \sigma^2 h_i / (B (2 - \alpha h_i)).

Reference:
    Zhang et al., 2019, arXiv 1907.04164, section 3: the noisy quadratic model.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.tasks.objective import Metric, Objective
from experiments.tasks.point import Point
from experiments.tasks.source import Source
from experiments.tasks.task import OWN_ARGUMENTS, Split, Task
from experiments.tasks.tensors import TensorSplit

SOURCE = Source(
    "A noisy quadratic, whose optimum and whose course under SGD are known",
    size="nothing to fetch",
    terms="none: it is made up",
    made_up=True,
)
GIVES = OWN_ARGUMENTS
LIKELIHOOD = None
"""Its loss is the negative log of no distribution: nothing can sample labels."""


class Noise(Split):
    """Samples that differ in the noise of their gradient alone, which is drawn anew each epoch.

    Args:
        count: Samples of an epoch.
        deviations: Standard deviation of the noise of each coordinate, ``[d]``.
    """

    def __init__(self, count: int, deviations: Tensor) -> None:
        self._count, self._deviations = count, deviations

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._count

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ones ``[B, 1]`` and noise ``[B, d]``; without a seed there is no noise."""
        generator = torch.Generator().manual_seed(seed or 0)
        shape = (self._count, len(self._deviations))
        drawn = torch.randn(shape, generator=generator) if seed is not None else torch.zeros(shape)
        for index in self._index_batches(batch_size, start, None):
            yield torch.ones(len(index), 1), drawn[index] * self._deviations


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    dimensions: int,
    condition: float,
    noise: float,
    samples: int,
) -> Task:
    r"""Build the task.

    Args:
        data_dir: Not used.
        cache_dir: Not used.
        dimensions: Coordinates; d.
        condition: Ratio of the largest to the smallest eigenvalue.
        noise: Standard deviation of a sample's gradient noise at the eigenvalue 1; sigma.
        samples: Samples of an epoch.

    Raises:
        UserError: If a value is out of range.
    """
    check(data_dir, dimensions=dimensions, condition=condition, noise=noise, samples=samples)
    h = spectrum(dimensions, condition)

    def loss(theta: Tensor, drawn: Tensor) -> Tensor:
        return (0.5 * h.to(theta) * theta.square() - drawn * theta).sum(1)

    def excess(theta: Tensor, drawn: Tensor) -> Tensor:
        return (0.5 * h.to(theta) * theta.square()).sum(1)

    exact = TensorSplit(torch.ones(1, 1), torch.zeros(1, dimensions))
    return Task(
        name="noisy_quadratic",
        objective=Objective(
            loss,
            [Metric("excess_loss", higher_is_better=False, terms=excess)],
            likelihood=LIKELIHOOD,
        ),
        unit="samples",
        train=Noise(samples, noise * h.sqrt()),
        validation=exact,
        test=exact,
        model_arguments={"make": lambda: Point([1.0] * dimensions)},
    )


def spectrum(dimensions: int, condition: float) -> Tensor:
    """Give the eigenvalues of the loss, ``[d]``, evenly in their logarithms.

    Example:
        >>> spectrum(3, 100.0)
        tensor([1.0000, 0.1000, 0.0100])
    """
    exponents = torch.linspace(0, -1, dimensions, dtype=torch.float64)
    return (condition**exponents).float()


def check(data_dir: Path, **values: object) -> None:
    """Raise ``UserError`` if a value that is given is out of range; arguments as in ``build``."""
    for key, least in (("dimensions", 1), ("samples", 1), ("condition", 1), ("noise", 0)):
        value = values.get(key, 1)
        is_whole = key in ("dimensions", "samples")
        kind = int if is_whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < 1e12:
            wanted = "a whole number" if is_whole else "a number"
            raise UserError(f"Invalid task.{key}: {value}. Must be {wanted} >= {least}.")
