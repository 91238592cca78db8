"""What the status of a run tells of it: how far it came, what it cost, and its results."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from experiments.engine.built import Built
from experiments.engine.loop import Counters, Row
from experiments.optimizers.left_alone import left_alone_percent
from experiments.records.calibration import Calibration
from experiments.records.schema import final_and_best
from experiments.system.memory import Peak


def progress(
    built: Built,
    counters: Counters,
    rows: Sequence[Row],
    *,
    setup_seconds: float,
    start_seconds: float | None,
) -> dict[str, Any]:
    """Say how far the run came.

    Args:
        built: The run.
        counters: Where its training stands.
        rows: Its evaluations.
        setup_seconds: What this attempt took to warm up.
        start_seconds: What it took to its first step, with that; None before it.
    """
    return {
        "step": counters.step,
        "epoch": counters.step / built.steps_per_epoch,
        "train_seconds": counters.train_seconds,
        "evaluation_seconds": None if built.task.test is None else counters.evaluation_seconds,
        "validation_seconds": None
        if built.task.validation is None
        else counters.validation_seconds,
        "setup_seconds": setup_seconds,
        "start_seconds": start_seconds,
        "total_steps": built.total_steps,
        "last_row_step": rows[-1]["step"] if rows else None,
    }


def summary(
    built: Built,
    counters: Counters,
    rows: Sequence[Row],
    matched: Calibration | None,
    peak: Peak,
    *,
    constant: float | None,
) -> dict[str, Any]:
    """Costs, what the budget gave, and the result columns.

    Args:
        built: The run.
        counters: Where its training stands.
        rows: Its evaluations.
        matched: What a step costs, where the budget matches a training time.
        peak: What the process has added since the attempt began.
        constant: What the best constant prediction has on test; None: it is not known.
    """
    task = built.task
    left_alone = left_alone_percent(built.optimizer, built.model)
    return {
        "parameters": sum(p.numel() for p in built.model.parameters()),
        "state_bytes": _tensor_bytes(built.optimizer.state_dict()),
        "form": built.form,
        "peak_memory_bytes": _peak_memory_bytes(built.device, peak),
        **({} if left_alone is None else {"left_alone_percent": left_alone}),
        f"{task.unit}_per_second": counters.total_count / max(counters.train_seconds, 1e-9),
        **_budget(built, counters, matched),
        "constant_prediction": constant,
        **final_and_best(rows, task.metric, task.higher_is_better),
        **({"best_test": None} if built.tests_at_best else {}),
    }


def _budget(built: Built, counters: Counters, matched: Calibration | None) -> dict[str, Any]:
    """Say what the budget gave, and what came of it."""
    facts: dict[str, Any] = {}
    if built.limits.given_seconds is not None:
        facts["budget_train_seconds"] = built.limits.given_seconds
    if built.limits.target is not None:
        facts["target_metric"] = built.task.judged_on
        facts["steps_to_target"] = counters.steps_to_target
        facts["train_seconds_to_target"] = counters.train_seconds_to_target
    if matched is not None:
        facts["calibration"] = matched.summary()
    return facts


def _peak_memory_bytes(device: torch.device, peak: Peak) -> int:
    is_cuda = device.type == "cuda"
    return torch.cuda.max_memory_allocated(device) if is_cuda else peak.added_bytes()


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_tensor_bytes(item) for item in value)
    return 0
