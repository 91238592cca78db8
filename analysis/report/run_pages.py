"""What the report shows of each run: how it ended, its curves, and what makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.render import number
from analysis.results.environments import Environment, told
from analysis.results.load import Results
from analysis.results.settings import value_text
from analysis.statistics.equality import subtract
from analysis.style import metric_label

MOST = 1000
"""Runs with a line of their own; more would make a page that no browser opens gladly."""

WIDTH, HEIGHT, MARGIN, TOP = 120, 28, 2, 2
MOST_POINTS = 40  # of a curve in a line


def run_blocks(
    results: Results, groups: pd.DataFrame, ran: Mapping[str, Environment]
) -> list[dict[str, Any]]:
    """Collect the facts of each configuration and of its runs, of the first ``MOST`` runs.

    Args:
        results: All runs.
        groups: Of ``group_runs``.
        ran: Environments by the folder of the run.

    Returns:
        For each block its ``title`` and ``groups``: rows of ``groups`` with their hyperparameters
        as ``settings`` and their ``runs``, each a row of ``Results.runs`` with ``curves`` (see
        ``polylines``) and ``place``, the number of its environment.
    """
    places = {_key(one): at for at, one in enumerate(distinct_environments(ran), start=1)}
    members: dict[str, list[dict[str, Any]]] = {}
    for run in results.runs.head(MOST).to_dict("records"):
        columns = results.curves[run["run_id"]]
        drawn = (
            polylines(columns, metric, run["units"])
            for metric in (f"test_{run['metric']}", "train_loss")
        )
        run |= {key: _value(run[key]) for key in ("final", "best_test", "train_seconds")}
        run["curves"] = [curve for curve in drawn if curve]
        environment = ran.get(run["folder"])
        run["place"] = places[_key(environment)] if environment else ""
        members.setdefault(run["group_id"], []).append({str(key): run[key] for key in run})
    blocks: dict[str, list[dict[str, Any]]] = {}
    for group in groups.to_dict("records"):
        values = (f"{key}={value_text(value)}" for key, value in group["hyperparameters"].items())
        group |= {"settings": ", ".join(values), "runs": members.get(group["group_id"], [])}
        blocks.setdefault(group["title"], []).append({str(key): group[key] for key in group})
    return [{"title": title, "groups": of} for title, of in blocks.items()]


def distinct_environments(ran: Mapping[str, Environment]) -> list[Environment]:
    """Keep one environment of those of which the same is told."""
    return list({_key(one): one for one in ran.values()}.values())


def _key(environment: Environment) -> str:
    return json.dumps(told(environment))


def polylines(
    columns: Mapping[str, Any], metric: str, units: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Draw a metric against epochs as the points of SVG polylines.

    Returns:
        ``lines``, the points of each part between values that are not finite, at most
        ``MOST_POINTS`` of one, and a ``label`` that says what is seen; None for fewer than two
        finite values.
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
    lines = []
    for one in np.unique(part):
        of = np.flatnonzero(part == one)
        of = of[np.unique(np.linspace(0, of.size - 1, MOST_POINTS).round().astype(int))]
        lines.append(
            " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across[of], down[of], strict=True))
        )
    ends = f"{number(float(y[finite][0]))} to {number(float(y[finite][-1]))}"
    return {"lines": lines, "label": f"{metric_label(metric, units)} by epoch: {ends}"}


def _scaled(values: Any, low: float, high: float) -> Any:
    span = float(subtract(values.max(), values.min()))
    if span == 0:
        return np.full(values.shape, (low + high) / 2)
    return low + (values - values.min()) / span * (high - low)


def _value(value: Any) -> str:
    return "none" if value is None or pd.isna(value) else number(float(value))
