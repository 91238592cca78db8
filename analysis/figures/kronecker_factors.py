"""Kronecker factors of a layer as heat maps: how much of them is on the diagonal?"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.plots.kronecker_panels import factor_panels
from analysis.plots.missing import Missing
from analysis.plots.panels import describe, narrow
from analysis.results.load import Results
from analysis.results.studies import Arrays

LEAST = 1e-4  # of what is shown; the colour scale is logarithmic
NOTE = (
    "Colour: magnitude of each entry, of the running averages of H and S, on a logarithmic scale; "
    "what is below 0.0001 has the colour of 0.0001. A diagonal factor would be a bright line on "
    "dark. Number: the share of the sum of squares that is on the diagonal."
)


def build(results: Results) -> Figure | Missing:
    """Draw a heat map for each factor and step."""
    return factor_panels(results, NOTE, draw_factor, height=2.2)


def draw_factor(ax: Axes, arrays: Arrays, factor: str, step: int) -> str:
    """Draw one factor on ``ax`` and say how much of it is on the diagonal."""
    pixels = np.maximum(arrays[f"{factor}_matrix"][step], LEAST)
    size = arrays[f"{factor}_centers"].shape[1]
    image = ax.imshow(
        pixels,
        norm=LogNorm(LEAST, max(1.0, float(pixels.max()))),
        cmap="cividis",
        interpolation="nearest",
        extent=(0.5, size + 0.5, size + 0.5, 0.5),
    )
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=ax, label="magnitude", shrink=0.82, pad=0.02)
    narrow(bar)
    ax.grid(visible=False)
    # Off the diagonal each entry above has its twin below.
    ratio = 10.0 ** (arrays[f"{factor}_snr_db"][step, 0] / 10.0)
    share = 1.0 if np.isinf(ratio) else ratio / (ratio + 2.0)
    describe(ax, x="column", y="row")
    return f": {100 * share:.0f}% on the diagonal"
