"""One training run twice: in one process, and with its batches shared out among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adafisher import AdaFisher
from tests.support.cases import Case

SAMPLES = 12
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
EVEN: dict[int, Sequence[int]] = {1: (12,), 2: (6, 6), 4: (3, 3, 3, 3)}
UNEVEN: dict[int, Sequence[int]] = {1: (12,), 2: (9, 3), 4: (5, 1, 4, 2)}
ONE_EMPTY: dict[int, Sequence[int]] = {1: (12,), 2: (12, 0), 4: (7, 0, 4, 1)}


def rows_of_rank(shares: dict[int, Sequence[int]]) -> slice:
    """Which samples of a batch are this rank's."""
    rank, counts = dist.get_rank(), shares[dist.get_world_size()]
    return slice(sum(counts[:rank]), sum(counts[: rank + 1]))


def loss_of(
    output: Tensor, index: int, rows: slice = slice(None), samples: int = SAMPLES
) -> Tensor:
    """Share of the mean loss over all samples that the samples ``rows`` have."""
    generator = torch.Generator().manual_seed(2000 + index)
    shape = (samples, *output.shape[1:])
    target = torch.randn(shape, generator=generator, dtype=torch.float64).to(output)
    return 0.05 * (output - target[rows]).square().sum() / target.numel()


class Shared:
    """A run on this rank's share and the whole run, which is the reference, beside it.

    Attributes:
        model: The rank's model, wrapped.
        optimizer: Its optimizer.
    """

    def __init__(
        self,
        case: Case,
        *,
        dtype: torch.dtype = torch.float64,
        shares: dict[int, Sequence[int]] = EVEN,
        prepare: Callable[[nn.Module], nn.Module] = lambda model: model,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        """``prepare`` comes before the optimizer, ``wrap`` after it."""
        self.case = replace(case, shape=(SAMPLES, *case.shape[1:]))
        self.dtype, self.device = dtype, device
        self.rows, self.world = rows_of_rank(shares), dist.get_world_size()
        self.whole_model = case.model().to(device, dtype)
        self.whole = AdaFisher(self.whole_model, process_group=False, **options)
        self.bare = prepare(case.model().to(device, dtype))
        self.optimizer = AdaFisher(self.bare, **options)
        self.model = wrap(self.bare)
        self.count = 0

    def batch(self, index: int) -> Tensor:
        batch = self.case.batch(index).to(self.device)
        return batch.to(self.dtype) if batch.is_floating_point() else batch

    def backward(self, index: int) -> None:
        loss_of(self.whole_model(self.batch(index)), index).backward()
        output = self.model(self.batch(index)[self.rows])
        (self.world * loss_of(output, index, self.rows)).backward()

    def step(self) -> None:
        for optimizer in (self.whole, self.optimizer):
            optimizer.step()
            optimizer.zero_grad()
        self.count += 1
        self.compare()

    def train(self, indices: range) -> None:
        for index in indices:
            self.backward(index)
            self.step()

    def compare(self) -> None:
        pairs = zip(self.bare.named_parameters(), self.whole_model.parameters(), strict=True)
        for (name, ours), theirs in pairs:
            assert torch.isfinite(theirs).all()
            difference = float((gathered(ours) - theirs).abs().max())
            assert difference <= TOLERANCE[self.dtype], f"{name} after {self.count} steps"


def gathered(param: Tensor) -> Tensor:
    """The whole parameter, also of a shard."""
    whole: Any = param.detach()
    found: Tensor = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
    return found
