r"""What it changes that nothing clears the gradients between two steps.

In the released language script of the AdaFisher authors nothing does on the path of Shampoo and
K-FAC, neither the script nor ASDL. Preconditioner P and clipping c work in place, so that a step
adds the gradient of its loss to what they left of the last one:

.. math::
    g_t = c(P(g_{t-1} + \nabla L_t)), \quad g_0 = 0.

A method trains twice, from the same weights on the same batches.

Reference: the released script of Martins Gomes et al. 2025, arXiv 2405.16397v3, section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.studies import watched
from experiments.studies.contract import Measured, StudyPlan, describe_run, run_config

KEY = "optimizer.suite.needs.keep_gradients"
KEEPS = {"cleared": False, "kept": True}


@dataclass
class KeptGradientsOptions:
    """Keys of ``conf/study/kept_gradients.yaml``."""

    run: list[str]
    steps: int
    averaged: int


def plan(
    options: KeptGradientsOptions, overrides: Sequence[str], folders: Mapping[str, str]
) -> StudyPlan:
    """Check the options and compose both runs.

    Raises:
        UserError: If a value is unusable, or a run does not compose.
    """
    if not 1 <= options.averaged <= options.steps:
        raise UserError(
            f"Invalid averaged: {options.averaged}. Must be >= 1 and <= steps={options.steps}."
        )
    words = [*options.run, *overrides, f"budget.steps={options.steps}"]
    configs = {
        name: run_config([*words, f"{KEY}={str(keeps).lower()}"], folders)
        for name, keeps in KEEPS.items()
    }
    runs = {name: describe_run(config) for name, config in configs.items()}
    essence = {"averaged": options.averaged, "runs": runs}
    return StudyPlan(essence, partial(measure, options, configs), tell)


def measure(options: KeptGradientsOptions, configs: Mapping[str, RunConfig]) -> Measured:
    """Train both.

    Returns:
        ``cleared`` and ``kept``: the training loss of every step, ``[steps]``. The facts have that
        of the first step, and the mean of the last ``averaged`` of each.
    """
    losses = {}
    for name, config in configs.items():
        built = watched.built_run(config)
        steps = [options.steps]
        watched.check_steps(steps, built)
        trained = watched.train(built, seed=config.seed, steps=steps, look=lambda step: None)
        losses[name] = np.array(trained)
    facts = {
        "optimizer": config.optimizer.name,
        "task": config.task.name,
        "model": config.model.name,
        "seed": config.seed,
        "steps": options.steps,
        "first_loss": float(losses["cleared"][0]),
        "final_loss": {
            name: float(each[-options.averaged :].mean()) for name, each in losses.items()
        },
        "device": built.device.type,
        "data_sha256": built.task.checksums,
    }
    return Measured(losses, facts)


def tell(facts: Mapping[str, Any]) -> list[str]:
    """Both losses in a line."""
    ends = [f"{loss:.2f} with gradients {name}" for name, loss in facts["final_loss"].items()]
    return [
        f"{facts['optimizer']}, {facts['model']} on {facts['task']}: training loss "
        f"{facts['first_loss']:.2f} at first, after {facts['steps']} steps {' and '.join(ends)}"
    ]
