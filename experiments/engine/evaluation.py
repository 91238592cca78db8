"""What a model gives for a batch, and what an evaluation measures over whole splits."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.engine.built import Built
from experiments.tasks.task import IGNORE, Split


def forward(built: Built, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[rows, classes]``, not below float32, and targets ``[rows]``.

    Args:
        built: The run, whose model is called as in training.
        inputs: ``[batch, ...]``, as a split gives them.
        targets: ``[batch, ...]``.
    """
    inputs = inputs.to(built.device, non_blocking=True)
    if built.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with built.precision.autocast():
        logits = built.forward(inputs)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.flatten(0, -2), targets.to(built.device, non_blocking=True).flatten()


@torch.no_grad()
def evaluate(built: Built, split: Split) -> dict[str, float]:
    """Metrics over a whole split, weighted by images or tokens; all processes have to call.

    The sums are taken in float64, row by row, so they depend on the evaluation batch size only
    through the arithmetic inside the model.

    Args:
        built: The run.
        split: One of its task's.
    """
    built.model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for batch in split.batches(built.eval_batch_size):
        logits, targets = forward(built, *built.world.share(*batch))
        losses = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
        loss_sum += losses.cpu().double().sum().item()
        correct += int((logits.argmax(-1) == targets).sum())
        count += int((targets != IGNORE).sum())
    built.model.train()
    loss_sum, *counts = built.world.sum([loss_sum, correct, count])
    correct, count = (int(number) for number in counts)
    return split.metrics(loss_sum, correct, count)


def curvature_columns(built: Built) -> dict[str, float]:
    """Give what an optimizer with ``curvature_stats`` says of its curvature as a whole."""
    stats = getattr(built.optimizer, "curvature_stats", None)
    if stats is None or built.strategy == "fsdp":  # it would be of one part only
        return {}
    columns = stats().overall._asdict()
    return {f"curvature_{k}": value for k, value in columns.items() if math.isfinite(value)}
