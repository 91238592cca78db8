"""Makes tables, figures and the page from run records."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import analysis.figures
import analysis.tables
from analysis.render import to_csv, to_html, to_latex, to_markdown
from analysis.render.terminal import terminal_table
from analysis.render.write import write_text
from analysis.report.drawing import DATA, FORMATS, ON_PAGE, PLAIN, digest_of, draw
from analysis.report.options import ReportError
from analysis.report.page import BuiltTable, DrawnFigure, page, unfinished
from analysis.results.answer import Answer, answer
from analysis.results.load import Results, load_results
from analysis.results.studies import study_files, study_problems
from analysis.results.trials import ledger_problems
from analysis.style import Look
from experiments.system.output import say

MAIN = "results"
"""The table that a terminal shows; the others are in files and on the page."""

VARIANTS = "variants"
"""Shown beside it where there are some."""

PAGE = "report.html"

WRITTEN = ("tables", "figures", PAGE)
"""What a report leaves in its folder."""

TABLE_FORMATS: dict[str, Callable[[BuiltTable], str]] = {
    "csv": lambda table: to_csv(table.frame),
    "md": lambda table: to_markdown(table.frame, table.caption),
    "tex": lambda table: to_latex(table.frame, table.caption, table.name),
    "html": lambda table: str(to_html(table.frame)),
}

FIRST = [MAIN, VARIANTS, "published_vs_reproduced"]
"""The tables that page and paper begin with."""


@dataclass(frozen=True)
class Made:
    """What a report was made from, and of.

    Attributes:
        results: What was read.
        tables: As they were written.
        figures: As they were written, or not.
        shown: What is to be shown (``terminal.SHOWN``).
        answer: What the runs come to in a sentence.
    """

    results: Results
    tables: list[BuiltTable]
    figures: list[DrawnFigure]
    shown: Mapping[str, Any] = field(default_factory=dict)
    answer: Answer = field(default_factory=Answer)

    @property
    def written(self) -> list[str]:
        """The files of a report that is whole, from its folder."""
        tables = [f"tables/{one.name}.{ending}" for one in self.tables for ending in TABLE_FORMATS]
        return [*tables, *self._files(drawn=True), PAGE]

    @property
    def absent(self) -> list[str]:
        """The files of figures that there was nothing to draw of."""
        return self._files(drawn=False)

    def _files(self, *, drawn: bool) -> list[str]:
        figures = [figure.name for figure in self.figures if drawn != bool(figure.command)]
        formats = ON_PAGE if drawn else FORMATS
        return [f"figures/{name}.{ending}" for name in figures for ending in (*formats, DATA)]


def report(
    runs_dir: Path,
    out: Path,
    *,
    tables: bool = True,
    figures: bool = True,
    only: str | None = None,
    formats: Collection[str] = FORMATS,
    look: Look = PLAIN,
) -> Made:
    """Read the records and write what was asked for; the page only where everything was.

    Faults of records are told on standard error; all else is for the caller to show.

    Args:
        runs_dir: Folder of the run records.
        out: Folder to write to.
        tables: Whether to write and print the tables.
        figures: Whether to draw the figures.
        only: Name of the single table or figure to make.
        formats: What each figure is drawn as, of ``drawing.FORMATS``.
        look: What is asked of the figures.

    Returns:
        What was made.

    Raises:
        ReportError: If a folder cannot be read or written, ``only`` is not known, or there is
            nothing to report and an earlier report in its place.
    """
    table_names = names_of(analysis.tables) if tables else []
    figure_names = names_of(analysis.figures) if figures else []
    if only is not None:
        known = [*table_names, *figure_names]
        if only not in known:
            raise ReportError(
                f"Unknown table or figure: {only}. Must be one of: {', '.join(known)}."
            )
        table_names = [name for name in table_names if name == only]
        figure_names = [name for name in figure_names if name == only]
    results = _load(runs_dir)
    if _is_empty(results) and any((out / name).exists() for name in WRITTEN):
        raise ReportError(f"no records in {runs_dir}: what is in {out} stays. Give another --runs.")
    for line in results.broken:
        say(f"warning: {line}", error=True)
    said = answer(results) if only is None else Answer()
    table_names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    built = [_table(name, results) for name in table_names]
    try:
        for table in built:
            _write_table(table, out / "tables")
        digest = digest_of(results) if figure_names else b""
        drawn = [
            _figure(name, results, out / "figures", digest, formats, look) for name in figure_names
        ]
        if tables and figures and only is None:
            write_text(out / PAGE, page(results, built, drawn, said))
    except OSError as error:
        raise ReportError(f"cannot write {error.filename or out}: {error.strerror}") from None
    return Made(results, built, drawn, _shown(results, built, drawn, said, out), said)


def names_of(package: ModuleType) -> list[str]:
    """Names of the modules in a package of tables or figures."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def _load(runs_dir: Path) -> Results:
    if not runs_dir.is_dir():
        raise ReportError(
            f"--runs is not a folder: {runs_dir}. Must be one of records; `make sweep` makes some."
        )
    try:
        results = load_results(runs_dir)
    except OSError as error:
        raise ReportError(f"cannot read {runs_dir}: {error.strerror}") from None
    others = (*ledger_problems(results), *study_problems(results.runs_dir))
    return replace(results, broken=(*results.broken, *others))


def _is_empty(results: Results) -> bool:
    return results.runs.empty and not results.broken and not study_files(results.runs_dir, "*")


def _write_table(table: BuiltTable, folder: Path) -> None:
    for ending, render in TABLE_FORMATS.items():
        write_text(folder / f"{table.name}.{ending}", render(table))


def _table(name: str, results: Results) -> BuiltTable:
    module = importlib.import_module(f"analysis.tables.{name}")
    caption = f"{_caption(module.__name__)} {getattr(module, 'NOTE', '')}".strip()
    return BuiltTable(name, caption, module.build(results))


def _figure(
    name: str,
    results: Results,
    folder: Path,
    digest: bytes,
    formats: Collection[str],
    look: Look,
) -> DrawnFigure:
    module = f"analysis.figures.{name}"
    caption = _caption(module)
    drawn = draw(name, results, folder, digest, caption=caption, formats=formats, look=look)
    if drawn.command:
        return DrawnFigure(name, caption, "", command=drawn.command)
    caption = f"{caption} {drawn.note}".strip()
    return DrawnFigure(name, caption, drawn.svg, drawn.problem)


def _source(module: str) -> str:
    """Read the module's text; importing a figure would import matplotlib."""
    path = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    return path.read_text(encoding="utf-8")


def _caption(module: str) -> str:
    """Read the module's docstring."""
    text = ast.get_docstring(ast.parse(_source(module)))
    return " ".join((text or module).split()).replace("``", "")


def _shown(
    results: Results,
    tables: Sequence[BuiltTable],
    figures: Sequence[DrawnFigure],
    said: Answer,
    out: Path,
) -> dict[str, Any]:
    """Gather what a terminal is to show (``terminal.SHOWN``)."""
    shown = []
    for table in tables:
        beside = table.name == VARIANTS and not table.frame.empty
        if len(tables) == 1 or table.name == MAIN or beside:
            shown.append(terminal_table(table.frame, table.caption))
    lines = []
    for run in unfinished(results).to_dict("records"):
        reason = f": {run['reason']}" if run["reason"] else ""
        place = f"{run['title']}, {run['label']}, seed {run['seed']} ({run['folder']})"
        lines.append(f"{str(run['status']).replace('_', ' ')}: {place}{reason}")
    missing = [figure for figure in figures if figure.command]
    if missing and tables:
        lines.append(f"{len(missing)} of {len(figures)} figures have no runs yet: see {PAGE}")
    else:
        lines += [f"not drawn: {one.name}, no runs yet: {one.command}" for one in missing]
    return {
        "warnings": [f"warning: {line}" for line in results.broken],
        "tables": shown,
        "lines": [*lines, *said.sentences, f"Written to {out}/"],
    }
