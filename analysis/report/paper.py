"""Every table and figure as one LaTeX document: ``python -m analysis.report.paper --out out``.

Writes ``paper/paper.tex`` under ``--out``, and ``paper/paper.pdf`` where a LaTeX is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.render import PACKAGES, latex, to_latex
from analysis.render.write import write_text
from analysis.report.options import OneLineParser, ReportError, add_folders
from analysis.report.page import TEMPLATES, BuiltTable, DrawnFigure, summary_line
from analysis.report.report import report
from experiments.system import output
from experiments.system.output import say

COMPILER = "pdflatex"
_SECONDS = 300.0
_TABULAR = re.compile(r"\\begin\{(tabular|longtable)\}.*?\\end\{\1\}", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 with one line on stderr."""
    parser = OneLineParser(prog="python -m analysis.report.paper", description=__doc__)
    add_folders(parser)
    options = parser.parse_args(arguments)
    output.prepare()
    try:
        say(paper(options.runs, options.out))
    except (ReportError, OSError) as error:
        say(f"error: {error}", error=True)
        return 2
    return 0


def paper(runs_dir: Path, out: Path) -> str:
    """Write the document and compile it.

    Args:
        runs_dir: Folder of the run records.
        out: Folder to write to.

    Returns:
        What was written, in one line.

    Raises:
        ReportError: If a folder cannot be read or written, or LaTeX refuses the document.
    """
    made = report(runs_dir, out)
    source = out / "paper" / "paper.tex"
    try:
        write_text(source, document(made.tables, made.figures, summary_line(made.results)))
    except OSError as error:
        raise ReportError(f"cannot write {source}: {error.strerror}") from None
    if shutil.which(COMPILER) is None:
        return f"Written to {source}; {COMPILER} is not installed, so there is no PDF of it"
    _compile(source)
    return f"Written to {source.with_suffix('.pdf')}"


def document(tables: Sequence[BuiltTable], figures: Sequence[DrawnFigure], summary: str) -> str:
    """Fill the template; everything that comes from a record is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Braces and percent signs are LaTeX's own.
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\#{",
        comment_end_string="}",
    )
    return environment.get_template("paper.tex").render(
        packages=",".join(PACKAGES.values()),
        summary=latex(summary),
        tables=[
            {
                "title": _title(table.name),
                "caption": latex(table.caption),
                "parts": _parts(to_latex(table.frame, "")),
            }
            for table in tables
        ],
        figures=[
            {
                "name": figure.name,
                "title": _title(figure.name),
                "caption": latex(figure.caption),
            }
            for figure in figures
            if not figure.command
        ],
        missing=[
            {"title": _title(figure.name), "command": latex(figure.command)}
            for figure in figures
            if figure.command
        ],
    )


def _title(name: str) -> str:
    return latex(name.replace("_", " ").capitalize())


def _parts(text: str) -> list[dict[str, object]]:
    """Find the environments of a rendered table; one over several pages cannot go into a box."""
    found = _TABULAR.finditer(text)
    return [{"long": match[1] == "longtable", "body": match[0]} for match in found]


def _compile(source: Path) -> None:
    command = [COMPILER, "-halt-on-error", "-interaction=nonstopmode", source.name]
    for _ in range(2):  # the second fills in the table of contents
        try:
            ended = subprocess.run(
                command,
                cwd=source.parent,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReportError(f"{COMPILER} did not end within {_SECONDS:g} s: {source}") from None
        if ended.returncode:
            lines = [line for line in ended.stdout.splitlines() if line.startswith("!")]
            log = source.with_suffix(".log")
            raise ReportError(f"{COMPILER}: {(lines or ['failed'])[0].lstrip('! ')} See {log}.")


if __name__ == "__main__":
    sys.exit(main())
