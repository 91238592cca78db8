"""A layer that has curvature, its running factors, and the rows that wait for the next step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafisher.fisher import update_average_
from adafisher.rule import Factors, LayerRule


@dataclass
class Pool:
    """Rows since the gradients were last cleared.

    Attributes:
        activation_sum: Pooled statistic of the layer input, None without rows.
        grad_sum: Pooled statistic of the output gradient, None without rows.
        rows: Rows that the two sums run over.
    """

    activation_sum: Tensor | None = None
    grad_sum: Tensor | None = None
    rows: int = 0

    def add(self, activation_sum: Tensor, grad_sum: Tensor, rows: int) -> None:
        """Add the rows of one call of the layer."""
        if self.activation_sum is None or self.grad_sum is None:
            self.activation_sum, self.grad_sum = activation_sum, grad_sum
        else:
            self.activation_sum = _add_ragged(self.activation_sum, activation_sum)
            self.grad_sum = self.grad_sum + grad_sum
        self.rows += rows

    def clear(self) -> None:
        """Forget all rows."""
        self.activation_sum, self.grad_sum, self.rows = None, None, 0


@dataclass(eq=False)
class Layer:
    """A supported layer, its running factors and its pooled rows.

    Attributes:
        name: Qualified name in the model.
        module: The layer.
        rule: How its factors are made and used.
        activation_diag: Running average of ``H``, None before the first estimate.
        grad_diag: Running average of ``S``, None before the first estimate.
        dropped: Estimates that were not finite and therefore not used.
        pool: Rows waiting for the next step.
    """

    name: str
    module: nn.Module
    rule: LayerRule
    activation_diag: Tensor | None = None
    grad_diag: Tensor | None = None
    dropped: int = 0
    pool: Pool = field(default_factory=Pool)

    def __post_init__(self) -> None:
        """Keep the parameters: within forward, fully_shard puts others in their place."""
        # A parametrized weight is computed, not a parameter: it is absent from _parameters.
        names = (("weight", self.rule.weight), ("bias", self.rule.bias))
        own = ((role, self.module._parameters.get(name)) for role, name in names)
        self._roles = [(role, param) for role, param in own if param is not None]

    def __getstate__(self) -> dict[str, Any]:
        """Without the rule, which is made of functions; the capture finds it again."""
        return {key: value for key, value in vars(self).items() if key != "rule"}

    def roles(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters that get curvature from this layer, with their role."""
        return self._roles

    def estimate(self) -> Factors:
        """Factors of the pooled rows, of which there must be some."""
        pool = self.pool
        assert pool.activation_sum is not None
        assert pool.grad_sum is not None
        return self.rule.estimate(pool.activation_sum, pool.grad_sum, pool.rows)

    def average(self, estimate: Factors, gammas: tuple[float, float], start: float) -> None:
        """Take an estimate into the running averages, which start filled with ``start``."""
        if self.activation_diag is None or self.grad_diag is None:
            self.activation_diag, self.grad_diag = (torch.full_like(x, start) for x in estimate)
        update_average_(self.activation_diag, estimate[0], gammas)
        update_average_(self.grad_diag, estimate[1], gammas)

    def averages(self) -> Factors | None:
        """The running averages, or None before the first estimate."""
        if self.activation_diag is None or self.grad_diag is None:
            return None
        return self.activation_diag, self.grad_diag


def _add_ragged(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two statistics; a released-code layer norm has one entry a token, so lengths vary."""
    if a.shape != b.shape:
        length = max(a.numel(), b.numel())
        a, b = (F.pad(t, (0, length - t.numel())) for t in (a, b))
    return a + b
