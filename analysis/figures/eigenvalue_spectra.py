"""Spectra of Kronecker factors, with and without noise off the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.kronecker_panels import CLEAN, NOISY, factor_panels
from analysis.plots.missing import Missing
from analysis.plots.panels import describe, logarithmic, spread_ticks
from analysis.results.load import Results
from analysis.results.studies import Arrays
from analysis.style import INK, LEAST_LINE, SOFT

EPSILON = float(np.finfo(np.float64).eps)
NOTE = (
    "Eigenvalues in descending order, both axes logarithmic. With noise: Gaussian, standard "
    "deviation {noise_std:g}, added to the entries off the diagonal, symmetrically. Diagonal: the "
    "diagonal entries in descending order, which would be the eigenvalues of a diagonal factor. "
    "Dashed: Kaiser's criterion, 1. Eigenvalues that are not positive, up to rounding, are not "
    "drawn; the title counts them."
)
LOOKS: dict[str, dict[str, Any]] = {
    "factor": {"color": CLEAN, "ls": "-", "marker": "o"},
    "with noise": {"color": NOISY, "ls": "--", "marker": "x"},
    "diagonal": {"color": INK, "ls": ":"},
}


def build(results: Results) -> Figure | Missing:
    """Draw the spectra of each factor and step."""
    entries = {name: Line2D([], [], **look) for name, look in LOOKS.items()}
    return factor_panels(results, NOTE, draw_spectra, height=1.9, entries=entries)


def draw_spectra(ax: Axes, arrays: Arrays, factor: str, step: int) -> str:
    """Draw the spectra of one factor on ``ax`` and say how many eigenvalues it does not show."""
    series = {
        "factor": arrays[f"{factor}_eigenvalues"][step],
        "with noise": arrays[f"{factor}_eigenvalues_noisy"][step],
        "diagonal": np.sort(arrays[f"{factor}_centers"][step])[::-1],
    }
    hidden = []
    logarithmic(ax.xaxis)
    logarithmic(ax.yaxis)
    describe(ax, x="index", y="eigenvalue")
    for name, values in series.items():
        index = np.arange(1, len(values) + 1)
        # Below that an eigenvalue is a rounding error, as a rank is commonly told.
        shown = values > len(values) * EPSILON * max(float(values.max()), 0.0)
        if count := int((~shown).sum()):
            hidden.append(f"{name} {count}")
        every = np.unique(np.geomspace(1, max(1, int(shown.sum())), 10).astype(int) - 1)
        ax.plot(
            index[shown],
            values[shown],
            markevery=list(every) if shown.any() else None,
            label=name,
            **LOOKS[name],
        )
    ax.axhline(1.0, color=SOFT, lw=LEAST_LINE, ls=(0, (5, 3)), label="_kaiser")
    for axis in (ax.xaxis, ax.yaxis):
        spread_ticks(axis)
    return f"; not positive: {', '.join(hidden)}" if hidden else ""
