"""A point in space as a model, for tasks that are functions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Point(nn.Module):
    """Gives its coordinates for every row: a linear layer that is fed with ones.

    So what methods have for layers is used: its input is 1, and the gradient at its output is that
    of the coordinates.

    Args:
        start: Where it begins; its length is the dimension d.
    """

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__()
        self.coordinates = nn.Linear(1, len(start), bias=False)
        with torch.no_grad():
            self.coordinates.weight.copy_(torch.tensor(start).unsqueeze(1))

    def forward(self, ones: Tensor) -> Tensor:
        """Map ones ``[B, 1]`` to coordinates ``[B, d]``."""
        coordinates: Tensor = self.coordinates(ones)
        return coordinates
