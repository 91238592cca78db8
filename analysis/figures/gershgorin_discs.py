"""Gershgorin's discs and eigenvalues of Kronecker factors: does the diagonal tell the spectrum?

Around each diagonal entry lies a disc whose radius is the sum of the magnitudes of the other
entries of its row, and every eigenvalue lies in one of the discs: small ones mean that the diagonal
alone says where the eigenvalues are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.kronecker_panels import CLEAN, NOISY, factor_panels
from analysis.plots.missing import Missing
from analysis.plots.panels import describe
from analysis.results.load import Results
from analysis.results.studies import Arrays
from analysis.style import INK, LEAST_LINE

MOST_DRAWN = 50  # discs; more are pixels, or each would be a line of the file
NOTE = (
    "Discs: centre at a diagonal entry, radius the sum of the magnitudes of the rest of its row. "
    "Crosses: eigenvalues, real as the factors are symmetric. In the title, how many rows have a "
    "diagonal entry above that sum; the eigenvalues would be near the centres if all had."
)


def build(results: Results) -> Figure | Missing:
    """Draw a complex plane for each factor and step."""
    entries: dict[str, dict[str, Any]] = {
        "disc of a row": {"marker": "o", "mfc": "none", "mec": CLEAN, "ms": 6},
        "centre: diagonal entry": {"marker": "|", "color": INK, "ms": 6},
        "eigenvalue": {"marker": "x", "color": NOISY},
    }
    # A collection of ellipses has no place in a legend.
    handles = {name: Line2D([], [], ls="", **look) for name, look in entries.items()}
    return factor_panels(results, NOTE, draw_discs, height=2.0, entries=handles)


def draw_discs(ax: Axes, arrays: Arrays, factor: str, step: int) -> str:
    """Draw the discs of one factor on ``ax`` and say how many rows are dominant."""
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
            lw=LEAST_LINE,
            rasterized=len(radii) > MOST_DRAWN,
        )
    )
    flat = np.zeros_like(centers)
    ax.plot(centers, flat, "|", color=INK, ms=6, label="centre: diagonal entry")
    ax.plot(eigenvalues, flat, "x", color=NOISY, ms=3.5, mew=0.8, label="eigenvalue")
    corners = np.array([(centers - radii).min(), (centers + radii).max()])
    ax.update_datalim(np.column_stack([corners, [-radii.max(), radii.max()]]))
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    describe(ax, x="real part", y="imaginary part")
    dominant = int((np.abs(centers) > radii).sum())
    return f": {dominant} of {len(centers)} dominant"
