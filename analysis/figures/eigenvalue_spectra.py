"""Spectra of Kronecker factors, with and without noise off the diagonal."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.kronecker_panels import CLEAN, NOISY, factor_panels
from analysis.plots.missing import Missing
from analysis.plots.panels import legend_below
from analysis.results.load import Results
from analysis.results.studies import Arrays

EPSILON = float(np.finfo(np.float64).eps)
NOTE = (
    "Eigenvalues in descending order, both axes logarithmic. With noise: Gaussian, standard "
    "deviation {noise_std:g}, added to the entries off the diagonal, symmetrically. Diagonal: the "
    "diagonal entries in descending order, which would be the eigenvalues of a diagonal factor. "
    "Dashed: Kaiser's criterion, 1. Eigenvalues that are not positive, up to rounding, are not "
    "drawn; their number is in the legend."
)


def build(results: Results) -> Figure | Missing:
    """Draw the spectra of each factor and step."""
    return factor_panels(results, NOTE, draw_spectra, width=5.4, height=4.9, rc={})


def draw_spectra(ax: Axes, arrays: Arrays, factor: str, step: int) -> Axes:
    """Draw the spectra of one factor on ``ax`` and return it."""
    series = {
        "factor": (arrays[f"{factor}_eigenvalues"][step], CLEAN, "-", "o"),
        "with noise": (arrays[f"{factor}_eigenvalues_noisy"][step], NOISY, "--", "x"),
        "diagonal": (np.sort(arrays[f"{factor}_centers"][step])[::-1], "#000000", ":", None),
    }
    labels = []
    ax.set(xscale="log", yscale="log", xlabel="index", ylabel="eigenvalue")
    for name, (values, color, dash, marker) in series.items():
        index = np.arange(1, len(values) + 1)
        # Below that an eigenvalue is a rounding error, as a rank is commonly told.
        shown = values > len(values) * EPSILON * max(float(values.max()), 0.0)
        hidden = int((~shown).sum())
        label = name + (f" ({hidden} not positive)" if hidden else "")
        every = np.unique(np.geomspace(1, max(1, int(shown.sum())), 10).astype(int) - 1)
        ax.plot(
            index[shown],
            values[shown],
            dash,
            color=color,
            marker=marker,
            markevery=list(every) if shown.any() else None,
            ms=6,
            lw=1.7,
            label=label,
        )
        labels.append(label)
    ax.axhline(1.0, color="#777777", lw=1, ls=(0, (5, 3)), label="_kaiser")
    legend_below(ax, labels)
    return ax
