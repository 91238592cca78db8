"""How a table looks: as CSV, Markdown, LaTeX, HTML and on a terminal; a frame in, a text out."""

from analysis.render.cells import (
    CSV_ONLY,
    MISSING,
    NONE_OF_RUNS,
    Cell,
    absent,
    blocks,
    cell_text,
    interval_text,
    is_flat,
    levels,
    nothing,
    number,
    range_text,
    shown,
    value_text,
)
from analysis.render.html import to_html
from analysis.render.tex import PACKAGES, latex, to_latex, to_latex_figure
from analysis.render.text import to_csv, to_markdown

__all__ = [
    "CSV_ONLY",
    "MISSING",
    "NONE_OF_RUNS",
    "PACKAGES",
    "Cell",
    "absent",
    "blocks",
    "cell_text",
    "interval_text",
    "is_flat",
    "latex",
    "levels",
    "nothing",
    "number",
    "range_text",
    "shown",
    "to_csv",
    "to_html",
    "to_latex",
    "to_latex_figure",
    "to_markdown",
    "value_text",
]
