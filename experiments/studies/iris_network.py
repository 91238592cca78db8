"""The iris network of two weights: its data, its training to the end, and its exact loss."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Floats = npt.NDArray[np.float64]


class IrisNetwork(nn.Module):
    """Two inputs, one hidden unit, three classes.

    Args:
        softmax_output: Whether the output is a softmax, which the cross-entropy then takes for
            logits, as in the released code.
    """

    def __init__(self, *, softmax_output: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 1)
        self.fc2 = nn.Linear(1, 3)
        self.softmax_output = softmax_output

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, 2]`` to logits ``[rows, 3]``."""
        logits: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return logits.softmax(-1) if self.softmax_output else logits


def iris() -> tuple[Tensor, Tensor]:
    """Load the flowers as two principal components, each standardised.

    Returns:
        ``[150, 2]`` and the classes ``[150]``.
    """
    from sklearn.datasets import load_iris  # scikit-learn takes seconds to import
    from sklearn.decomposition import PCA

    data = load_iris()
    components = PCA(n_components=2, svd_solver="full").fit_transform(data.data)
    components = (components - components.mean(0)) / components.std(0)
    return torch.tensor(components, dtype=torch.float32), torch.tensor(data.target)


def place_start(network: IrisNetwork, start: Sequence[float]) -> None:
    """Set ``(W_1, W_2)``."""
    with torch.no_grad():
        network.fc1.weight.copy_(torch.tensor([list(start)]))


def trained(network: IrisNetwork, x: Tensor, y: Tensor, decay: float) -> IrisNetwork:
    """Train all parameters of a copy of the network, full-batch, by L-BFGS in float64.

    Args:
        network: Where the training starts; left unchanged.
        x: Inputs, ``[rows, 2]``.
        y: Classes, ``[rows]``.
        decay: The loss gets ``decay / 2`` times the squared norm of all parameters: without it they
            grow without end, and the classes become steps with plateaus between them.
    """
    network = copy.deepcopy(network).double()
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        squares = sum((p.square().sum() for p in network.parameters()), torch.zeros(()).double())
        loss = F.cross_entropy(network(x.double()), y) + 0.5 * decay * squares
        loss.backward()
        return loss

    optimizer.step(closure)
    return network.float()


@torch.no_grad()
def surface(network: IrisNetwork, w1: Floats, w2: Floats, x: Tensor, y: Tensor) -> Floats:
    """Loss of all rows at every point of a grid, the other parameters held, in float64.

    Args:
        network: Its other parameters.
        w1: Grid lines, ``[columns]``.
        w2: Grid lines, ``[rows]``.
        x: Inputs, ``[150, 2]``.
        y: Classes, ``[150]``.

    Returns:
        ``[rows, columns]``.
    """
    frozen = copy.deepcopy(network).double()
    inputs = x.double()
    lines = []
    for second in w2:
        grid = torch.stack([torch.tensor(w1), torch.full((len(w1),), float(second)).double()])
        hidden = torch.relu(inputs @ grid + frozen.fc1.bias)  # [150, columns]
        output = frozen.fc2(hidden.unsqueeze(-1))
        if frozen.softmax_output:
            output = output.softmax(-1)
        targets = y.unsqueeze(1).expand(-1, len(w1))
        losses = F.cross_entropy(output.permute(0, 2, 1), targets, reduction="none")
        lines.append(losses.mean(0).numpy())
    return np.stack(lines)
