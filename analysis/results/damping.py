"""How much of F is damping, as runs tell of it: over the whole model, and by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analysis.results.load import Results
from analysis.statistics.summary import Floats
from experiments.records.schema import DAMPING_SHARE

COMMAND = "make sweep OPT=adafisher,adafisher_released ARGS=curvature_by_layer=true"
"""What makes runs that tell of their layers."""

Shares = Mapping[str, tuple[Floats, Floats]]
"""An axis and damping / F by run id."""


@dataclass(frozen=True)
class DampingShares:
    """Mean of damping / F over parameters, at each evaluation of a run.

    Attributes:
        whole: Over those of the model.
        layers: Over those of each layer, by its name, of whatever model.
    """

    whole: Shares
    layers: Mapping[str, Shares]


def layers_of(columns: Iterable[str]) -> list[str]:
    """Name the layers that a run tells of, in the order of its model."""
    return [name.removeprefix(DAMPING_SHARE) for name in columns if name.startswith(DAMPING_SHARE)]


def damping_shares(results: Results, axis: str) -> DampingShares:
    """Find the shares of all runs.

    Args:
        results: What was read.
        axis: Column that they are over, as ``step``.
    """
    names = dict.fromkeys(name for of in results.curves.values() for name in layers_of(of))
    layers = {name: results.series_by_run(f"{DAMPING_SHARE}{name}", axis) for name in names}
    return DampingShares(results.series_by_run(DAMPING_SHARE.rstrip("/"), axis), layers)
