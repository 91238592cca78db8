"""Independent random streams derived from one seed.

Two methods that run under the same seed see the same initial weights and the same batches, because
each stream depends on the seed and on its own name only, never on what was drawn before.
"""

import hashlib

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
