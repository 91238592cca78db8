"""Which of a model's weights a method preconditions, and what share it leaves as it is."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from torch.optim import Optimizer

REMARKABLE_PERCENT = 1.0
NAMED = 2  # parameters that a remark names for each reason


class TransformCoverage(NamedTuple):
    """Which of the trainable parameters a transform rewrites, by name.

    Attributes:
        curvature: Those whose gradient is preconditioned.
        identity: All others; they keep their raw gradient.
        reasons: Why, for each of ``identity``.
    """

    curvature: tuple[str, ...]
    identity: tuple[str, ...]
    reasons: dict[str, str]


def coverage_of(model: nn.Module, left_alone: Mapping[str, str]) -> TransformCoverage:
    """Sort the trainable parameters of a model.

    Args:
        model: The model; a shared parameter counts once, under its first name.
        left_alone: Why a parameter keeps its raw gradient, by name.
    """
    names = [name for name, param in model.named_parameters() if param.requires_grad]
    identity = tuple(name for name in names if name in left_alone)
    covered = tuple(name for name in names if name not in left_alone)
    return TransformCoverage(covered, identity, {name: left_alone[name] for name in identity})


def left_alone_percent(optimizer: Optimizer, model: nn.Module) -> float | None:
    """Share of the trainable weights whose gradient a method takes as it is, in percent.

    Args:
        optimizer: A method; one with ``coverage()`` tells.
        model: What it trains.

    Returns:
        None where the method does not tell, as a first-order method has nothing to.
    """
    coverage = getattr(optimizer, "coverage", None)
    if coverage is None:
        return None
    return _percent(model, coverage().identity)


def remarks(name: str, optimizer: Optimizer, model: nn.Module) -> list[str]:
    """One line where more than ``REMARKABLE_PERCENT`` of the weights are left alone, with reasons.

    Args:
        name: Of the method.
        optimizer: The method; one whose ``coverage()`` has no reasons remarks by itself.
        model: What it trains.
    """
    coverage = getattr(optimizer, "coverage", None)
    found = None if coverage is None else coverage()
    if (
        not isinstance(found, TransformCoverage)
        or _percent(model, found.identity) <= REMARKABLE_PERCENT
    ):
        return []
    alike: dict[str, list[str]] = defaultdict(list)
    for parameter, reason in found.reasons.items():
        alike[reason].append(parameter)
    shares = sorted(((_percent(model, each), why) for why, each in alike.items()), reverse=True)
    parts = [f"{share:.1f} % {why} ({_some(alike[why])})" for share, why in shares if share > 0.05]
    return [
        f"{name}: {_percent(model, found.identity):.1f} % of the weights keep their raw gradient: "
        + "; ".join(parts)
    ]


def _percent(model: nn.Module, names: tuple[str, ...] | list[str]) -> float:
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    return 100.0 * sum(sizes.get(name, 0) for name in names) / max(1, sum(sizes.values()))


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
