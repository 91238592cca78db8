"""Every table and figure from the run records: ``python -m analysis.report --runs runs --out out``.

Writes ``tables/*.{csv,md,tex,html}``, ``figures/*.{svg,csv}`` and ``report.html`` under ``--out``,
and prints the main table, or the one that was asked for; figures that are all that is asked for are
PDF and PNG as well. Trains nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.report.options import OneLineParser, ReportError, add_folders, add_look
from analysis.report.terminal import show
from analysis.report.unchanged import FILE, content, inputs_digest, unchanged
from experiments.system import output
from experiments.system.output import say

_OBJECTS = 100_000
"""New objects between two looks for garbage: by default these are a tenth of a report's time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0; 1 where a figure could not be drawn, which stands in its place and on stderr; or 2 with one
    line on stderr.
    """
    options = _parser().parse_args(arguments)
    output.prepare()
    parts = options.tables_only or options.figures_only or options.only
    is_whole = not (parts or options.serif or options.half)
    inputs = ""
    if is_whole:
        with contextlib.suppress(OSError):  # the report itself names the folder
            inputs = inputs_digest(options.runs, options.out)
    try:
        if inputs and (shown := unchanged(options.out, inputs)) is not None:
            say(*shown["warnings"], error=True)
            _show(shown, options.out)
            return 0
        return _make(options, inputs)
    except ReportError as error:
        say(f"error: {error}", error=True)
        return 2


def _make(options: argparse.Namespace, inputs: str) -> int:
    gc.set_threshold(_OBJECTS)
    # pandas and all that stands on it
    from analysis.report.drawing import FORMATS, ON_PAGE
    from analysis.report.report import report
    from analysis.style import Look

    made = report(
        options.runs,
        options.out,
        tables=not options.figures_only,
        figures=not options.tables_only,
        only=options.only,
        formats=FORMATS if options.figures_only or options.only else ON_PAGE,
        look=Look(serif=options.serif, half=options.half),
    )
    problems = [figure.problem for figure in made.figures if figure.problem]
    kept = options.out / FILE
    try:
        if inputs and not problems and not made.results.runs.empty:
            from analysis.render.write import write_text

            write_text(kept, content(options.out, inputs, made.written, made.absent, made.shown))
        elif inputs:
            kept.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"cannot write {kept}: {error.strerror}") from None
    _show(made.shown, options.out)
    for problem in problems:
        say(f"error: cannot draw {problem}", error=True)
    return 1 if problems else 0


def _show(shown: Mapping[str, Any], out: Path) -> None:
    try:
        show(shown)
    except OSError as error:
        raise ReportError(f"cannot print ({error.strerror}); all is written to {out}") from None


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m analysis.report", description=__doc__)
    add_folders(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tables-only", action="store_true", help="write and print tables only")
    which.add_argument("--figures-only", action="store_true", help="draw figures only")
    add_look(parser)
    parser.add_argument("--only", metavar="NAME", help="one table or figure, by its name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
