"""Which process of a launch by `torchrun` this is. Standard library only: torch takes seconds."""

import os


def count() -> int:
    """Count the processes that share the run; 1 outside a launcher."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def rank() -> int:
    """Return the number of this process among them; 0 leads."""
    return _number("RANK", 0) if count() > 1 else 0


def local_rank() -> int:
    """Return the number of this process on its machine; it picks the accelerator."""
    return _number("LOCAL_RANK", rank()) if count() > 1 else 0


def local_count() -> int:
    """Count the processes of the run that are on this machine."""
    return _number("LOCAL_WORLD_SIZE", count()) if count() > 1 else 1


def reports() -> bool:
    """Tell whether this process tells the user of a mistake: the first on each machine."""
    return local_rank() == 0


def _number(variable: str, default: int) -> int:
    return int(os.environ.get(variable) or default)
