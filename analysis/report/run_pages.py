"""What the report shows of each run: its facts, curves, command and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.render import number
from analysis.results.groups import command
from analysis.results.load import Results
from analysis.statistics.equality import subtract
from analysis.style import metric_label
from experiments.records.schema import CONFIG_FILE, ENVIRONMENT_FILE

MOST = 1000
"""Runs with a part of their own; more would make a page that no browser opens gladly."""

WIDTH, HEIGHT, MARGIN, TOP = 320, 160, 8, 22
LONGEST = 20_000  # characters of a file that are shown


def run_pages(results: Results, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Collect the facts of each run, the first ``MOST`` of them.

    Returns:
        For each run the row of ``Results.runs`` with ``title`` and ``label`` of its group, its
        ``command``, ``curves`` (see ``polylines``) and ``files`` (name and text).
    """
    names = groups[["group_id", "title", "label"]]
    shown = results.runs.head(MOST).merge(names, on="group_id", how="left")
    pages = []
    for number_of_row, (_, run) in enumerate(shown.iterrows()):
        facts = {str(key): value for key, value in run.items()}
        facts |= {key: _value(run[key]) for key in ("final", "best_test")}
        facts["command"] = command(shown.iloc[[number_of_row]])
        metrics = ("train_loss", f"test_{run['metric']}")
        columns = results.curves[run["run_id"]]
        drawn = (polylines(columns, metric, run["units"]) for metric in metrics)
        facts["curves"] = [curve for curve in drawn if curve]
        facts["files"] = _files(results.runs_dir, str(run["folder"]))
        pages.append(facts)
    return pages


def polylines(
    columns: Mapping[str, Any], metric: str, units: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Draw a metric against epochs as the points of SVG polylines.

    Returns:
        ``lines``, the points of each part between values that are not finite, and a ``label`` that
        says what is seen; None for fewer than two finite values.
    """
    if metric not in columns or "epoch" not in columns:
        return None
    measured = np.isfinite(columns["epoch"]) & ~np.isnan(columns[metric])
    x, y = columns["epoch"][measured], columns[metric][measured]
    finite = np.isfinite(y)
    if finite.sum() < 2:
        return None
    across = _scaled(x[finite], MARGIN, WIDTH - MARGIN)
    down = _scaled(-y[finite], TOP, HEIGHT - MARGIN)
    part = np.cumsum(~finite)[finite]
    lines = [
        " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across[of], down[of], strict=True))
        for of in (part == one for one in np.unique(part))
    ]
    ends = f"{number(float(y[finite][0]))} to {number(float(y[finite][-1]))}"
    return {"lines": lines, "label": f"{metric_label(metric, units)} by epoch: {ends}"}


def _scaled(values: Any, low: float, high: float) -> Any:
    span = float(subtract(values.max(), values.min()))
    if span == 0:
        return np.full(values.shape, (low + high) / 2)
    return low + (values - values.min()) / span * (high - low)


def _value(value: Any) -> str:
    return "none" if value is None or pd.isna(value) else number(float(value))


def _files(runs_dir: Path | None, folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in (CONFIG_FILE, ENVIRONMENT_FILE):
        try:
            text = (runs_dir or Path()).joinpath(folder, name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        found[name] = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n[cut]"
    return found
