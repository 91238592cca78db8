"""How the result depends on one setting of runs that agree in all others: lines and heat map."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.emphasis import GREY, chosen, rule
from analysis.plots.missing import Missing
from analysis.plots.panels import (
    describe,
    legend,
    logarithmic,
    note,
    number,
    plain,
    short_names,
    side,
    spans_decades,
    spread_ticks,
)
from analysis.published.numbers import records
from analysis.results.load import Results
from analysis.results.settings import setting_key, setting_titles
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.summary import Floats
from analysis.style import (
    LEAST_FONT,
    MOST_HEIGHT,
    ON_DARK,
    ON_LIGHT,
    RC,
    TEXT_WIDTH,
    Style,
    metric_label,
    style_of,
)

NAMES = {"lr": "learning rate", "batch_size": "batch size (samples a step)"}
ENDED_BADLY = ("diverged", "out_of_memory", "failed")
NOTE = (
    "Runs that differ in the {name} and seed only. Above: mean of the final test metric over "
    "seeds. Band: {band}. A cross at the bottom: at least one run diverged, ran out of memory or "
    "failed there, and is not in the mean. Below: the same means, brighter is better; n/m: of m "
    "runs n are in it, where that is not all; grey: none is."
)
NO_NUMBERS = " Cells have no numbers where there is no room for them."
CROSS = 0.035  # height of a cross as a part of the axes: several at one place are piled up
LINES, LABELS = 1.55, 0.42  # inches of the lines, and of the labels of a heat map
ROW, TWO_LINES = 0.13, 0.22  # of a row of it
CELL = 0.27  # inches that a number takes across
LETTERS = 20  # of a method's name at the left


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

    @property
    def counted(self) -> Floats:
        """Runs that are in the mean at each value, ``[values]``: what is not done is not."""
        n: Floats = np.isfinite(self.results).sum(axis=0).astype(np.float64)
        return n


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
    heights = {title: _height(methods) for title, methods in blocks.items()}
    columns = 1 if sum(heights.values()) <= MOST_HEIGHT else 2
    rows = max(1, int(MOST_HEIGHT / max(heights.values())))
    shown = dict(list(blocks.items())[: rows * columns])
    coloured = chosen(
        ({one.name: _best(one) for one in methods}, methods[0].higher_is_better)
        for methods in shown.values()
    )
    entries: dict[str, Line2D] = {}
    bare: dict[str, list[Dependence]] = {}
    with mpl.rc_context(RC):
        rows = -(-len(shown) // columns)
        inches = [LINES, max(heights[title] for title in shown) - LINES]
        figure = Figure(figsize=(TEXT_WIDTH, rows * sum(inches)), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=inches * rows)
        for ax in grid.ravel():
            ax.set_axis_off()
        for place, (title, methods) in enumerate(shown.items()):
            row, column = divmod(place, columns)
            lines, heat = grid[2 * row, column], grid[2 * row + 1, column]
            lines.set_axis_on()
            heat.set_axis_on()
            of = metric_label(f"test_{methods[0].metric}", methods[0].units)
            describe(lines, title, NAMES[setting], of)
            draw_lines(lines, methods, coloured)
            entries |= {m.name: Line2D([], [], **m.style.plot()) for m in methods}
            higher = methods[0].higher_is_better
            if not draw_heat_map(heat, methods, higher_is_better=higher):
                bare[title] = methods
            heat.set_label(plain(f"{title}: {of}"))
            describe(heat, x=NAMES[setting])
        grey = [name for name in entries if name not in coloured]
        legend(
            figure,
            {name: line for name, line in entries.items() if name in coloured}
            | {f"{len(grey)} others": Line2D([], [], **GREY) for _ in grey[:1]},
        )
        text = NOTE.format(name=NAMES[setting].split(" (")[0], band=BAND)
        text += rule(entries, coloured, what="best mean") + _without_numbers(bare)
        if len(shown) < len(blocks):
            text += f" The first {len(shown)} of {len(blocks)} settings are drawn."
        note(figure, text)
    return figure


def _height(methods: list[Dependence]) -> float:
    """Inches of a block: its lines, and a row a method."""
    return LINES + LABELS + len(methods) * (TWO_LINES if _is_counted(methods) else ROW)


def _is_counted(methods: list[Dependence]) -> bool:
    """Tell whether some cell has a number of runs below its mean."""
    return any((one.counted < one.runs).any() for one in methods)


def _without_numbers(blocks: Mapping[str, list[Dependence]]) -> str:
    """Say for the note what cells without numbers do not: where not all runs are in the mean."""
    lacking = [
        f"{one.name} at {number(value)} on {title}: {counted:.0f}/{runs:.0f}"
        for title, methods in blocks.items()
        for one in methods
        for value, counted, runs in zip(one.x, one.counted, one.runs, strict=True)
        if counted < runs
    ]
    listed = f" Not all runs are in the means of {'; '.join(lacking)}." if lacking else ""
    return f"{NO_NUMBERS}{listed}" if blocks else ""


def _best(method: Dependence) -> float:
    """Best mean over the values."""
    mean = bootstrap(method.results)[1]
    finite = mean[np.isfinite(mean)]
    if not finite.size:
        return float("nan")
    return float(finite.max() if method.higher_is_better else finite.min())


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
    runs["title"] = _told_apart(runs)
    controls = runs["control"].map(lambda control: f" ({control} control)" if control else "")
    runs["name"] = runs["optimizer"] + controls
    for (title, _), block in runs.groupby(["title", "apart"], sort=True):
        several = [
            part
            for _, part in block.groupby(["name", "rest"], sort=True)
            if part["value"].nunique() > 1
        ]
        times = pd.Series([part["name"].iloc[0] for part in several]).value_counts()
        for index, part in enumerate(several):
            optimizer, name = part["optimizer"].iloc[0], part["name"].iloc[0]
            if times[name] > 1:
                name = f"{name} {part['ruleset'].iloc[0]} ({index + 1})"
            variant = "" if name == optimizer else name
            style = style_of(optimizer, part["family"].iloc[0], variant)
            found.setdefault(str(title), []).append(_dependence(name, style, part))
    return found


def _told_apart(runs: pd.DataFrame) -> pd.Series:
    """Give a number to titles that several settings share, as one timed on two days does."""
    places = {
        (title, apart): f"{title} ({number})"
        for title, of in runs.groupby("title")["apart"]
        if of.nunique() > 1
        for number, apart in enumerate(sorted(of.unique()), start=1)
    }
    pairs = zip(runs["title"], runs["apart"], strict=True)
    return pd.Series([places.get(pair, pair[0]) for pair in pairs], index=runs.index, dtype=str)


def draw_lines(ax: Axes, methods: list[Dependence], coloured: Collection[str]) -> Axes:
    """Draw one line a method on ``ax`` and return it."""
    logarithmic(ax.xaxis)
    edge_of_axes, crosses = ax.get_xaxis_transform(), Counter[float]()
    for method in methods:
        _, mean, _, low, high = bootstrap(method.results)
        shown = method.name in coloured
        look = method.style.plot() if shown else GREY
        ax.plot(method.x, mean, label=plain(method.name), **look)
        if shown and np.isfinite(low).any():
            ax.fill_between(method.x, low, high, color=look["color"], alpha=0.14, lw=0)
        bad = method.x[method.ended_badly > 0]
        if bad.size:  # the layout takes an empty line for one at the corner of the figure
            heights = [CROSS * crosses[value] for value in bad]
            crosses.update(bad)
            edge: dict[str, Any] = {"transform": edge_of_axes, "clip_on": False, "zorder": 5}
            ax.plot(bad, heights, "x", color=look["color"], ms=4.5, mew=1.1, **edge)
    if _is_logarithmic(methods, np.concatenate([bootstrap(m.results)[1] for m in methods])):
        logarithmic(ax.yaxis)
        spread_ticks(ax.yaxis)
    values = np.unique(np.concatenate([method.x for method in methods]))
    if len(values) <= 8 and (values[1:] / values[:-1]).min() > 1.8:  # else they would collide
        ax.set_xticks(values, [number(value) for value in values])
        ax.minorticks_off()
    else:
        spread_ticks(ax.xaxis)
    return ax


def draw_heat_map(ax: Axes, methods: list[Dependence], *, higher_is_better: bool) -> bool:
    """Draw methods by values on ``ax``, brighter where better; tells if cells have numbers."""
    values = np.unique(np.concatenate([method.x for method in methods]))
    shown = np.full((len(methods), len(values)), np.nan)
    for row, method in enumerate(methods):
        shown[row, np.searchsorted(values, method.x)] = bootstrap(method.results)[1]
    norm = mpl.colors.LogNorm() if _is_logarithmic(methods, shown) else mpl.colors.Normalize()
    colours = mpl.colormaps["viridis" if higher_is_better else "viridis_r"]
    colours = colours.with_extremes(bad="#DDDDDD")
    pixels = np.ma.masked_invalid(shown)
    image = ax.imshow(pixels, aspect="auto", cmap=colours, norm=norm, interpolation="nearest")
    short = short_names((method.name for method in methods), LETTERS)
    ax.set_yticks(range(len(methods)), [plain(name) for name in short.values()])
    room = (side(ax) - 1.0) / len(values)
    few = range(0, len(values), max(1, int(np.ceil(0.12 / room))))
    ax.set_xticks(few, [number(values[each]) for each in few], rotation=0 if room > 0.4 else 60)
    ax.grid(visible=False)
    if room < CELL:
        return False
    for row, method in enumerate(methods):
        for column, runs, counted in zip(
            np.searchsorted(values, method.x), method.runs, method.counted, strict=True
        ):
            text = _cell(shown[row, column], int(runs), int(counted))
            dark = np.isfinite(shown[row, column]) and _is_dark(image, shown[row, column])
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": LEAST_FONT}
            ax.text(column, row, text, color=ON_DARK if dark else ON_LIGHT, **place)
    return True


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


def _cell(mean: float, runs: int, counted: int) -> str:
    if not np.isfinite(mean):
        return f"0/{runs}"
    return f"{mean:.3g}" if counted == runs else f"{mean:.3g}\n{counted}/{runs}"


def _is_dark(image: mpl.image.AxesImage, value: float) -> bool:
    red, green, blue, _ = image.to_rgba(np.array([value]))[0]
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45)


def _is_logarithmic(methods: list[Dependence], values: Floats) -> bool:
    return spans_decades(values) and not methods[0].metric.endswith("_percent")
