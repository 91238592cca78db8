"""What the id of a run is made of: of its config, all that says what is trained."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from experiments.config.suite_keys import SUITE

Values = Mapping[str, Any]

IDENTIFYING = ("name", "family", "needs", "schedule", "epochs", "weights", "sha256", "ema")
"""Keys of ``suite`` that are part of a run's id; whatever else stands there is none."""

# Where a run reads and writes, how it is shown, and notes: none of it changes a measurement.
# Neither does the number of processes, nor how they share the model, but by rounding.
NOT_HASHED = (
    "data_dir",
    "runs_dir",
    "cache_dir",
    "tracking",
    "threads",
    "retry",
    "fresh",
    "files",
    "grids",
    "tune",
    "recipe",
    "distributed",
    "tuning",
    "origin",
    "jobs",
    "runs_per_job",
    "processes",
    "fail_fast",
    "deterministic",
    "untuned",
    "memory_limit_gb",
    "evaluate_test",
    "curvature_by_layer",
    "budget.by_optimizer",
    "budget.measured",
    "pretrained.minimum_percent",
    "model.weights_dir",
    "task.workers",
)
# Nulls that were hashed from the first. Every other null is left out at any depth, and so is a
# value that the section's `neutral` names: an argument that comes later changes no id while it
# changes nothing, but by rounding.
NULLS = (
    "setting",
    "pretrained.source",
    "model.weights",
    "optimizer.shampoo_beta",
    "optimizer.ema_decay",
    "budget.reference_steps",
    "schedule.horizon_epochs",
)


def essence(values: Values) -> dict[str, Any]:
    """Leave out of a config, at any depth, what is no part of an id."""
    return {
        key: _essential(key, value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if key not in NOT_HASHED and (value is not None or key in NULLS)
    }


def digest(value: Any) -> str:
    """Hash plain values, whatever the order of their keys, to twelve hexadecimal digits."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _essential(key: str, values: Values) -> dict[str, Any]:
    suite = values.get(SUITE) or {}
    said = {name: suite[name] for name in IDENTIFYING if name in suite}
    own = {**{name: value for name, value in values.items() if name != SUITE}, **said}
    return without_neutral(
        {name: value for name, value in own.items() if f"{key}.{name}" not in NOT_HASHED},
        f"{key}.",
        {f"{key}.{name}": value for name, value in (suite.get("neutral") or {}).items()},
    )


def without_neutral(section: Values, prefix: str, neutral: Values) -> dict[str, Any]:
    """Leave out of a section what is at a value that leaves an id as it is.

    Args:
        section: Its arguments.
        prefix: What their names begin with, as ``optimizer.``.
        neutral: Those values, by full name.
    """
    kept: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in neutral:
            # A null beside a neutral value that is none is a choice of its own.
            if _canonical(value) != _canonical(neutral[name]):
                kept[key] = value
        elif isinstance(value, Mapping):
            kept[key] = without_neutral(value, f"{name}.", neutral)
        elif value is not None or name in NULLS:
            kept[key] = value
    return kept


def _canonical(value: Any) -> Any:
    """One spelling for each value: ``1`` and ``1.0`` are the same number to every method."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
