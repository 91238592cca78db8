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

from experiments import seeding
from experiments.config import compose
from experiments.config.sections import MethodSection
from experiments.engine import build, divergence
from experiments.engine.divergence import DivergedError
from experiments.engine.ranks import Ranks
from experiments.engine.step import backward, take_step
from experiments.errors import UserError
from experiments.studies.contract import Arrays, Measured, StudyPlan
from experiments.studies.iris_network import IrisNetwork, iris, place_start, surface, trained

HELD_AT = ("trained", "initial")
LEAST = {"epochs": 1, "batch_size": 1, "points": 2, "seed": 0, "held_decay": 0}
MARGIN = 0.25  # of the span of the trajectories, around them

Floats = npt.NDArray[np.float64]


@dataclass
class LandscapeOptions:
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


def plan(
    options: LandscapeOptions, overrides: Sequence[str], folders: Mapping[str, str]
) -> StudyPlan:
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
        name: {"_target_": section.arguments["_target_"], **section.hashed_hyperparameters}
        for name, section in sections.items()
    }
    essence = {**vars(options), "methods": methods}
    return StudyPlan(essence, partial(measure, options, sections))


def _section(name: str, values: Mapping[str, Any]) -> MethodSection:
    settings = [f"optimizer.{key}={_spelled(value)}" for key, value in values.items()]
    section = compose.composed([f"optimizer={name}", *settings]).optimizer
    build.build_optimizer(section, nn.Linear(2, 2))  # it refuses bad values now
    return section


def _spelled(value: Any) -> str:
    return "null" if value is None else str(value)


def measure(options: LandscapeOptions, sections: Mapping[str, MethodSection]) -> Measured:
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
            try:
                path, losses = train(options, section, copy.deepcopy(network), x, y)
            except DivergedError as error:
                raise DivergedError(f"{name}, {kind}: {error}") from None
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
        "learning_rates": {name: section.arguments["lr"] for name, section in sections.items()},
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


def initial_network(options: LandscapeOptions) -> IrisNetwork:
    """Make the network that every method starts from."""
    seeding.seed_global(options.seed, "init")
    network = IrisNetwork(softmax_output=options.softmax_output)
    place_start(network, options.start)
    return network


def train(
    options: LandscapeOptions,
    section: MethodSection,
    network: IrisNetwork,
    x: Tensor,
    y: Tensor,
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
        rows there, ``[steps + 1]``.

    Raises:
        DivergedError: At the first of these, or the first parameter, that is not finite.
    """
    needs = section.needs
    seeding.seed_global(options.seed, "training")
    optimizer = build.build_optimizer(section, network)
    path: list[list[float]] = []
    losses: list[float] = []

    def note() -> None:
        with torch.no_grad():
            loss = F.cross_entropy(network(x), y).item()
        divergence.check({"loss": loss}, len(losses))
        divergence.check_weights(network, len(losses), world=Ranks())
        path.append(network.fc1.weight.detach().flatten().tolist())
        losses.append(loss)

    def compute(rows: Tensor) -> Tensor:
        logits = network(x[rows])
        loss = F.cross_entropy(logits, y[rows])
        if needs.logits:
            optimizer.observe(logits)  # type: ignore[attr-defined]
        backward(loss, create_graph=needs.create_graph)
        return loss

    note()
    for epoch in range(options.epochs):
        generator = torch.Generator().manual_seed(seeding.derive(options.seed, "data", epoch))
        for rows in torch.randperm(len(x), generator=generator).split(options.batch_size):
            take_step(optimizer, partial(compute, rows), takes_closure=needs.closure)
            note()
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


def interpolated(paths: Floats, losses: Floats, w1: Floats, w2: Floats) -> Floats:
    """Interpolate the paper's surface: cubic through the logged points, NaN outside their hull.

    Returns:
        ``[rows, columns]``.
    """
    points, first = np.unique(paths.round(6), axis=0, return_index=True)
    grid = np.meshgrid(w1, w2)
    found: Floats = griddata(points, losses[first], tuple(grid), method="cubic")
    return found
