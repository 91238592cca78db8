"""The report as one self-contained HTML page: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.published.verdict import counts
from analysis.render import to_html
from analysis.report.run_pages import MOST, run_pages
from analysis.report.svg import for_page
from analysis.results.answer import Answer
from analysis.results.load import NO_RUNS, Results
from analysis.results.trials import is_named, ledger_path, tuned_file

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "page.html"
VERDICTS = "published_vs_reproduced"
"""The table whose verdicts the summary counts."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as it goes into the page."""

    name: str
    caption: str
    svg: str
    data: bytes = b""  # what is drawn, as CSV
    code: str = ""
    problem: str | None = None  # one line, where it could not be drawn
    command: str = ""  # what makes its runs, where there are none: it has no picture


@dataclass(frozen=True)
class BuiltTable:
    """A table as it goes into the page."""

    name: str
    caption: str
    frame: pd.DataFrame


def page(
    results: Results,
    tables: Sequence[BuiltTable],
    figures: Sequence[DrawnFigure],
    said: Answer,
) -> str:
    """Write the page; everything that comes from a record is escaped."""
    groups = results.groups
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        summary=summary_line(results),
        said=said,
        verdicts=verdict_counts(tables),
        # Ours, and no part of a record: they need no escaping.
        css=Markup(TEMPLATES.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(TEMPLATES.joinpath("page.js").read_text(encoding="utf-8")),
        tables=[
            {"name": table.name, "caption": table.caption, "html": to_html(table.frame)}
            for table in tables
        ],
        figures=[
            {
                "name": figure.name,
                "caption": figure.caption,
                "svg": Markup(for_page(figure.svg)),  # written by us, with what is theirs escaped
                "data": base64.b64encode(figure.data).decode("ascii"),
                "code": figure.code,
            }
            for figure in figures
            if not figure.command
        ],
        missing=[figure for figure in figures if figure.command],
        blocks=", ".join(dict.fromkeys(groups["title"])),
        unfinished=unfinished(results).to_dict("records"),
        broken=results.broken,
        groups=groups.to_dict("records"),
        runs=run_pages(results, groups),
        left_out=max(0, len(results.runs) - MOST),
        ledgers=ledgers(results.runs),
        no_runs=NO_RUNS,
    )


def unfinished(results: Results) -> pd.DataFrame:
    """List the runs that did not end ``done``, with the names that the tables give them."""
    runs = results.runs[results.runs["status"] != "done"]
    names = results.groups[["group_id", "title", "label"]]
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


def verdict_counts(tables: Sequence[BuiltTable]) -> dict[str, int]:
    """Count the published numbers that have each verdict."""
    for table in tables:
        if table.name == VERDICTS:
            return counts(table.frame)
    return {}


def ledgers(runs: pd.DataFrame) -> dict[str, str]:
    """Find the ledgers of the runs whose hyperparameters were tuned, by task and method."""
    tuned = runs[runs["ruleset"] == "tuned"].drop_duplicates("group_id")
    files = sorted({tuned_file(row) for _, row in tuned.iterrows()})
    paths = {file.removesuffix(".yaml"): ledger_path(file) for file in files if is_named(file)}
    return {
        name: path.read_text("utf-8", errors="replace")
        for name, path in paths.items()
        if path.is_file()
    }
