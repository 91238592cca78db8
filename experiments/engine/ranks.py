"""The processes that share one run: who leads, how they share a batch, and what they agree on.

The first process holds the record; the others only compute. Numbers and decisions travel by gloo
on the CPU, in float64, whatever carries the gradients.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from experiments.errors import UserError
from experiments.system import ranks
from experiments.tasks.batches import mapped

T = TypeVar("T")
# The followers wait while the first process waits for the run's lock, which may take days. A
# process that dies ends the wait: its launcher stops the others.
_PATIENCE = timedelta(days=30)
_PUT_DOWN_S = 0.05


class LostProcessError(Exception):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; one by default, for which nothing here costs anything.

    Attributes:
        rank: Number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1
    _group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the record and talks to the user."""
        return self.rank == 0

    def share(self, *parts: Any) -> list[Any]:
        """Take this process's consecutive rows of each part of a batch; there may be none.

        Args:
            parts: Tensors ``[B, ...]``, or structures of them; the same on all processes.
        """
        if self.size == 1:
            return list(parts)
        return [mapped(self._own_rows, part) for part in parts]

    def _own_rows(self, tensor: Tensor) -> Tensor:
        return torch.tensor_split(tensor, self.size)[self.rank]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sum each number over the processes, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with _peers():
            dist.all_reduce(total, group=self._group)
        summed: list[float] = total.tolist()
        return summed

    def mean(self, values: Sequence[float]) -> list[float]:
        """Average each number over the processes, in float64."""
        return [total / self.size for total in self.sum(values)]

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on some process."""
        return self.sum([float(flag)])[0] > 0

    def tell(self, value: T) -> T:
        """Give every process the value that the first one has."""
        if self.size == 1:
            return value
        box = [value]
        with _peers():
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Collect every process's value, in order of rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def together(self, make: Callable[[], T]) -> T:
        """Make something that reads files everywhere, in the first process before the others.

        So a cache is written once, and what a machine lacks stops all of them.

        Raises:
            UserError: If one process cannot.
        """
        if self.size == 1:
            return make()
        made: list[T] = []
        for turn in (True, False):
            problem = None
            if self.leads is turn:
                try:
                    made.append(make())
                except UserError as error:
                    problem = str(error)
            for found in self.gather(problem):
                if found is not None:
                    raise UserError(found)
        return made[0]


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes of the launch, if there are any.

    Args:
        device: Where this process trains; it decides what carries the gradients.

    Raises:
        UserError: If it is not said where they meet.
    """
    if ranks.count() == 1:
        yield Ranks()
        return
    if "MASTER_ADDR" not in os.environ:
        raise UserError(
            "RANK and WORLD_SIZE are set, and MASTER_ADDR is not. Start several processes by "
            "torchrun, or unset RANK for a single one."
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    # Threads of gloo need the interpreter to put the last tensors down, and one that waits for it
    # when it ends aborts the process. A barrier would do, and hang or fail where another is gone.
    time.sleep(_PUT_DOWN_S)
    # After a fault the others may be gone or busy, and to part from them properly would hang.
    dist.destroy_process_group()


def is_lost(error: Exception) -> bool:
    """Tell whether an error says that another process is gone, not that this one is at fault."""
    if isinstance(error, LostProcessError | dist.DistError):
        return True
    # gloo has no class of its own for it.
    gone = ("connection closed", "connection reset", "connection refused", "broken pipe")
    return ranks.count() > 1 and any(text in str(error).lower() for text in gone)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_lost(error):
            raise LostProcessError("another process of the run ended") from error
        raise
