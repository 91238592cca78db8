"""Scaling over GPUs (AdaFisher, appendix A.4, Table 6): seconds an epoch against their number.

A run says how many it had by its ``setting``, as ``2_gpu``.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.bands import BAND, bootstrap
from analysis.costs import seconds_per_epoch
from analysis.load import Results
from analysis.missing import missing_figure
from analysis.panels import RC, legend_below, legend_height, note, panels, plain
from analysis.style import style_of

COMMAND = (
    "for n in 1 2 3 4; do .venv/bin/torchrun --standalone --nproc-per-node=$n "
    "-m experiments.train experiment=table6 data_dir=data; done"
)
SETTING = r"^(\d+)_gpu$"
SAME = ["task", "model", "budget", "precision", "batch_size"]  # what makes times comparable
NOTE = (
    f"Line: mean over seeds. Band: {BAND}. Grey: ideal, a time that falls as one over the number, "
    "from each line's first point."
)


def build(results: Results) -> Figure:
    """Draw one subplot a task, model, budget and batch, one line a method."""
    runs = scaled_runs(results)
    if runs.empty:
        return missing_figure(COMMAND)
    with mpl.rc_context(RC):
        blocks = list(runs.groupby(SAME, sort=True, dropna=False))
        longest = max(block["method"].nunique() for _, block in blocks)
        figure, axes = panels(len(blocks), height=4.3 + legend_height(longest))
        for ax, (key, block) in zip(axes, blocks, strict=True):
            *names, batch = key if isinstance(key, tuple) else (key,)
            ax.set_title(plain(f"{', '.join(map(str, names))}, batch {batch}"), fontsize=11)
            draw_scaling(ax, block)
        note(figure, NOTE)
    return figure


def scaled_runs(results: Results) -> pd.DataFrame:
    """Pick the finished runs whose setting tells a number of GPUs; adds gpus, seconds, method."""
    runs = results.runs[results.runs["status"] == "done"]
    runs = runs.assign(
        gpus=runs["setting"].astype(str).str.extract(SETTING)[0].astype(float),
        seconds=runs["run_id"].map(seconds_per_epoch(results)),
    ).dropna(subset=["gpus", "seconds"])
    several = runs.groupby("optimizer")["ruleset"].transform("nunique") > 1
    named = runs["optimizer"] + ", " + runs["ruleset"]
    return runs.assign(method=runs["optimizer"].where(~several, named))


def draw_scaling(ax: Axes, runs: pd.DataFrame) -> Axes:
    """Draw seconds an epoch against the number of GPUs on ``ax`` and return it."""
    labels = []
    for name, part in runs.groupby("method", sort=True):
        optimizer = part["optimizer"].iloc[0]
        variant = "" if name == optimizer else str(name)
        style = style_of(optimizer, part["family"].iloc[0], variant)
        gpus = np.unique(part["gpus"])
        series = [part.loc[part["gpus"] == count, "seconds"].to_numpy() for count in gpus]
        seeds = np.full((max(map(len, series)), len(gpus)), np.nan)
        for column, values in enumerate(series):
            seeds[: len(values), column] = values
        _, mean, _, low, high = bootstrap(seeds)
        labels.append(plain(f"{name} ({_seeds(series)})"))
        ax.plot(gpus, mean[0] * gpus[0] / gpus, color="#999999", lw=1, zorder=1)
        ax.plot(gpus, mean, label=labels[-1], **style.plot())
        if np.isfinite(low).any():
            ax.fill_between(gpus, low, high, color=style.color, alpha=0.16, lw=0)
    ax.set(xlabel="GPUs (processes)", ylabel="training time an epoch (s)")
    ax.set_xticks(np.unique(runs["gpus"]))
    ax.set_ylim(bottom=0)
    legend_below(ax, labels)
    return ax


def _seeds(series: list[np.ndarray]) -> str:
    counts = sorted({len(values) for values in series})
    return f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]} to {counts[-1]}"
