r"""The diagonal of the Fisher information over training, as each of several methods sees it.

Of AdaFisher that is :math:`F = H' \otimes S' + \lambda`, which its step divides by; of Adam the
bias-corrected second moment :math:`v / (1 - \beta_2^t)`, of whose root its step divides. Each
method trains from the same weights on the same batches.

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, Figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from experiments.config.run_config import RunConfig
from experiments.engine import divergence
from experiments.engine.divergence import DivergedError
from experiments.errors import UserError
from experiments.studies import watched
from experiments.studies.contract import (
    Arrays,
    Measured,
    StudyPlan,
    describe_run,
    run_config,
)

LARGEST = 100_000  # entries that are kept of a layer; of a larger one evenly spaced ones


@dataclass
class FisherHistogramsOptions:
    """Keys of ``conf/study/fisher_histograms.yaml``."""

    run: list[str]
    methods: list[str]
    layers: list[str]
    steps: list[int]


def plan(
    options: FisherHistogramsOptions, overrides: Sequence[str], folders: Mapping[str, str]
) -> StudyPlan:
    """Check the options and compose a run for each method.

    Raises:
        UserError: If a value is unusable, or a run does not compose.
    """
    for name in ("methods", "layers"):
        if not getattr(options, name):
            raise UserError(f"Invalid {name}: []. Must name at least one.")
    if any(override.startswith("optimizer=") for override in overrides):
        raise UserError("Invalid key: optimizer. Give methods=[...], the names of the optimizers.")
    configs = {
        method: run_config([*options.run, *overrides, f"optimizer={method}"], folders)
        for method in options.methods
    }
    runs = {method: describe_run(config) for method, config in configs.items()}
    essence = {"layers": options.layers, "steps": options.steps, "runs": runs}
    return StudyPlan(essence, partial(measure, options, configs))


def measure(options: FisherHistogramsOptions, configs: Mapping[str, RunConfig]) -> Measured:
    """Train each method and keep the diagonals after each of ``options.steps``.

    Raises:
        DivergedError: If a method diverges, or keeps a diagonal that is not finite.
    """
    arrays: Arrays = {"steps": np.array(options.steps)}
    for method, config in configs.items():
        built = watched.built_run(config)
        watched.check_steps(options.steps, built)
        weights = {name: watched.layer_of(built.model, name).weight for name in options.layers}
        found: dict[str, list[np.ndarray]] = {name: [] for name in weights}

        def look(step: int, built=built, weights=weights, found=found) -> None:  # type: ignore[no-untyped-def]
            for name, weight in weights.items():
                diagonal = fisher_diag(built.optimizer, weight)
                divergence.check_tensor(f"diagonal of {name}", diagonal, step)
                found[name].append(thinned(diagonal))

        try:
            losses = watched.train(built, seed=config.seed, steps=options.steps, look=look)
        except DivergedError as error:
            raise DivergedError(f"{method}: {error}") from None
        arrays |= {f"{method}/{name}": np.stack(values) for name, values in found.items()}
        arrays[f"{method}/train_loss"] = np.array(losses)
    facts = {
        "methods": list(configs),
        "layers": options.layers,
        "task": config.task.name,
        "model": config.model.name,
        "seed": config.seed,
        "damping": {
            name: config.optimizer.arguments.get("damping", 0.0) for name, config in configs.items()
        },
        "device": built.device.type,
        "data_sha256": built.task.checksums,
    }
    return Measured(arrays, facts)


def fisher_diag(optimizer: Optimizer, param: Tensor) -> Tensor:
    """Return the diagonal that a method keeps for a parameter.

    Args:
        optimizer: One with a ``fisher_diag``, or with Adam's second moment in its state.
        param: One of its parameters, after at least one step.

    Returns:
        The diagonal, shaped as ``param``.

    Raises:
        UserError: If the method keeps none.
    """
    own = getattr(optimizer, "fisher_diag", None)
    if own is not None:
        diagonal: Tensor | None = own(param)
        if diagonal is None:
            raise UserError("A layer that is looked at has no curvature in this method.")
        return diagonal
    state = optimizer.state[param]
    if "exp_avg_sq" not in state:
        raise UserError(
            f"Invalid methods: {type(optimizer).__name__} keeps no diagonal of the Fisher "
            "information. Must be AdaFisher, or keep Adam's second moment."
        )
    (group,) = (
        group for group in optimizer.param_groups if any(p is param for p in group["params"])
    )
    correction = 1.0 - group["betas"][1] ** float(state["step"])
    moment: Tensor = state["exp_avg_sq"]
    return moment / correction


def thinned(diagonal: Tensor) -> np.ndarray:
    """At most ``LARGEST`` evenly spaced entries, float32."""
    flat = diagonal.detach().flatten().float().cpu()
    return flat[:: -(-len(flat) // LARGEST)].numpy().copy()
