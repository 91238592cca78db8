r"""Every table and figure as one LaTeX document: ``python -m analysis.report.paper --out out``.

Writes ``paper/paper.tex`` under ``--out``, and ``paper/paper.pdf`` where a LaTeX is installed. It
takes ``tables/NAME.tex`` and ``figures/NAME.tex`` by ``\input``, as any other document can.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.render import PACKAGES, latex, to_latex_figure
from analysis.render.cells import nothing
from analysis.render.write import write_text
from analysis.report.drawing import PLAIN
from analysis.report.options import OneLineParser, ReportError, add_folders, add_look
from analysis.report.page import TEMPLATES, BuiltTable, DrawnFigure, summary_line
from analysis.report.parts import FIRST, parts_of
from analysis.report.report import report
from analysis.style import Look
from experiments.system import output
from experiments.system.output import say

COMPILER = "pdflatex"
_SECONDS = 300.0
_PASSES = 5  # until lists, references and the widths of long tables are settled
_AGAIN = re.compile(r"Rerun|No file paper\.(lot|lof)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 with one line on stderr."""
    parser = OneLineParser(prog="python -m analysis.report.paper", description=__doc__)
    add_folders(parser)
    add_look(parser)
    options = parser.parse_args(arguments)
    output.prepare()
    try:
        say(paper(options.runs, options.out, Look(serif=options.serif, half=options.half)))
    except (ReportError, OSError) as error:
        say(f"error: {error}", error=True)
        return 2
    return 0


def paper(runs_dir: Path, out: Path, look: Look = PLAIN) -> str:
    """Write the document and compile it.

    Args:
        runs_dir: Folder of the run records.
        out: Folder to write to.
        look: What is asked of the figures.

    Returns:
        What was written, in one line.

    Raises:
        ReportError: If a folder cannot be read or written, or LaTeX refuses the document.
    """
    made = report(runs_dir, out, look=look)
    source = out / "paper" / "paper.tex"
    try:
        for figure in made.figures:
            if not figure.command:
                text = to_latex_figure(figure.name, figure.caption)
                write_text(out / "figures" / f"{figure.name}.tex", text)
        said = [*made.answer.sentences, summary_line(made.results)]
        write_text(source, document(made.tables, made.figures, said))
    except OSError as error:
        raise ReportError(f"cannot write {source}: {error.strerror}") from None
    if shutil.which(COMPILER) is None:
        return f"Written to {source}; {COMPILER} is not installed, so there is no PDF of it"
    _compile(source)
    return f"Written to {source.with_suffix('.pdf')}"


def document(
    tables: Sequence[BuiltTable], figures: Sequence[DrawnFigure], said: Sequence[str]
) -> str:
    """Fill the template; everything that comes from a record is escaped.

    Args:
        tables: All of them; those that are empty are listed at the end.
        figures: Likewise.
        said: What the runs come to, in sentences.
    """
    places = [f"tables/{table.name}" for table in tables if not table.frame.empty]
    places += [f"figures/{figure.name}" for figure in figures if not figure.command]
    first = [place for place in FIRST if place in places]
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
        said=map(latex, said),
        places=[*first, *(place for part in parts_of(places).values() for place in part)],
        missing=[
            {"title": _title(table.name), "command": latex(nothing(table.frame))}
            for table in tables
            if table.frame.empty
        ]
        + [
            {"title": _title(figure.name), "command": latex(figure.command)}
            for figure in figures
            if figure.command
        ],
    )


def _title(name: str) -> str:
    return latex(name.replace("_", " ").capitalize())


def _compile(source: Path) -> None:
    command = [COMPILER, "-halt-on-error", "-interaction=nonstopmode", source.name]
    for _ in range(_PASSES):
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
        if not _AGAIN.search(ended.stdout):
            break


if __name__ == "__main__":
    sys.exit(main())
