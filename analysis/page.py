"""The report as one self-contained HTML page: no script, and nothing to load from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.groups import group_runs
from analysis.load import NO_RUNS, Results
from analysis.render import to_html

TEMPLATE = "page.html"


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as it goes into the page."""

    name: str
    caption: str
    png: bytes
    problem: str | None = None  # one line, where it could not be drawn


@dataclass(frozen=True)
class BuiltTable:
    """A table as it goes into the page."""

    name: str
    caption: str
    frame: pd.DataFrame


def page(results: Results, tables: Sequence[BuiltTable], figures: Sequence[DrawnFigure]) -> str:
    """Write the page; everything that comes from a record is escaped."""
    groups = group_runs(results.runs)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        summary=summary_line(results),
        tables=[
            {"name": table.name, "caption": table.caption, "html": to_html(table.frame)}
            for table in tables
        ],
        figures=[
            {
                "name": figure.name,
                "caption": figure.caption,
                "png": base64.b64encode(figure.png).decode("ascii"),
            }
            for figure in figures
        ],
        blocks=", ".join(dict.fromkeys(groups["title"])),
        unfinished=unfinished(results).to_dict("records"),
        broken=results.broken,
        groups=groups.to_dict("records"),
        no_runs=NO_RUNS,
    )


def unfinished(results: Results) -> pd.DataFrame:
    """List the runs that did not end ``done``, with the names that the tables give them."""
    runs = results.runs[results.runs["status"] != "done"]
    names = group_runs(results.runs)[["group_id", "title", "label"]]
    return runs.merge(names, on="group_id", how="left")


def summary_line(results: Results) -> str:
    """Count runs by status in one line."""
    if results.runs.empty:
        return NO_RUNS
    counts = results.runs["status"].value_counts().sort_index()
    listed = ", ".join(
        f"{count} {str(status).replace('_', ' ')}" for status, count in counts.items()
    )
    fault = f" Records with a fault: {len(results.broken)}." if results.broken else ""
    return f"{len(results.runs)} runs: {listed}.{fault}"
