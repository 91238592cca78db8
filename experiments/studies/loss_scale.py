r"""What a loss scale changes that no method knows of: each method with it and without it.

A trainer multiplies the loss by :math:`c`, so that every gradient of the backward pass is
:math:`c` times its own, and divides those of the parameters by :math:`c` before the step. What else
a method takes from that pass stays scaled: AdaHessian's :math:`|H v|`, by which it divides, and
AdaFisher's output gradients, whose squares the released rule brings into [0, 1] with an
:math:`\epsilon` that vanishes beside :math:`c^2`. Both runs of a method begin with the same weights
and see the same batches.

Reference: the released trainer of Martins Gomes et al. 2025, arXiv 2405.16397v3, on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.studies import watched
from experiments.studies.contract import (
    Arrays,
    Measured,
    StudyPlan,
    describe_run,
    run_config,
)

Pair = tuple[RunConfig, RunConfig]  # with the scale, and without


@dataclass
class LossScaleOptions:
    """Keys of ``conf/study/loss_scale.yaml``."""

    run: list[str]
    methods: list[str]
    seeds: list[int]
    loss_scale: float


def plan(
    options: LossScaleOptions, overrides: Sequence[str], folders: Mapping[str, str]
) -> StudyPlan:
    """Check the options and compose two runs for each method and seed.

    Raises:
        UserError: If a value is unusable, or a run does not compose.
    """
    for name in ("methods", "seeds"):
        if not getattr(options, name):
            raise UserError(f"Invalid {name}: []. Must name at least one.")
    for key, instead in (("optimizer", "methods"), ("seed", "seeds")):
        if any(override.startswith(f"{key}=") for override in overrides):
            raise UserError(f"Invalid key: {key}. Give {instead}=[...].")
    scaled = f"loss_scale={options.loss_scale}"
    pairs: dict[str, list[Pair]] = {}
    for method in options.methods:
        for seed in options.seeds:
            words = [*options.run, *overrides, f"optimizer={method}", f"seed={seed}"]
            pair = run_config([*words, scaled], folders), run_config(words, folders)
            pairs.setdefault(method, []).append(pair)
    essence = {
        "seeds": options.seeds,
        "loss_scale": options.loss_scale,
        "runs": {method: describe_run(found[0][0]) for method, found in pairs.items()},
    }
    return StudyPlan(essence, partial(measure, options, pairs))


def measure(options: LossScaleOptions, pairs: Mapping[str, Sequence[Pair]]) -> Measured:
    """Train every pair.

    Returns:
        For each method, with the scale before without: ``train_loss``, the mean of each epoch,
        ``[2, seeds, epochs]``; ``first_step``, the norm of the first update, ``[2, seeds]``; and
        ``distance``, that between the two runs' weights after each epoch over that of the unscaled
        run's from the start, ``[seeds, epochs]``.
    """
    arrays: Arrays = {}
    for method, found in pairs.items():
        measured = [[_train(config) for config in pair] for pair in found]
        for name in ("train_loss", "first_step"):
            values = [[one[name] for one in pair] for pair in measured]
            arrays[f"{method}/{name}"] = np.stack(values, axis=1)
        arrays[f"{method}/distance"] = np.stack(
            [_distances(scaled["weights"], plain["weights"]) for scaled, plain in measured]
        )
    facts = {
        "methods": options.methods,
        "seeds": options.seeds,
        "loss_scale": options.loss_scale,
        "learning_rates": {name: of[0][0].optimizer.arguments["lr"] for name, of in pairs.items()},
        "task": found[0][0].task.name,
        "model": found[0][0].model.name,
    }
    return Measured(arrays, facts)


def _train(config: RunConfig) -> dict[str, np.ndarray]:
    """Mean loss of each epoch, norm of the first update, and the weights at the ends of epochs."""
    built = watched.built_run(config, reads_gradients=False)
    if built.total_steps is None or built.total_steps % built.steps_per_epoch:
        raise UserError("Invalid budget: this study needs one in whole epochs.")
    ends = list(range(built.steps_per_epoch, built.total_steps + 1, built.steps_per_epoch))
    looked_at = sorted({1, *ends})
    weights = {0: _weights(built.model)}

    def look(step: int) -> None:
        weights[step] = _weights(built.model)

    losses = watched.train(built, seed=config.seed, steps=looked_at, look=look)
    return {
        "train_loss": np.reshape(losses, (len(ends), -1)).mean(1),
        "first_step": torch.linalg.vector_norm(weights[1] - weights[0]).numpy(),
        "weights": torch.stack([weights[step] for step in (0, *ends)]).numpy(),
    }


def _weights(model: nn.Module) -> Tensor:
    """All parameters, ``[elements]``, float64, on the CPU."""
    return torch.cat([p.detach().flatten().double().cpu() for p in model.parameters()])


def _distances(scaled: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Distance of two runs' weights, ``[1 + epochs, elements]``, over that from the start."""
    apart = np.linalg.norm(scaled[1:] - plain[1:], axis=1)
    moved: np.ndarray = apart / np.linalg.norm(plain[1:] - plain[0], axis=1)
    return moved
