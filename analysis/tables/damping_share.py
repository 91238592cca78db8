"""How much of F is damping: damping / F, at the first evaluation, halfway and at the last.

Mean over the parameters, then over the seeds, with the 95 % Student-t interval. At 100 % curvature
changes nothing: the step is that of SGD with the learning rate lr/damping, whose momentum is a
running mean. ``least`` and ``most``: the layers with the smallest and the largest share, where runs
tell of their layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.render import CSV_ONLY, MISSING, range_text
from analysis.results.damping import COMMAND, Shares, damping_shares
from analysis.results.load import Absent, Results
from analysis.results.methods import ONE_EACH, methods_of
from analysis.statistics.summary import LEVEL, Floats, moments

INDEX = ["task", "method", "when"]
SHOWN = ["share (%)", "interval", "n", "least", "most"]
IN_FULL = ["low", "high", "level"]
NOTE = ONE_EACH
NOTHING = Absent(
    "No run tells of its damping.",
    COMMAND,
    "runs two that do",
)
PARTS = {"first": 0.0, "halfway": 0.5, "last": 1.0}
"""Of all evaluations of a run that have a share."""


def build(results: Results) -> pd.DataFrame:
    """Build the flat table, three rows for each method of a block that tells of its damping."""
    shares = damping_shares(results, "step")
    rows: dict[tuple[str, str, str], list[object]] = {}
    for title, methods in methods_of(results).items():
        for method in methods:
            run_ids = [run_id for run_id in method.done["run_id"] if run_id in shares.whole]
            for when, part in PARTS.items() if run_ids else ():
                values = _at(shares.whole, run_ids, part)
                _, mean, _, low, high = (float(number) for number in moments(values))
                ends = (low, high) if np.isfinite(low) else (None, None)
                rows[title, method.name, when] = [
                    mean,
                    range_text(*ends),
                    len(values),
                    *_extremes(shares.layers, run_ids, part),
                    *ends,
                    LEVEL,
                ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*SHOWN, *IN_FULL], dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs |= {MISSING: NOTHING, CSV_ONLY: IN_FULL}
    return table


def _at(shares: Shares, run_ids: Sequence[str], part: float) -> Floats:
    """Give the share of each run at a part of its evaluations, ``[runs]``, in percent."""
    series = [shares[run_id][1] for run_id in run_ids if run_id in shares]
    return 100 * np.array([values[round(part * (len(values) - 1))] for values in series])


def _extremes(layers: Mapping[str, Shares], run_ids: Sequence[str], part: float) -> tuple[str, str]:
    """Name the layers with the smallest and the largest mean, with it; empty without layers."""
    found = {name: _at(of, run_ids, part) for name, of in layers.items()}
    means = {name: float(values.mean()) for name, values in found.items() if values.size}
    if not means:
        return "", ""
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    return f"{means[least]:.1f} ({least})", f"{means[most]:.1f} ({most})"
