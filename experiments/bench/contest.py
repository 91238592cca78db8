"""Measures optimizers side by side on one training problem, in turn within one process.

Times of one round are compared with each other only, so that a machine whose speed drifts, or is
shared, still gives sound ratios. Both wall and processor time are kept.
"""

import copy
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile


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


class Seconds(NamedTuple):
    """Duration of something: on the clock, and of all processor cores together."""

    wall: float
    cpu: float


@dataclass
class Contender:
    """An optimizer with a model of its own, and what was measured of it.

    Attributes:
        name: Name in the tables.
        model: Copy of the problem's model.
        optimizer: Its optimizer.
        whole: Training steps: forward, backward, ``step`` and ``zero_grad``.
        within: The ``step`` of each training step.
        alone: Calls of ``step`` on standing gradients.
        state_bytes: Memory of the optimizer's state.
        peak_bytes: Highest memory of a training step, parameters and state included.
    """

    name: str
    model: nn.Module
    optimizer: Optimizer
    whole: list[Seconds] = field(default_factory=list)
    within: list[Seconds] = field(default_factory=list)
    alone: list[Seconds] = field(default_factory=list)
    state_bytes: int = 0
    peak_bytes: int = 0


def measure(
    problem: Problem,
    makers: dict[str, Callable[[nn.Module], Optimizer]],
    *,
    steps: int,
    calls: int,
) -> list[Contender]:
    """Let optimizers train the same problem in turn.

    The order rotates by one every round, so that each follows each. The first two rounds are not
    counted: they allocate, and an optimizer that refreshes rarely does so in the first.

    Args:
        problem: What to train.
        makers: Constructors by name.
        steps: Counted training steps of each.
        calls: Counted calls of ``step`` alone.

    Returns:
        The contenders, in the order of ``makers``.
    """
    contenders = []
    for name, maker in makers.items():
        model = copy.deepcopy(problem.model)
        contenders.append(Contender(name, model, maker(model)))
    for contender in _turns(contenders, steps + 2):
        whole, within = _train(contender, problem)
        contender.whole.append(whole)
        contender.within.append(within)
    for contender in contenders:
        del contender.whole[:2], contender.within[:2]
        contender.peak_bytes = _peak_bytes(contender, problem)
        contender.state_bytes = _tensor_bytes(contender.optimizer.state_dict())
        _backward(contender, problem)
    with warnings.catch_warnings():
        # The gradients stand still on purpose, and so come without a pass that would refresh.
        warnings.filterwarnings("ignore", "AdaFisher: no rows came", UserWarning)
        for contender in _turns(contenders, calls + 2):
            contender.alone.append(_timed(contender.optimizer.step, problem.inputs.device))
    for contender in contenders:
        del contender.alone[:2]
    return contenders


def _turns(contenders: list[Contender], rounds: int) -> Iterable[Contender]:
    for index in range(rounds):
        first = index % len(contenders)
        yield from contenders[first:] + contenders[:first]


def _train(contender: Contender, problem: Problem) -> tuple[Seconds, Seconds]:
    device = problem.inputs.device
    backward = _timed(lambda: _backward(contender, problem), device)
    step = _timed(contender.optimizer.step, device)
    clear = _timed(contender.optimizer.zero_grad, device)
    whole = (sum(part) for part in zip(backward, step, clear, strict=True))
    return Seconds(*whole), step


def _backward(contender: Contender, problem: Problem) -> None:
    logits = contender.model(problem.inputs)
    F.cross_entropy(logits.flatten(0, -2), problem.targets.flatten()).backward()


def _timed(work: Callable[[], Any], device: torch.device) -> Seconds:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _peak_bytes(contender: Contender, problem: Problem) -> int:
    """Highest memory of a training step: of its tensors, not of the process.

    A process gives memory back when it likes; what was allocated is the same in every run.
    """
    device = problem.inputs.device
    held = sum(p.numel() * p.element_size() for p in contender.model.parameters())
    held += _tensor_bytes(contender.optimizer.state_dict())
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _train(contender, problem)
        return held + torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's notes would cut the table up
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _train(contender, problem)
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    current = peak = 0
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return held + peak


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(map(_tensor_bytes, tree.values()))
    return sum(map(_tensor_bytes, tree)) if isinstance(tree, list | tuple) else 0
