"""A run that a study watches: built and trained as `experiments.train` does, recorded nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import nn

from experiments.config.run_config import RunConfig
from experiments.engine import divergence
from experiments.engine.build import build
from experiments.engine.built import Built
from experiments.engine.loop import Trainer
from experiments.errors import UserError


def built_run(config: RunConfig, *, reads_gradients: bool = True) -> Built:
    """Build a run.

    Args:
        config: The resolved config.
        reads_gradients: Whether the study reads gradients, which must be those of the loss then.

    Raises:
        UserError: If a value is unusable.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    for key, applies in (
        ("precision: fp16", config.precision == "fp16"),
        (f"loss_scale: {config.loss_scale}", config.loss_scale is not None),
    ):
        if applies and reads_gradients:
            raise UserError(f"Invalid {key}. A study reads gradients, which are scaled there.")
    return build(config)


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """Find the layer called ``name``.

    Raises:
        UserError: If there is none; the message has those that have a weight.
    """
    found = dict(model.named_modules()).get(name)
    if found is None or not isinstance(getattr(found, "weight", None), nn.Parameter):
        known = [
            key
            for key, module in model.named_modules()
            if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1
        ]
        raise UserError(f"Unknown layer: {name!r}. Must be one of: {', '.join(known)}.")
    return found


def check_steps(steps: Sequence[int], built: Built) -> None:
    """Refuse steps that the run does not take.

    Raises:
        UserError: If there is none, or one is out of range or out of order.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise UserError(f"Invalid steps: {list(steps)}. Must be ascending numbers >= 1.")
    if built.total_steps is None:
        raise UserError("A study needs a budget whose number of steps is known.")
    if steps[-1] > built.total_steps:
        raise UserError(
            f"Invalid steps: {list(steps)}. The run takes {built.total_steps}; "
            f"budget=steps budget.steps={steps[-1]} lets it take more."
        )


def train(
    built: Built, *, seed: int, steps: Sequence[int], look: Callable[[int], None]
) -> list[float]:
    """Train up to the last of ``steps`` and look after each of them.

    Args:
        built: The run.
        seed: Its seed.
        steps: Ascending.
        look: Called with the step.

    Returns:
        The training loss of every step.

    Raises:
        DivergedError: At the first loss that is not finite, or at weights that are looked at and
            are not.
    """
    losses: list[float] = []
    wanted = set(steps)
    for step, loss in enumerate(islice(Trainer(built, seed=seed).steps(), steps[-1]), start=1):
        divergence.check({"loss": loss}, step)
        losses.append(loss)
        if step in wanted:
            divergence.check_weights(built.model, step, world=built.world)
            look(step)
    return losses
