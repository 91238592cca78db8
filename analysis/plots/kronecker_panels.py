"""What the figures of Kronecker factors share: the study, the names of the factors, the panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import describe, legend, note, panels
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.style import BLUE, RC, VERMILLION

COMMAND = "make study FIG=kronecker"
SYMBOLS = {"activation": "H (activations)", "grad": "S (gradients)"}
CLEAN, NOISY = BLUE, VERMILLION
SCALES = {
    "max": "Each factor is divided by its largest diagonal entry.",
    "minmax": "The entries of each factor are brought to [0, 1] by Min-Max.",
}

Draw = Callable[[Axes, Arrays, str, int], str]


def factor_panels(
    results: Results,
    text: str,
    draw: Draw,
    *,
    height: float,
    entries: Mapping[str, Artist] | None = None,
) -> Figure | Missing:
    """Draw a panel for each factor and step of the study, a row a factor.

    Args:
        results: What is drawn from.
        text: How to read the figure; ``{noise}`` in it is the standard deviation of the noise.
        draw: Called with the axes, the arrays, the factor's name and the index of the step; it
            gives what is to be said of the panel, in its title.
        height: Of a panel, in inches.
        entries: Of the legend.
    """
    study = load_study(results.runs_dir, "kronecker")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    steps = arrays["steps"]
    with mpl.rc_context(RC):
        figure, axes = panels(2 * len(steps), columns=len(steps), height=height)
        for index, ax in enumerate(axes):
            factor, step = list(SYMBOLS)[index // len(steps)], index % len(steps)
            said = draw(ax, arrays, factor, step)
            describe(ax, f"{SYMBOLS[factor]}, step {steps[step]:,}{said}")
        legend(figure, entries or {})
        note(figure, f"{where(facts)} {SCALES[facts['normalization']]} {text}".format(**facts))
    return figure


def where(facts: dict[str, Any]) -> str:
    """Say what was trained, and which layer is shown."""
    run = f"{facts['optimizer']} on {facts['task']}, seed {facts['seed']}"
    return f"Layer {facts['layer']} of {facts['model']}, trained by {run}."
