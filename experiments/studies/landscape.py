r"""Loss landscape of a network of two weights, with the trajectories of all methods.

The network is the one of the paper's Figure 1: the iris flowers, as two standardised principal
components, into one hidden unit :math:`\mathrm{relu}(W_1 x_1 + W_2 x_2 + b)` and three classes.
Two things are measured, from the same initial weights and on the same batches for every method.

``slice``
    Only :math:`W_1, W_2` are trained. The other parameters are held where full-batch training ends
    (or, by ``held_at=initial``, where it starts), so there is one loss over the plane, it is
    computed exactly, and every point of every trajectory lies on it.
``projection``
    All parameters are trained, as in the paper, and the surface is interpolated cubically through
    the logged :math:`(W_1, W_2, L)` of all methods. As each method moves the other parameters to
    places of its own, no function of :math:`W_1, W_2` alone has these values.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, Figure 1 and Appendix C.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import griddata
from torch import Tensor, nn
from torch.nn import functional as F

from experiments import build, identity, preflight, seeding
from experiments.backward import backward, take_step
from experiments.errors import UserError
from experiments.studies.plan import Arrays, Measured, Plan

HELD_AT = ("trained", "initial")
LEAST = {"epochs": 1, "batch_size": 1, "points": 2, "seed": 0, "held_decay": 0}
MARGIN = 0.25  # of the span of the trajectories, around them

Floats = npt.NDArray[np.float64]


@dataclass
class Options:
    """Keys of ``conf/study/landscape.yaml``."""

    seed: int
    start: list[float]
    epochs: int
    batch_size: int
    softmax_output: bool
    held_at: str
    held_decay: float
    points: int
    methods: dict[str, dict[str, Any]]


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


def plan(options: Options, overrides: Sequence[str], folders: Mapping[str, str]) -> Plan:
    """Check the options and compose every method.

    Raises:
        UserError: If a value is out of range, or a method or a key is unknown.
    """
    if overrides:
        key = overrides[0].partition("=")[0]
        known = ", ".join(vars(options))
        raise UserError(f"Unknown key: {key!r}. Of study=landscape there are: {known}.")
    for name, low in LEAST.items():
        value = getattr(options, name)
        if value < low:
            raise UserError(f"Invalid {name}: {value}. Must be >= {low}.")
    if options.held_at not in HELD_AT:
        raise UserError(f"Invalid held_at: {options.held_at!r}. Must be {' or '.join(HELD_AT)}.")
    if len(options.start) != 2:
        raise UserError(f"Invalid start: {options.start}. Must be two numbers.")
    if not options.methods:
        raise UserError("Invalid methods: {}. Must name at least one optimizer.")
    sections = {name: _section(name, values) for name, values in options.methods.items()}
    methods = {
        name: {"_target_": section["_target_"], **identity.hyperparameters(section)}
        for name, section in sections.items()
    }
    essence = {**vars(options), "methods": methods}
    return Plan(essence, partial(measure, options, sections))


def _section(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    settings = [f"optimizer.{key}={_spelled(value)}" for key, value in values.items()]
    section: dict[str, Any] = preflight.composed([f"optimizer={name}", *settings])["optimizer"]
    build.build_optimizer(section, nn.Linear(2, 2))  # it refuses bad values now
    return section


def _spelled(value: Any) -> str:
    return "null" if value is None else str(value)


def measure(options: Options, sections: Mapping[str, Mapping[str, Any]]) -> Measured:
    """Train every method twice and evaluate the surfaces."""
    torch.set_num_threads(1)
    x, y = iris()
    initial = initial_network(options)
    held = (
        trained(initial, x, y, options.held_decay)
        if options.held_at == "trained"
        else copy.deepcopy(initial)
    )
    full_loss = F.cross_entropy(held(x), y).item()
    place_start(held, options.start)
    for name, parameter in held.named_parameters():
        parameter.requires_grad_(name == "fc1.weight")
    arrays: Arrays = {}
    for kind, network in (("slice", held), ("projection", initial)):
        for name, section in sections.items():
            path, losses = train(options, section, copy.deepcopy(network), x, y)
            arrays[f"{kind}_path_{name}"], arrays[f"{kind}_loss_{name}"] = path, losses
    for kind in ("slice", "projection"):
        paths = np.concatenate([arrays[f"{kind}_path_{name}"] for name in sections])
        w1, w2 = axes(paths, options.points)
        arrays[f"{kind}_w1"], arrays[f"{kind}_w2"] = w1, w2
        if kind == "slice":
            arrays["slice_surface"] = surface(held, w1, w2, x, y)
        else:
            losses = np.concatenate([arrays[f"{kind}_loss_{name}"] for name in sections])
            arrays["projection_surface"] = interpolated(paths, losses, w1, w2)
    facts = {
        "methods": list(sections),
        "learning_rates": {name: section["lr"] for name, section in sections.items()},
        "start": list(options.start),
        "steps": len(arrays[f"slice_loss_{next(iter(sections))}"]) - 1,
        "loss_of_full_training": full_loss,
        "held_at": options.held_at,
        "held": {
            name: parameter.detach().flatten().tolist()
            for name, parameter in held.named_parameters()
            if name != "fc1.weight"
        },
    }
    return Measured(arrays, facts)


def iris() -> tuple[Tensor, Tensor]:
    """The flowers as two principal components, each standardised.

    Returns:
        ``[150, 2]`` and the classes ``[150]``.
    """
    from sklearn.datasets import load_iris  # scikit-learn takes seconds to import
    from sklearn.decomposition import PCA

    data = load_iris()
    components = PCA(n_components=2, svd_solver="full").fit_transform(data.data)
    components = (components - components.mean(0)) / components.std(0)
    return torch.tensor(components, dtype=torch.float32), torch.tensor(data.target)


def initial_network(options: Options) -> IrisNetwork:
    """The network that every method starts from."""
    seeding.seed_global(options.seed, "init")
    network = IrisNetwork(softmax_output=options.softmax_output)
    place_start(network, options.start)
    return network


def place_start(network: IrisNetwork, start: Sequence[float]) -> None:
    """Set ``(W_1, W_2)``."""
    with torch.no_grad():
        network.fc1.weight.copy_(torch.tensor([list(start)]))


def trained(network: IrisNetwork, x: Tensor, y: Tensor, decay: float) -> IrisNetwork:
    """The network at the end of full-batch training of all its parameters, by L-BFGS in float64.

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


def train(
    options: Options, section: Mapping[str, Any], network: IrisNetwork, x: Tensor, y: Tensor
) -> tuple[Floats, Floats]:
    """Train by one method.

    Args:
        options: Epochs, batch size and seed.
        section: The method's section of the config.
        network: Changed in place.
        x: Inputs, ``[rows, 2]``.
        y: Classes, ``[rows]``.

    Returns:
        ``(W_1, W_2)`` before each step and after the last, ``[steps + 1, 2]``, and the loss of all
        rows there, ``[steps + 1]``; both end before the first that is not finite.
    """
    needs = section["needs"]
    seeding.seed_global(options.seed, "training")
    optimizer = build.build_optimizer(section, network)
    path, losses = [], []

    def note() -> bool:
        with torch.no_grad():
            loss = F.cross_entropy(network(x), y).item()
        weights = network.fc1.weight.detach().flatten().tolist()
        if not all(math.isfinite(value) for value in (loss, *weights)):
            return False
        path.append(weights)
        losses.append(loss)
        return True

    def compute(rows: Tensor) -> Tensor:
        logits = network(x[rows])
        loss = F.cross_entropy(logits, y[rows])
        if needs["logits"]:
            optimizer.observe(logits)  # type: ignore[attr-defined]
        backward(loss, create_graph=needs["create_graph"])
        return loss

    note()
    for epoch in range(options.epochs):
        generator = torch.Generator().manual_seed(seeding.derive(options.seed, "data", epoch))
        for rows in torch.randperm(len(x), generator=generator).split(options.batch_size):
            take_step(optimizer, partial(compute, rows), takes_closure=needs["closure"])
            if not note():
                return np.array(path), np.array(losses)
    return np.array(path), np.array(losses)


def axes(paths: Floats, points: int) -> tuple[Floats, Floats]:
    """Grid lines of both weights around all trajectories.

    Args:
        paths: ``[points of all trajectories, 2]``.
        points: Grid lines of each weight.
    """
    low, high = paths.min(0), paths.max(0)
    margin = MARGIN * np.maximum(high - low, 0.5 * (high - low).max() + 1e-3)
    w1, w2 = np.linspace(low - margin, high + margin, points).T
    return w1, w2


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


def interpolated(paths: Floats, losses: Floats, w1: Floats, w2: Floats) -> Floats:
    """The paper's surface: cubic through the logged points, NaN outside their convex hull.

    Returns:
        ``[rows, columns]``.
    """
    points, first = np.unique(paths.round(6), axis=0, return_index=True)
    grid = np.meshgrid(w1, w2)
    found: Floats = griddata(points, losses[first], tuple(grid), method="cubic")
    return found
