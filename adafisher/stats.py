"""What is read on demand and kept nowhere: who has curvature, its spread, the step it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from adafisher.coverage import Coverage
from adafisher.curvature import Curvature
from adafisher.execution.sharding import local
from adafisher.execution.step import form_fisher_diag
from adafisher.fisher import CurvatureTerm
from adafisher.reasons import embedding_tables, reasons

_SAMPLE = 1 << 20  # entries of a parameter that are sorted; of larger ones every n-th
_LEVELS = (0.01, 0.5, 0.99)


class Spread(NamedTuple):
    """Spread of ``F / damping`` over the entries of some parameters, and what belongs to it.

    ``F / damping`` is 1 where the curvature is least and ``1 + 1 / damping`` where it is largest.
    Without an estimate there are no entries, and the five numbers and the two means are nan.

    Attributes:
        min: Least.
        percentile_1: One entry in a hundred is below. Of a parameter of more than 2^20 entries,
            evenly spaced ones stand for all in this and the next two.
        median: Half are below.
        percentile_99: One in a hundred is above.
        max: Largest.
        effective_lr: Mean of ``lr / F``, by which the bias-corrected momentum is multiplied.
        damping_share: Mean of ``damping / F``: how much of F is damping, at most 1. At 1 the
            curvature changes nothing, and the method is momentum with the rate ``lr / damping``.
        entries: Number of entries.
        dropped: Estimates that were dropped because they were not finite.
        memory_bytes: Factors, their normalised form and waiting rows. Momentum is not in it.
    """

    min: float
    percentile_1: float
    median: float
    percentile_99: float
    max: float
    effective_lr: float
    damping_share: float
    entries: int
    dropped: int
    memory_bytes: int


class CurvatureStats(NamedTuple):
    """What ``curvature_stats()`` returns.

    Attributes:
        overall: Over every parameter that has curvature, one of several layers counted once.
        layers: The same for each layer by name; a parameter of several layers is in each of them.
    """

    overall: Spread
    layers: dict[str, Spread]


@dataclass
class Entries:
    """Entries of one parameter's ``F / damping``: a sorted sample, and exact sums.

    Attributes:
        sample: Sorted, ``[n]``.
        weight: Entries that one of the sample stands for.
        low: Least of all entries.
        high: Largest of all entries.
        step_sum: Sum of ``lr / F`` over all entries.
        share_sum: Sum of ``damping / F`` over all entries.
        count: All entries.
    """

    sample: Tensor
    weight: float
    low: float
    high: float
    step_sum: float
    share_sum: float
    count: int


def coverage_of(
    parameters: Iterable[tuple[dict[str, Any], str, Tensor]],
    curvature: Curvature,
    *,
    names: Mapping[Tensor, str],
) -> Coverage:
    """Gather which parameters of an optimizer have curvature.

    Args:
        parameters: Group, name and parameter of everything that is optimized.
        curvature: Says which have it.
        names: Of all parameters of the model.
    """
    owners, capture = curvature.owners, curvature.capture
    params = {name: param for _, name, param in parameters}
    why = reasons(capture.model, {param for param in params.values() if param not in owners})
    tables = embedding_tables(capture.model)
    layers = capture.layers.items()
    return Coverage(
        curvature=tuple(name for name, param in params.items() if param in owners),
        identity=tuple(name for name, param in params.items() if param not in owners),
        identity_steps=dict(curvature.identity_steps),
        dropped={name: layer.dropped for name, layer in layers if layer.dropped},
        partial=tuple(names[param] for param in capture.first.partial or ()),
        reasons={name: why[param] for name, param in params.items() if param in why},
        elements={name: 0 if is_lazy(param) else param.numel() for name, param in params.items()},
        embeddings=tuple(name for name, param in params.items() if param in tables),
    )


def curvature_stats(
    parameters: Iterable[tuple[dict[str, Any], str, Tensor]], curvature: Curvature
) -> CurvatureStats:
    """Gather the statistics of an optimizer, a parameter at a time.

    Args:
        parameters: Group, name and parameter of everything that is optimized.
        curvature: Where their terms come from.
    """
    entries = {
        param: entries_of(  # of a sharded parameter this rank's part
            local(param), curvature.terms(param), damping=group["damping"], lr=group["lr"]
        )
        for group, _, param in parameters
    }
    layers, held = {}, {}
    for name, layer in curvature.capture.layers.items():
        held[name] = curvature.tensors(layer)
        layers[name] = spread(
            [entries.get(param) for _, param in layer.roles()],
            dropped=layer.dropped,
            memory_bytes=memory_bytes(held[name]),
        )
    overall = spread(
        entries.values(),
        dropped=sum(layer.dropped for layer in layers.values()),
        memory_bytes=memory_bytes(tensor for tensors in held.values() for tensor in tensors),
    )
    return CurvatureStats(overall, layers)


@torch.no_grad()
def entries_of(
    param: Tensor, terms: Sequence[CurvatureTerm], *, damping: float, lr: float
) -> Entries | None:
    """Take the entries of a parameter's ``F``, see ``form_fisher_diag``.

    Args:
        param: Parameter, any shape.
        terms: One pair for every layer that it belongs to.
        damping: Added to the diagonal.
        lr: Learning rate of the parameter.

    Returns:
        The entries, or None without a term.
    """
    if not terms or not param.numel():
        return None
    flat = form_fisher_diag(param, terms, damping=damping).flatten()
    spacing = -(-flat.numel() // _SAMPLE)
    sample = flat[::spacing].sort().values
    low, high = torch.aminmax(flat)
    reciprocals = float(flat.reciprocal().sum(dtype=torch.float64))
    return Entries(
        sample=sample.double().cpu() / damping,
        weight=flat.numel() / sample.numel(),
        low=float(low) / damping,
        high=float(high) / damping,
        step_sum=lr * reciprocals,
        share_sum=damping * reciprocals,
        count=flat.numel(),
    )


def spread(parts: Iterable[Entries | None], *, dropped: int, memory_bytes: int) -> Spread:
    """Put the entries of several parameters together.

    Args:
        parts: Entries of each parameter, or None.
        dropped: For ``Spread.dropped``.
        memory_bytes: For ``Spread.memory_bytes``.
    """
    found = [part for part in parts if part is not None]
    if not found:
        nan = float("nan")
        return Spread(nan, nan, nan, nan, nan, nan, nan, 0, dropped, memory_bytes)
    count = sum(part.count for part in found)
    values, order = torch.cat([part.sample for part in found]).sort()
    weights = torch.cat([part.sample.new_full(part.sample.shape, part.weight) for part in found])
    below = weights[order].cumsum(0)
    levels = torch.tensor([level * count for level in _LEVELS], dtype=below.dtype)
    places = torch.searchsorted(below, levels).clamp_(max=values.numel() - 1)
    low, median, high = values[places].tolist()
    return Spread(
        min=min(part.low for part in found),
        percentile_1=low,
        median=median,
        percentile_99=high,
        max=max(part.high for part in found),
        effective_lr=sum(part.step_sum for part in found) / count,
        damping_share=sum(part.share_sum for part in found) / count,
        entries=count,
        dropped=dropped,
        memory_bytes=memory_bytes,
    )


def memory_bytes(tensors: Iterable[Any]) -> int:
    """Count the bytes of some tensors, each of them once; None is skipped."""
    return sum({t.data_ptr(): t.nbytes for t in tensors if t is not None}.values())
