"""The model that a task makes itself: of a task in a file of one's own, or of a plain function."""

from collections.abc import Callable

from torch import nn


def own(*, make: Callable[[], nn.Module]) -> nn.Module:
    """Make it.

    Args:
        make: The task's; it draws from torch's global generator, which the run has seeded.
    """
    return make()
