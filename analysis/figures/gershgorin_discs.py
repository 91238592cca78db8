"""Gershgorin's discs and eigenvalues of Kronecker factors: does the diagonal tell the spectrum?

Around each diagonal entry lies a disc whose radius is the sum of the magnitudes of the other
entries of its row, and every eigenvalue lies in one of the discs: small ones mean that the diagonal
alone says where the eigenvalues are.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from analysis.plots.kronecker_panels import CLEAN, NOISY, factor_panels
from analysis.plots.missing import Missing
from analysis.plots.panels import legend_below
from analysis.results.load import Results
from analysis.results.studies import Arrays

NOTE = (
    "Discs: centre at a diagonal entry, radius the sum of the magnitudes of the rest of its row. "
    "Crosses: eigenvalues, real as the factors are symmetric. In the title, how many rows have a "
    "diagonal entry above that sum; the eigenvalues would be near the centres if all had."
)


def build(results: Results) -> Figure | Missing:
    """Draw a complex plane for each factor and step."""
    return factor_panels(results, NOTE, draw_discs, width=5.4, height=4.9, rc={})


def draw_discs(ax: Axes, arrays: Arrays, factor: str, step: int) -> Axes:
    """Draw the discs of one factor on ``ax`` and return it."""
    centers, radii = arrays[f"{factor}_centers"][step], arrays[f"{factor}_radii"][step]
    eigenvalues = arrays[f"{factor}_eigenvalues"][step]
    ax.add_collection(
        EllipseCollection(
            2 * radii,
            2 * radii,
            np.zeros_like(radii),
            units="xy",
            offsets=np.column_stack([centers, np.zeros_like(centers)]),
            offset_transform=ax.transData,
            facecolor="none",
            edgecolor=CLEAN,
            alpha=min(1.0, 0.05 + 30 / len(radii)),
            lw=0.8,
        )
    )
    flat = np.zeros_like(centers)
    # A collection of ellipses has no place in a legend.
    ax.plot([], [], "o", mfc="none", mec=CLEAN, ms=11, label="disc of a row")
    ax.plot(centers, flat, "|", color="black", ms=11, label="centre: diagonal entry")
    ax.plot(eigenvalues, flat, "x", color=NOISY, ms=6, mew=1.3, label="eigenvalue")
    corners = np.array([(centers - radii).min(), (centers + radii).max()])
    ax.update_datalim(np.column_stack([corners, [-radii.max(), radii.max()]]))
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="real part", ylabel="imaginary part")
    dominant = int((np.abs(centers) > radii).sum())
    ax.set_title(f"{ax.get_title()}: {dominant} of {len(centers)} dominant", fontsize=12)
    labels = ["disc of a row", "centre: diagonal entry", "eigenvalue"]
    legend_below(ax, labels)
    return ax
