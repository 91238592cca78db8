"""Independent random streams derived from one seed.

Two methods that run under the same seed see the same initial weights and the same batches, because
each stream depends on the seed and on its own name only, never on what was drawn before.
"""

import contextlib
import hashlib
import random
import sys
from collections.abc import Iterator

import torch


def derive(seed: int, *names: str | int) -> int:
    """Seed of the stream called ``names`` under ``seed``.

    Args:
        seed: The seed of the run.
        *names: What the stream is for, e.g. ``("data", epoch)``.

    Returns:
        An integer in ``[0, 2**63)``, uniform over different names and seeds.

    Example:
        >>> derive(0, "data", 1) == derive(0, "data", 1)
        True
        >>> derive(0, "data", 1) == derive(0, "data", 2)
        False
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_global(seed: int, stream: str) -> None:
    """Seed torch's global generators (CPU and accelerators) with the stream called ``stream``."""
    torch.manual_seed(derive(seed, stream))


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """Leave the global streams of Python, numpy and torch as they are."""
    numpy = sys.modules.get("numpy")
    states = random.getstate(), torch.get_rng_state(), numpy and numpy.random.get_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
        if numpy:
            numpy.random.set_state(states[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


@contextlib.contextmanager
def fixed(*names: str | int) -> Iterator[None]:
    """Give the global streams a constant seed, and leave them as they were.

    What draws from them without a seed of its own, as a split of the data, is then the same in
    every run.

    Args:
        *names: What for, as of ``derive``.
    """
    with streams_kept():
        stream = derive(0, *names)
        torch.manual_seed(stream)
        random.seed(stream)
        if numpy := sys.modules.get("numpy"):  # torch loads it where it is installed
            numpy.random.seed(stream % 2**32)
        yield
