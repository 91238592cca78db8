"""Which runs are the scalar controls of which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.results.load import Results

COMMAND = (
    ".venv/bin/python -m experiments.train -m control=scalar optimizer=adafisher task=digits "
    "ruleset=tuned seed=0,1,2"
)


@dataclass(frozen=True)
class Controlled:
    """A method and its control, in one block of comparable runs.

    Attributes:
        title: Of the block.
        pair: Their rows of ``group_runs``, the method's first.
        runs: The run-level rows of each.
    """

    title: str
    pair: pd.DataFrame
    runs: tuple[pd.DataFrame, pd.DataFrame]

    @property
    def metric(self) -> str:
        """Name of the metric, without its split."""
        return str(self.pair["metric"].iloc[0])

    @property
    def units(self) -> dict[str, str]:
        """What loss and metrics are counted in, by name."""
        units: dict[str, str] = self.pair["units"].iloc[0]
        return units


def controlled(results: Results) -> Iterator[Controlled]:
    """Find each control whose method has run too."""
    groups = results.groups.set_index("group_id", drop=False)
    members = dict(list(results.runs.groupby("group_id")))
    for _, control in groups.iterrows():
        source = control["control_of"]
        if source and source in groups.index:
            pair = groups.loc[[source, control["group_id"]]]
            yield Controlled(
                str(control["title"]), pair, (members[source], members[control["group_id"]])
            )
