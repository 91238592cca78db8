"""Fourier transform and signal-to-noise ratio of Kronecker factors, with and without noise."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.plots.kronecker_panels import COMMAND, SCALES, SYMBOLS, where
from analysis.plots.missing import Missing
from analysis.plots.panels import describe, narrow, note, panels
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.style import RC

NOTE = (
    "Axes: frequencies of columns and rows, zero in the middle. Colour: magnitude of the "
    "two-dimensional Fourier transform, on one logarithmic scale a row, the least 3 per cent cut. "
    "A diagonal of equal entries would be a single line from corner to corner. SNR: 10 log10 of "
    "the squared diagonal over the squared entries above it, by sums as printed in the paper's "
    "Appendix A.1; in brackets by the means that the released notebook takes, which is 10 log10 n "
    "more. Noise: standard deviation {noise_std:g}, symmetric."
)


def build(results: Results) -> Figure | Missing:
    """Draw two transforms for each factor and step."""
    study = load_study(results.runs_dir, "kronecker")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    steps = arrays["steps"]
    with mpl.rc_context({**RC, "axes.grid": False}):
        figure, axes = panels(4 * len(steps), columns=2 * len(steps), height=1.75)
        for index, ax in enumerate(axes):
            factor = list(SYMBOLS)[index // (2 * len(steps))]
            step, noisy = divmod(index % (2 * len(steps)), 2)
            image = draw_transform(ax, arrays, factor, step, noisy=bool(noisy))
            which = ", with noise" if noisy else ""
            ratio = arrays[f"{factor}_snr_db"][step, noisy]
            mean = arrays[f"{factor}_snr_mean_db"][step, noisy]
            head = f"{SYMBOLS[factor]}, step {steps[step]:,}{which}"
            describe(ax, f"{head}; SNR {ratio:.2f} dB ({mean:.2f} dB)")
            if index % (2 * len(steps)) == 2 * len(steps) - 1:
                narrow(figure.colorbar(image, ax=ax, label="magnitude"))
        note(figure, f"{where(facts)} {SCALES[facts['normalization']]} {NOTE}".format(**facts))
    return figure


def draw_transform(ax: Axes, arrays: Arrays, factor: str, step: int, *, noisy: bool) -> AxesImage:
    """Draw one transform on ``ax`` and return the image."""
    both = np.stack([arrays[f"{factor}_fft"], arrays[f"{factor}_fft_noisy"]])
    positive = both[both > 0]
    low, high = (np.percentile(positive, 3), positive.max()) if positive.size else (0.1, 1.0)
    pixels = both[int(noisy), step]
    half = arrays[f"{factor}_centers"].shape[1] / 2
    image = ax.imshow(
        np.maximum(pixels, low),
        norm=LogNorm(low, high * 1.0001),
        cmap="cividis",
        interpolation="nearest",
        extent=(-half, half, half, -half),
    )
    describe(ax, x="column", y="row")
    return image
