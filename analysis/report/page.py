"""The report as one HTML page, which loads nothing: an answer first, then what the runs can fill.

Files that were written beside it are links. What the runs hold nothing of is a list of commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.published.row_verdicts import NOT_RUN
from analysis.published.verdict import counts
from analysis.render import absent, to_html
from analysis.render.cells import WIDE, blocks, with_own_trials, without_alike
from analysis.report.drawing import DATA, ON_PAGE
from analysis.report.parts import FIRST, parts_of
from analysis.report.run_pages import MOST, distinct_environments, run_blocks
from analysis.report.svg import for_page
from analysis.results.answer import Answer
from analysis.results.environments import environments, facts, told
from analysis.results.load import NO_RUNS, NOT_YET, Results
from analysis.results.trials import is_named, ledger_path, tuned_file
from analysis.tables.published_vs_reproduced import COMMANDS

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "page.html"
VERDICTS = "published_vs_reproduced"
"""The table whose verdicts are counted, and of which only the rows that the runs touch are open."""
MOST_ROWS = 12  # of a table that is shown without a click


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as it goes into the page."""

    name: str
    caption: str
    svg: str
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
    environment.filters["runnable"] = runnable
    items = {f"tables/{table.name}": _table_item(table) for table in tables}
    items |= {f"figures/{figure.name}": _figure_item(figure) for figure in figures}
    filled = {place: item for place, item in items.items() if not item["command"]}
    parts = {
        part: [filled[place] for place in places]
        for part, places in parts_of(filled).items()
        if places
    }
    ran = environments(results.runs_dir, results.runs["folder"].head(MOST))
    return environment.get_template(TEMPLATE).render(
        summary=summary_line(results),
        said=said,
        facts=facts(list(ran.values())),
        not_yet=NOT_YET if results.runs.empty else None,
        result=_result(tables, said),
        first=[filled[place] for place in FIRST if place in filled],
        parts=parts,
        absent=[item for item in items.values() if item["command"]],
        verdicts=verdict_counts(tables),
        published=published_rows(tables),
        # Ours, and no part of a record: they need no escaping.
        css=Markup(TEMPLATES.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(TEMPLATES.joinpath("page.js").read_text(encoding="utf-8")),
        panels=", ".join(dict.fromkeys(groups["title"])),
        unfinished=unfinished(results).to_dict("records"),
        broken=results.broken,
        blocks=run_blocks(results, groups, ran),
        environments=[told(one) for one in distinct_environments(ran)],
        left_out=max(0, len(results.runs) - MOST),
        ledgers=ledgers(results.runs),
    )


def runnable(command: str) -> str:
    """Give a command as it can be typed in a checkout, where nothing of it is on the path."""
    program, _, rest = command.partition(" ")
    return f".venv/bin/{program} {rest}" if program in ("python", "torchrun") else command


def _table_item(table: BuiltTable) -> dict[str, Any]:
    missing = absent(table.frame)
    return {
        **_item("tables", table.name, table.caption),
        "html": "" if missing or table.name == VERDICTS else to_html(table.frame),
        "short": len(table.frame) <= MOST_ROWS,
        "why": missing.why if missing else "",
        "command": missing.command if missing else "",
        "files": [f"tables/{table.name}.csv"],
    }


def _figure_item(figure: DrawnFigure) -> dict[str, Any]:
    return {
        **_item("figures", figure.name, figure.caption),
        # Written by us, with what is theirs escaped.
        "svg": Markup(for_page(figure.svg)) if figure.svg else "",
        "short": True,
        "why": "",
        "command": figure.command,
        "files": [f"figures/{figure.name}.{ending}" for ending in (*ON_PAGE, DATA)],
    }


def _item(kind: str, name: str, caption: str) -> dict[str, Any]:
    """Give what tables and figures share; the first sentence of a caption says what is seen."""
    head, *rest = re.split(r"(?<=[.?]) ", caption, maxsplit=1)
    title = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).capitalize()
    return {"kind": kind, "name": name, "title": title, "head": head, "rest": "".join(rest)}


def _result(tables: Sequence[BuiltTable], said: Answer) -> dict[str, Any]:
    """Cut the first table into its blocks, where these do not fit side by side.

    What all rows share, as the ruleset, is said once.
    """
    (frame,) = (table.frame for table in tables if table.name == "results")
    if frame.empty:
        return {"parts": [], "shared": ""}
    if frame.columns.get_level_values(0).nunique() <= WIDE:
        frame, alike = without_alike(frame)
        shown = [{"title": "", "sentence": "", "html": to_html(frame)}]
    else:
        alike = []
        shown = [
            {
                "title": title,
                "sentence": said.details.get(title, ""),
                "html": to_html(with_own_trials(part, title)),
            }
            for title, part in blocks(frame)
        ]
    return {"parts": shown, "shared": f"All: {', '.join(alike)}. " if alike else ""}


def published_rows(tables: Sequence[BuiltTable]) -> list[dict[str, Any]]:
    """List the published numbers, each in a line, and whether a run stands near it."""
    for table in tables:
        if table.name == VERDICTS:
            rows = table.frame.reset_index().to_dict("records")
            return [
                {str(key): value for key, value in row.items()}
                | {
                    "runnable": runnable(command),
                    "said": row["outcome"] if row["outcome"] == NOT_RUN else row["verdict"],
                    "touched": bool(row["run_ids"]),
                }
                for row, command in zip(rows, table.frame.attrs[COMMANDS].value, strict=True)
            ]
    return []


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


def verdict_counts(tables: Sequence[BuiltTable]) -> Mapping[str, int]:
    """Count the published numbers that have each verdict."""
    for table in tables:
        if table.name == VERDICTS:
            return counts(table.frame)
    return {}


def ledgers(runs: pd.DataFrame) -> list[str]:
    """Name the ledgers of the runs whose hyperparameters were tuned, where tuning writes them."""
    tuned = runs[runs["ruleset"] == "tuned"].drop_duplicates("group_id")
    files = sorted({tuned_file(row) for _, row in tuned.iterrows()})
    paths = [ledger_path(file) for file in files if is_named(file)]
    return [
        (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()
        for path in paths
        if path.is_file()
    ]
