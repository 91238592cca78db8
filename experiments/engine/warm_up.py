"""What a run pays once, paid before its clock starts.

In its first steps torch compiles, chooses kernels, loads libraries and starts threads. So the model
and its optimizer are built once from the same config, take one step of each kind, and are gone
before the run builds its own.
"""

import contextlib
import gc
import time
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from experiments import seeding
from experiments.config import budget
from experiments.config.run_config import RunConfig
from experiments.engine.build import build
from experiments.engine.built import Built
from experiments.engine.evaluation import forward
from experiments.engine.loop import Trainer
from experiments.engine.ranks import Ranks
from experiments.records.calibration import Calibration
from experiments.system import process
from experiments.tasks.batches import mapped, rows
from experiments.tasks.task import Task


def warm_up(
    config: RunConfig,
    world: Ranks,
    *,
    task: Task,
    calibration: Calibration | None = None,
    scales: Tensor | None = None,
) -> float:
    """Take one step of each kind that a run has, and leave nothing of them.

    The kinds are the first step, one of the others, a refresh of the curvature that is not the
    first, a ragged last batch and a batch of an evaluation: those that the run comes to, and no
    more steps than half of its own, so that a smoke run stays one. What a step raises the run meets
    at the same place, and tells of; but of several processes one alone may meet it, and ends here.

    Args:
        config: The resolved config.
        world: The processes that train it; all have to call.
        task: As for ``build``.
        calibration: As for ``build``.
        scales: As for ``build``.

    Returns:
        Seconds that it took.
    """
    began = time.perf_counter()
    with seeding.streams_kept(), _cycles_collected(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run gives them again
        _take_steps(config, world, task, calibration, scales)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    return time.perf_counter() - began


def _take_steps(
    config: RunConfig,
    world: Ranks,
    task: Task,
    calibration: Calibration | None,
    scales: Tensor | None,
) -> None:
    batching, method = config.task.batching, config.optimizer
    length = batching.steps_per_epoch(len(task.train))
    limits = budget.limits(config.budget, steps_per_epoch=length, calibration=calibration)
    most = float("inf") if limits.steps is None else limits.steps
    count = 2
    if scales is None and 1 < method.refresh_period < most:
        assert method.refresh_key is not None
        # Whether refreshes fall on even or odd steps, three steps have two of them.
        config = config.having(optimizer=method.having(**{method.refresh_key: 2}).values)
        count = 3
    built = build(config, world, calibration=calibration, task=task, scales=scales)
    last = 0 if batching.drop_last or most < length else len(task.train) % batching.batch_size
    try:
        trainer = Trainer(built, seed=config.seed)
        seed = seeding.derive(config.seed, "data", 0)
        inputs, targets = next(task.train.batches(batching.batch_size, seed=seed))
        for _ in range(max(1, int(min(count, most / 2)))):
            trainer.train_on(inputs, targets)
        if 0 < last < rows(inputs):
            trainer.train_on(*mapped(lambda part: part[:last], (inputs, targets)))
        _evaluate_a_batch(built)
    except Exception:
        if world.size > 1:
            raise


@torch.no_grad()
def _evaluate_a_batch(built: Built) -> None:
    split = built.task.test if built.task.validation is None else built.task.validation
    assert split is not None  # a task is judged on one of them
    built.model.eval()
    forward(built, *built.world.share(*next(split.batches(built.eval_batch_size))))


@contextlib.contextmanager
def _cycles_collected() -> Iterator[None]:
    """Free what is made within, where hooks and parameters hold one another.

    What was there before is not searched: that takes longer than the steps of a small model.
    """
    # To count what is frozen takes as long as some steps.
    is_frozen = process.started == "forked"
    if not is_frozen:
        gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        if not is_frozen:
            gc.unfreeze()
