"""How the result depends on one setting of runs that agree in all others: lines and heat map."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import RC, legend_below, legend_height, note, plain, spans_decades
from analysis.published.numbers import records
from analysis.results.load import Results
from analysis.results.settings import setting_key, setting_titles
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.summary import Floats
from analysis.style import Style, metric_label, style_of

NAMES = {"lr": "learning rate", "batch_size": "batch size (samples a step)"}
ENDED_BADLY = ("diverged", "out_of_memory", "failed")
NOTE = (
    "Runs that differ in the {name} and seed only. Left: mean of the final test metric over seeds. "
    "Band: {band}. A cross at the bottom: at least one run diverged, ran out of memory or "
    "failed there, and is not in the mean. Right: the same means, brighter is better; n/m: of m "
    "runs n are in it; grey: none is."
)
CROSS = 0.035  # height of a cross as a part of the axes: several at one place are piled up
MOST_NUMBERS = 12  # columns of a heat map that leave each cell room for its number


@dataclass(frozen=True)
class Dependence:
    """What one method gives at each value of a setting.

    Attributes:
        name: The method.
        metric: What the results are, without the split.
        higher_is_better: Whether larger results are.
        units: What loss and metrics are counted in, by name.
        style: Colour, dash and marker.
        x: Values of the setting, ascending, ``[values]``.
        results: The final metric, ``[seeds, values]``, NaN where a seed has none.
        runs: Runs at each value, whatever became of them, ``[values]``.
        ended_badly: Of these, those that diverged, ran out of memory or failed, ``[values]``.
    """

    name: str
    metric: str
    higher_is_better: bool
    units: Mapping[str, str]
    style: Style
    x: Floats
    results: Floats
    runs: Floats
    ended_badly: Floats


def draw_dependence(results: Results, setting: str, command: str) -> Figure | Missing:
    """Draw one row a block of comparable runs: lines, and a heat map of methods by values.

    Args:
        results: What to draw.
        setting: ``lr`` or ``batch_size``.
        command: What makes such runs.
    """
    blocks = dependences(results.runs, setting)
    if not blocks:
        return Missing(command)
    with mpl.rc_context(RC):
        longest = max(len(methods) for methods in blocks.values())
        height = 4.3 + legend_height(longest)
        figure = Figure(figsize=(13.4, height * len(blocks) + 0.4), layout="constrained")
        grid = figure.subplots(len(blocks), 2, squeeze=False)
        for (left, right), (title, methods) in zip(grid, blocks.items(), strict=True):
            label = metric_label(f"test_{methods[0].metric}", methods[0].units)
            left.set(title=plain(title), xlabel=NAMES[setting], ylabel=plain(label))
            draw_lines(left, methods)
            draw_heat_map(right, methods, higher_is_better=methods[0].higher_is_better)
            right.set(title=plain(f"{title}: {label}"), xlabel=NAMES[setting])
        note(figure, NOTE.format(name=NAMES[setting].split(" (")[0], band=BAND))
    return figure


def dependences(runs: pd.DataFrame, setting: str) -> dict[str, list[Dependence]]:
    """Find, in each block, the methods that were run at several values of ``setting``.

    Two runs belong together where all of the protocol, optimizer, ruleset, control and
    hyperparameters agree, ``setting`` excepted. Of groups of seeds that agree in the value too,
    as runs of two versions of the code, the one with most runs counts.
    """
    found: dict[str, list[Dependence]] = {}
    if runs.empty:
        return found
    titles = setting_titles(runs, without=setting)
    apart = [setting_key(run, without=setting) for run in records(runs)]
    runs = runs.assign(
        apart=apart,
        value=[_value(run, setting) for _, run in runs.iterrows()],
        rest=[_rest(run, setting) for _, run in runs.iterrows()],
    )
    runs["value"] = pd.to_numeric(runs["value"], errors="coerce")
    runs = runs[runs["value"] > 0]
    runs["title"] = runs["block"].map(titles)
    for (title, _), block in runs.groupby(["title", "apart"], sort=True):
        several = [
            part
            for _, part in block.groupby(["optimizer", "rest"], sort=True)
            if part["value"].nunique() > 1
        ]
        times = pd.Series([part["optimizer"].iloc[0] for part in several]).value_counts()
        for index, part in enumerate(several):
            optimizer, ruleset = part["optimizer"].iloc[0], part["ruleset"].iloc[0]
            name = optimizer if times[optimizer] == 1 else f"{optimizer} {ruleset} ({index + 1})"
            variant = "" if times[optimizer] == 1 else name
            style = style_of(optimizer, part["family"].iloc[0], variant)
            found.setdefault(str(title), []).append(_dependence(name, style, part))
    return found


def draw_lines(ax: Axes, methods: list[Dependence]) -> Axes:
    """Draw one line a method on ``ax`` and return it."""
    ax.set_xscale("log")
    edge_of_axes, crosses = ax.get_xaxis_transform(), Counter[float]()
    for method in methods:
        _, mean, _, low, high = bootstrap(method.results)
        ax.plot(method.x, mean, label=plain(method.name), **method.style.plot())
        if np.isfinite(low).any():
            ax.fill_between(method.x, low, high, color=method.style.color, alpha=0.14, lw=0)
        bad = method.x[method.ended_badly > 0]
        if bad.size:  # the layout takes an empty line for one at the corner of the figure
            heights = [CROSS * crosses[value] for value in bad]
            crosses.update(bad)
            edge: dict[str, Any] = {"transform": edge_of_axes, "clip_on": False, "zorder": 5}
            ax.plot(bad, heights, "x", color=method.style.color, ms=8, mew=2, **edge)
    if _is_logarithmic(methods, np.concatenate([bootstrap(m.results)[1] for m in methods])):
        ax.set_yscale("log")
    values = np.unique(np.concatenate([method.x for method in methods]))
    if len(values) <= 8 and (values[1:] / values[:-1]).min() > 1.8:  # else they would collide
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    legend_below(ax, [method.name for method in methods])
    return ax


def draw_heat_map(ax: Axes, methods: list[Dependence], *, higher_is_better: bool) -> Axes:
    """Draw methods by values on ``ax``, brighter where better, and return it."""
    values = np.unique(np.concatenate([method.x for method in methods]))
    shown = np.full((len(methods), len(values)), np.nan)
    for row, method in enumerate(methods):
        shown[row, np.searchsorted(values, method.x)] = bootstrap(method.results)[1]
    logarithmic = _is_logarithmic(methods, shown)
    norm = mpl.colors.LogNorm() if logarithmic else mpl.colors.Normalize()
    colours = mpl.colormaps["viridis" if higher_is_better else "viridis_r"]
    colours = colours.with_extremes(bad="#DDDDDD")
    image = ax.imshow(np.ma.masked_invalid(shown), aspect="auto", cmap=colours, norm=norm)
    ax.set_yticks(range(len(methods)), [plain(method.name) for method in methods])
    ax.set_xticks(
        range(len(values)),
        [f"{value:g}" for value in values],
        rotation=0 if len(values) <= 6 else 60,
    )
    ax.grid(visible=False)
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax)
    for row, method in enumerate(methods):
        for column, runs, bad in zip(
            np.searchsorted(values, method.x), method.runs, method.ended_badly, strict=True
        ):
            text = _cell(shown[row, column], int(runs), int(runs - bad))
            if len(values) <= MOST_NUMBERS:
                dark = np.isfinite(shown[row, column]) and _is_dark(image, shown[row, column])
                ink = "white" if dark else "black"
                ax.text(column, row, text, ha="center", va="center", fontsize=8.5, color=ink)
    return ax


def _dependence(name: str, style: Style, part: pd.DataFrame) -> Dependence:
    most = part.groupby(["value", "group_id"]).size().sort_values(kind="stable").reset_index()
    chosen = set(most.drop_duplicates("value", keep="last")["group_id"])
    at = {
        float(str(value)): runs
        for value, runs in part[part["group_id"].isin(chosen)].groupby("value")
    }
    seeds = sorted(part["seed"].unique())
    values = np.full((len(seeds), len(at)), np.nan)
    for column, runs in enumerate(at.values()):
        done = runs[runs["status"] == "done"]
        values[[seeds.index(seed) for seed in done["seed"]], column] = done["final"].astype(float)
    return Dependence(
        name=name,
        metric=str(part["metric"].iloc[0]),
        higher_is_better=bool(part["higher_is_better"].iloc[0]),
        units=part["units"].iloc[0],
        style=style,
        x=np.array(list(at), dtype=np.float64),
        results=values,
        runs=np.array([len(runs) for runs in at.values()], dtype=np.float64),
        ended_badly=np.array(
            [runs["status"].isin(ENDED_BADLY).sum() for runs in at.values()], dtype=np.float64
        ),
    )


def _value(run: pd.Series, setting: str) -> Any:
    return run["batch_size"] if setting == "batch_size" else run["hyperparameters"].get(setting)


def _rest(run: pd.Series, setting: str) -> str:
    """Everything of the method that must agree, as one text."""
    kept = {key: run[key] for key in ("ruleset", "control")}
    kept |= {key: value for key, value in run["hyperparameters"].items() if key != setting}
    return json.dumps(kept, sort_keys=True, default=str)


def _cell(mean: float, runs: int, well: int) -> str:
    if not np.isfinite(mean):
        return f"0/{runs}"
    return f"{mean:.3g}" if well == runs else f"{mean:.3g}\n{well}/{runs}"


def _is_dark(image: mpl.image.AxesImage, value: float) -> bool:
    red, green, blue, _ = image.to_rgba(np.array([value]))[0]
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45)


def _is_logarithmic(methods: list[Dependence], values: Floats) -> bool:
    return spans_decades(values) and not methods[0].metric.endswith("_percent")
