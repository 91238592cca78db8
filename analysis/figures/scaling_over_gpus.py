"""Scaling over GPUs (AdaFisher, appendix A.4, Table 6): seconds an epoch against their number.

The published times, hollow and dashed, beside ours. A run says how many GPUs it had by its
``setting``, as ``2_gpu``.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.missing import Missing
from analysis.plots.panels import MOST_PANELS, describe, few, legend, note, panels, plain
from analysis.published.numbers import read_published
from analysis.results.costs import seconds_per_epoch
from analysis.results.load import Results
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.summary import Floats
from analysis.style import FAINT, LEAST_LINE, PAPER, RC, style_of

COMMAND = (
    "for n in 1 2 3 4; do .venv/bin/torchrun --standalone --nproc-per-node=$n "
    "-m experiments.train experiment=table6 data_dir=data; done"
)
SETTING = r"^(\d+)_gpu$"
SAME = ["task", "model", "budget", "precision", "batch_size"]  # what makes times comparable
TABLE = 6
PUBLISHED = f"published, Table {TABLE}"
NOTE = (
    f"Line: mean over seeds. Band: {BAND}. n: runs at each number of GPUs, of those started where "
    "some did not end done. Hollow and dashed: published, on GPUs that the paper "
    "does not name, and with the pass over the test set, which ours leave out. Grey: ideal, a time "
    "that falls as one over the number, from each line's first point."
)


@dataclass(frozen=True)
class Panel:
    """What one subplot shows.

    Attributes:
        title: Task, model and what else makes times comparable.
        runs: Ours, of ``scaled_runs``.
        published: Rows of ``published.csv``, with ``gpus``.
    """

    title: str
    runs: pd.DataFrame
    published: pd.DataFrame


def build(results: Results) -> Figure | Missing:
    """Draw one subplot a task, model, budget and batch, one line a method; published ones too."""
    runs = scaled_runs(results)
    if runs.empty:
        return Missing(COMMAND)
    shown = panels_of(runs)
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown[:MOST_PANELS]))
        entries: dict[str, Line2D] = {}
        for ax, panel in zip(axes, shown, strict=False):
            describe(ax, panel.title, "GPUs (processes)", "training time an epoch (s)")
            entries |= draw_scaling(ax, panel.runs, panel.published)
        legend(figure, entries)
        note(figure, NOTE + few(shown))
    return figure


def panels_of(runs: pd.DataFrame) -> list[Panel]:
    """Lay out our runs, and the published times beside those that join them, else alone."""
    rows = read_published()
    rows = rows[rows["table"] == TABLE]
    rows = rows.assign(gpus=rows["setting"].str.extract(SETTING)[0].astype(float))
    left = dict(list(rows.groupby(["dataset", "model"])))
    found = []
    joined = set()
    for key, block in runs.groupby(SAME, sort=True, dropna=False):
        *names, batch = key if isinstance(key, tuple) else (key,)
        said = block["published_as"].iloc[0]
        name = (said.get("task"), said.get("model"))
        joined.add(name)
        title = f"{', '.join(map(str, names))}, batch {batch}"
        found.append(Panel(title, block, left.get(name, rows[:0])))
    found += [
        Panel(", ".join(map(str, name)), runs[:0], part)
        for name, part in left.items()
        if name not in joined
    ]
    return found


def scaled_runs(results: Results) -> pd.DataFrame:
    """Pick the runs whose setting tells a number of GPUs, of panels in which one of them is done.

    Adds gpus, method, and seconds, NaN where the run is not done or does not tell.
    """
    runs = results.runs[results.runs["control"] == ""]
    seconds = runs["run_id"].map(seconds_per_epoch(results)).astype(float)
    runs = runs.assign(
        gpus=runs["setting"].astype(str).str.extract(SETTING)[0].astype(float),
        seconds=seconds.where(runs["status"] == "done"),
    ).dropna(subset=["gpus"])
    runs = runs[runs.groupby(SAME, dropna=False)["seconds"].transform("count") > 0]
    several = runs.groupby("optimizer")["ruleset"].transform("nunique") > 1
    named = runs["optimizer"] + ", " + runs["ruleset"]
    return runs.assign(method=runs["optimizer"].where(~several, named))


def draw_scaling(ax: Axes, runs: pd.DataFrame, published: pd.DataFrame) -> dict[str, Line2D]:
    """Draw seconds an epoch against the number of GPUs on ``ax`` and return the lines by name."""
    drawn: dict[str, Line2D] = {}
    for name, part in published.groupby("optimizer", sort=True):
        rows = part.sort_values("gpus")
        gpus, seconds = rows["gpus"].to_numpy(), rows["mean"].to_numpy()
        shown = f"{name}, {PUBLISHED}"
        look = style_of(str(name)).plot() | {"linestyle": "--", "mfc": PAPER}
        _ideal(ax, gpus, seconds[0])
        (drawn[shown],) = ax.plot(gpus, seconds, label=plain(shown), ms=5, **look)
    for name, part in runs.groupby("method", sort=True):
        optimizer = part["optimizer"].iloc[0]
        variant = "" if name == optimizer else str(name)
        style = style_of(optimizer, part["family"].iloc[0], variant)
        gpus = np.unique(part["gpus"])
        series = [part.loc[part["gpus"] == count, "seconds"].to_numpy() for count in gpus]
        seeds = np.full((max(map(len, series)), len(gpus)), np.nan)
        for column, values in enumerate(series):
            seeds[: len(values), column] = values
        n, mean, _, low, high = bootstrap(seeds)
        started = np.array([len(values) for values in series])
        shown = f"{name} ({_seeds(n, started)})"
        if (there := np.isfinite(mean)).any():
            _ideal(ax, gpus[there], mean[there][0])
        (drawn[shown],) = ax.plot(gpus, mean, label=plain(shown), **style.plot())
        if np.isfinite(low).any():
            ax.fill_between(gpus, low, high, color=style.color, alpha=0.14, lw=0)
    ax.set_xticks(np.unique([*runs["gpus"], *published["gpus"]]))
    ax.set_ylim(bottom=0)
    return drawn


def _ideal(ax: Axes, gpus: Floats, first: float) -> None:
    x = np.linspace(gpus[0], gpus[-1], 61)
    ax.plot(x, first * gpus[0] / x, color=FAINT, lw=LEAST_LINE, zorder=1)


def _seeds(n: Floats, started: npt.NDArray[np.int64]) -> str:
    """Say n at the numbers of GPUs, as ``n=2``, ``n=1 to 3`` or ``n=0/3 to 3``."""
    pairs = sorted({(int(has), int(of)) for has, of in zip(n, started, strict=True)})
    texts = [f"{has}" if has == of else f"{has}/{of}" for has, of in pairs]
    return f"n={texts[0]}" if len(texts) == 1 else f"n={texts[0]} to {texts[-1]}"
