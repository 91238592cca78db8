"""Which parameters have curvature."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import NamedTuple


class Coverage(NamedTuple):
    """Which of an optimizer's parameters have curvature, by name.

    Attributes:
        curvature: Parameters of a supported layer.
        identity: All others; they take plain bias-corrected momentum.
        identity_steps: Steps that a parameter of a supported layer took without an estimate.
        dropped: Estimates that were dropped because they were not finite, by layer.
    """

    curvature: tuple[str, ...]
    identity: tuple[str, ...]
    identity_steps: dict[str, int]
    dropped: dict[str, int]


def warn_uncovered(optimizer: str, coverage: Coverage, trainable: Collection[str]) -> None:
    """Warn once, naming the trainable parameters without curvature; silent if there are none.

    Args:
        optimizer: Name for the message.
        coverage: Coverage at construction.
        trainable: Names of the parameters that are not frozen.
    """
    uncovered = [name for name in coverage.identity if name in trainable]
    if uncovered:
        warnings.warn(
            f"{optimizer}: {len(uncovered)} of {len(trainable)} trainable parameters are in no "
            f"supported layer and take plain momentum (curvature 1): {', '.join(uncovered)}",
            stacklevel=4,
        )
