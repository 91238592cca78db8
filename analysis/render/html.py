"""A table as HTML. Whatever comes from a record is escaped."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup, escape

from analysis.render.cells import (
    Cell,
    cell_text,
    interval_text,
    levels,
    nothing,
    shown,
    spans,
    value_text,
)
from analysis.statistics.summary import Summary

KEY = Markup(' class="key"')
"""Of what a row is called by beside its first name, which a narrow screen has no room for."""


def to_html(table: pd.DataFrame) -> Markup:
    """Write one table with scoped headers; a summary gets its interval in small print.

    A number leads to its group of runs, ``#group-<group_id>`` of the page that the table is in.
    """
    table = shown(table)
    if table.empty:
        return Markup("<p>{}</p>").format(nothing(table))
    names = Markup("").join(
        Markup('<th scope="col"{} rowspan="{}">{}</th>').format(
            KEY if at else Markup(""), table.columns.nlevels, name
        )
        for at, name in enumerate(table.index.names)
    )
    head = Markup("")
    for level in range(table.columns.nlevels):
        scope = "colgroup" if level < table.columns.nlevels - 1 else "col"
        cells = Markup("").join(
            Markup('<th scope="{}" colspan="{}">{}</th>').format(scope, span, name)
            for name, span in spans(table, level)
        )
        head += Markup("<tr>{}{}</tr>\n").format(names if level == 0 else "", cells)
    body = Markup("")
    for key, row in table.iterrows():
        label, *rest = levels(key)
        cells = Markup('<th scope="row">{}</th>').format(label)
        cells += Markup("").join(Markup("<td{}>{}</td>").format(KEY, text) for text in rest)
        cells += Markup("").join(_html_cell(cell) for cell in row)
        body += Markup("<tr>{}</tr>\n").format(cells)
    return Markup("<table>\n<thead>{}</thead>\n<tbody>{}</tbody>\n</table>").format(head, body)


def _html_cell(cell: object) -> Markup:
    if isinstance(cell, Summary):
        value, interval = value_text(cell), interval_text(cell)
        small = ", ".join(text for text in (cell.note, interval) if text)
        if not value:
            return Markup('<td class="bad">{}</td>').format(_linked(cell, small))
        form = Markup('<td data-value="{}">{}<small>{}</small></td>')
        return form.format(cell.mean, _linked(cell, value), small)
    if isinstance(cell, Cell):
        return Markup("<td>{}</td>").format(_linked(cell, cell.text))
    if isinstance(cell, bool | int | float):
        return Markup('<td data-value="{}">{}</td>').format(cell, cell_text(cell))
    return Markup('<td class="none">{}</td>').format(cell_text(cell))


def _linked(cell: Summary | Cell, text: str) -> Markup:
    if not text:
        return Markup("")
    inner = Markup("<strong>{}</strong>").format(text) if cell.strong else escape(text)
    group = cell.source.get("group_id")
    return Markup('<a href="#group-{}">{}</a>').format(group, inner) if group else inner
