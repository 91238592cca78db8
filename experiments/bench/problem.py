"""A training problem for optimizers to be measured on: its steps, and the memory that they take."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from experiments.config.sections import Needs
from experiments.engine.step import backward, differentiable_forward, take_step

Maker = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Problem:
    """A model with a batch to train it on.

    Attributes:
        name: Name of the model.
        model: What every contender trains a copy of.
        inputs: ``[B, ...]``.
        targets: Class of every row of the output, int64.
    """

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor


class Contender:
    """An optimizer with a model of its own.

    Args:
        problem: What is trained, from a copy of its model.
        maker: Makes the optimizer.
        needs: What the optimizer must be given; as the defaults have it.
    """

    def __init__(self, problem: Problem, maker: Maker, needs: Needs | None = None) -> None:
        self._problem, self._needs = problem, needs or Needs()
        self.model = copy.deepcopy(problem.model)
        self.optimizer = maker(self.model)

    def step(self) -> None:
        """Train once: forward, backward, the optimizer's step, and no gradients.

        As the loop of a run does, it waits for the loss.
        """
        take_step(self.optimizer, self.backward, takes_closure=self._needs.closure).item()

    def backward(self) -> Tensor:
        """Compute the gradients."""
        problem, create_graph = self._problem, self._needs.create_graph
        with differentiable_forward(create_graph):
            logits = self.model(problem.inputs).flatten(0, -2)
        loss = F.cross_entropy(logits, problem.targets.flatten())
        if self._needs.logits:  # the flag says that the method is there
            self.optimizer.observe(logits)  # type: ignore[attr-defined]
        backward(loss, create_graph=create_graph)
        return loss.detach()

    @property
    def state_bytes(self) -> int:
        """Memory of the optimizer's state."""
        return _tensor_bytes(self.optimizer.state_dict())


def peak_bytes(problem: Problem, maker: Maker, needs: Needs | None = None, *, steps: int) -> int:
    """Highest memory of the first training steps: of their tensors, not of the process.

    A process gives memory back when it likes; what was allocated is the same in every run. The
    model and its optimizer are made anew, so that all that is given back was seen to be taken.
    """

    def train() -> None:
        contender = Contender(problem, maker, needs)
        for _ in range(steps):
            contender.step()

    device = problem.inputs.device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        train()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's notes would cut the table up
    # Without `acc_events` torch 2.11 warns that it forgets cycles before the last; here is but one.
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        train()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    current = peak = 0
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return peak


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(map(_tensor_bytes, tree.values()))
    return sum(map(_tensor_bytes, tree)) if isinstance(tree, list | tuple) else 0
