"""What a model gives for a batch, and what an evaluation measures over whole splits."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.engine.built import Built
from experiments.records.schema import DAMPING_SHARE
from experiments.tasks.batches import mapped
from experiments.tasks.task import Split


def forward(built: Built, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Give the outputs, not below float32, and the targets, both on the device of the run.

    Args:
        built: The run, whose model is called as in training.
        inputs: ``[batch, ...]``, as a split gives them.
        targets: ``[batch, ...]``.
    """

    def call(inputs: Any) -> Any:
        if built.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with built.precision.autocast():
            return built.forward(inputs)

    return passed(call, inputs, targets, built.device)


def passed(
    model: Callable[[Any], Any], inputs: Any, targets: Any, device: torch.device
) -> tuple[Any, Any]:
    """Pass a batch through a model on a device, as a run and the trial of a task do.

    Args:
        model: Gives outputs for inputs.
        inputs: ``[batch, ...]``, as a split gives them.
        targets: ``[batch, ...]``.
        device: Where the model is.

    Returns:
        As of ``forward``.
    """

    def placed(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return mapped(_at_least_float32, model(mapped(placed, inputs))), mapped(placed, targets)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@torch.no_grad()
def evaluate(built: Built, split: Split) -> dict[str, float]:
    """Loss and metrics over a whole split; all processes have to call.

    The sums are taken in float64, so they depend on the evaluation batch size only through the
    arithmetic inside the model.

    Args:
        built: The run.
        split: One of its task's.
    """
    objective = built.task.objective
    built.model.eval()
    sums: dict[str, tuple[float, float]] = {}
    for batch in split.batches(built.eval_batch_size):
        found = objective.sums(*forward(built, *built.world.share(*batch)))
        for name, (total, count) in found.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + total, before[1] + count)
    built.model.train()
    numbers = iter(built.world.sum([number for pair in sums.values() for number in pair]))
    return objective.measured({name: (next(numbers), next(numbers)) for name in sums}, split.facts)


def curvature_columns(built: Built, *, by_layer: bool) -> dict[str, float]:
    """Give what an optimizer with ``curvature_stats`` says of its curvature as a whole.

    Args:
        built: The run.
        by_layer: Whether to add how much of F is damping in each layer.
    """
    stats = getattr(built.optimizer, "curvature_stats", None)
    if stats is None or built.strategy == "fsdp":  # it would be of one part only
        return {}
    overall, layers = stats()
    columns = {f"curvature_{key}": value for key, value in overall._asdict().items()}
    if by_layer:
        columns |= {f"{DAMPING_SHARE}{name}": layer.damping_share for name, layer in layers.items()}
    return {key: value for key, value in columns.items() if math.isfinite(value)}
