"""Measures optimizers side by side on one training problem, in turn within one process.

Times of one round are compared with each other only, so that a machine whose speed drifts, or is
shared, still gives sound ratios. Both wall and processor time are kept.
"""

import copy
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from experiments.config.sections import Needs
from experiments.engine.step import backward, differentiable_forward


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
        needs: What it must be given.
        whole: Training steps: forward, backward, ``step`` and ``zero_grad``.
        within: The ``step`` of each training step.
        alone: Calls of ``step`` on standing gradients.
        state_bytes: Memory of the optimizer's state.
        peak_bytes: Highest memory of the training steps, parameters and state included.
    """

    name: str
    model: nn.Module
    optimizer: Optimizer
    needs: Needs = field(default_factory=Needs)
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
    needs: Mapping[str, Needs] | None = None,
    peak_steps: int = 1,
) -> list[Contender]:
    """Let optimizers train the same problem in turn.

    The order rotates by one every round, so that each follows each. The first two rounds are not
    counted: they allocate, and an optimizer that refreshes rarely does so in the first.

    Args:
        problem: What to train.
        makers: Constructors by name.
        steps: Counted training steps of each.
        calls: Counted calls of ``step`` alone; 0 where standing gradients are not enough.
        needs: What a method asks of the training step, by name.
        peak_steps: Steps over which the highest memory is looked for.

    Returns:
        The contenders, in the order of ``makers``.
    """
    contenders = []
    for name, maker in makers.items():
        model = copy.deepcopy(problem.model)
        flags = (needs or {}).get(name, Needs())
        contenders.append(Contender(name, model, maker(model), flags))
    for contender in _turns(contenders, steps + 2):
        whole, within = _train(contender, problem)
        contender.whole.append(whole)
        contender.within.append(within)
    for contender in contenders:
        del contender.whole[:2], contender.within[:2]
        maker, flags = makers[contender.name], contender.needs
        contender.peak_bytes = _peak_bytes(problem, maker, flags, peak_steps + 1)
        contender.state_bytes = _tensor_bytes(contender.optimizer.state_dict())
    if calls:
        _time_alone(contenders, problem, calls)
    return contenders


def first_step(problem: Problem, maker: Callable[[nn.Module], Optimizer], needs: Needs) -> Seconds:
    """Duration of the first training step of a method, which tells whether more are bearable."""
    model = copy.deepcopy(problem.model)
    return _train(Contender("first", model, maker(model), needs), problem)[0]


def _time_alone(contenders: list[Contender], problem: Problem, calls: int) -> None:
    for contender in contenders:
        _backward(contender, problem)
    with warnings.catch_warnings():
        # The gradients stand still on purpose, and so come without a pass that would refresh.
        warnings.filterwarnings("ignore", "AdaFisher: no rows came", UserWarning)
        for contender in _turns(contenders, calls + 2):
            contender.alone.append(_timed(contender.optimizer.step, problem.inputs.device))
    for contender in contenders:
        del contender.alone[:2]


def _turns(contenders: list[Contender], rounds: int) -> Iterable[Contender]:
    for index in range(rounds):
        first = index % len(contenders)
        yield from contenders[first:] + contenders[:first]


def _train(contender: Contender, problem: Problem) -> tuple[Seconds, Seconds]:
    """Time a training step, and the ``step`` in it."""
    device, optimizer = problem.inputs.device, contender.optimizer
    parts = []
    if contender.needs.closure:

        def closure() -> Tensor:
            optimizer.zero_grad()
            return _backward(contender, problem)

        step = _timed(lambda: optimizer.step(closure), device)  # type: ignore[arg-type]
    else:
        parts.append(_timed(lambda: _backward(contender, problem), device))
        step = _timed(optimizer.step, device)
    parts += [step, _timed(optimizer.zero_grad, device)]
    return Seconds(*(sum(each) for each in zip(*parts, strict=True))), step


def _backward(contender: Contender, problem: Problem) -> Tensor:
    create_graph = contender.needs.create_graph
    with differentiable_forward(create_graph):
        logits = contender.model(problem.inputs).flatten(0, -2)
    loss = F.cross_entropy(logits, problem.targets.flatten())
    if contender.needs.logits:  # the flag says that the method is there
        contender.optimizer.observe(logits)  # type: ignore[attr-defined]
    backward(loss, create_graph=create_graph)
    return loss.detach()


def _timed(work: Callable[[], Any], device: torch.device) -> Seconds:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _peak_bytes(
    problem: Problem,
    maker: Callable[[nn.Module], Optimizer],
    needs: Needs,
    steps: int,
) -> int:
    """Highest memory of the first training steps: of their tensors, not of the process.

    A process gives memory back when it likes; what was allocated is the same in every run. The
    model and its optimizer are made anew, so that all that is given back was seen to be taken.
    """

    def train() -> None:
        model = copy.deepcopy(problem.model)
        contender = Contender("memory", model, maker(model), needs)
        for _ in range(steps):
            _train(contender, problem)

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
