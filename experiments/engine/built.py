"""A run made ready: everything that it trains with, as the loop and the record see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from experiments.config import budget
from experiments.engine.precision import Precision
from experiments.engine.ranks import Ranks
from experiments.models import transfer
from experiments.schedule import Schedule
from experiments.tasks.task import Task


@dataclass(frozen=True)
class Built:
    """Everything that a run trains with."""

    task: Task
    model: nn.Module  # plain, or split over the processes
    forward: Callable[[Any], Any]  # the same, compiled and wrapped as training calls it
    optimizer: Optimizer
    form: str | None  # in which its step is computed; None: nothing says
    schedule: Schedule
    device: torch.device
    batch_size: int
    eval_batch_size: int
    evaluations_per_epoch: int
    evaluate_every: int | None  # steps, in its place
    curvature_by_layer: bool  # an evaluation tells of each layer too
    tests_at_best: bool  # test is looked at where validation is best so far and at the end alone
    steps_per_epoch: int
    limits: budget.Limits  # where the run ends
    observes_logits: bool  # the optimizer wants the logits between forward and backward
    pretrained: transfer.Loaded | None  # what the model started from; None: random weights
    creates_graph: bool  # it differentiates the gradients once more
    takes_closure: bool  # its step evaluates the loss itself
    keeps_gradients: bool  # nothing clears them between steps
    ema: float | None  # decay of an average of the weights, which is evaluated in their place
    precision: Precision
    channels_last: bool
    compiled: bool
    strategy: str | None  # how several processes share the model
    world: Ranks

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run, or at most so many; None where the clock decides."""
        return self.limits.steps
