"""Sums over the processes that average their gradients; without any, nothing happens."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Count the processes of the default group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over all processes, the same bits on each, and return it."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def share_of_rank(count: int, device: torch.device) -> tuple[int, int]:
    """Tell where this process stands when the rows of all stand in order of rank.

    Args:
        count: Rows of this process.
        device: Device that the group's backend works on.

    Returns:
        Rows of the processes before this one, and of those after it.
    """
    world = world_size()
    if world == 1:
        return 0, 0
    rank = dist.get_rank()
    counts = torch.zeros(world, dtype=torch.int64, device=device)
    counts[rank] = count
    rows: list[int] = sum_over_ranks(counts).tolist()
    return sum(rows[:rank]), sum(rows[rank + 1 :])


def refuse_sharded(method: str, params: Iterable[Tensor]) -> None:
    """Refuses parameters of which a process has a part only.

    Args:
        method: Name of the method, for the message.
        params: Parameters.

    Raises:
        ValueError: If one is sharded, as by ``fully_shard``.
    """
    # A DTensor says its placements; the class itself is not there in every build of torch.
    if any(hasattr(param, "placements") for param in params):
        raise ValueError(
            f"{method} does not work on sharded parameters (fully_shard, FSDP): it needs whole "
            "gradients. Train with DistributedDataParallel instead."
        )
