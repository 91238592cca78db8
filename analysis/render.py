"""A table as CSV, Markdown, LaTeX and HTML: one frame in, one string out.

A table is a frame with named index and columns; the first level of its columns names a block. Its
cells are strings or ``Summary``. Whatever comes from a record is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from markupsafe import Markup, escape

from analysis.aggregate import Summary
from analysis.load import NO_RUNS

WIDE = 3  # more blocks than this do not fit on a page side by side
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def number(value: float) -> str:
    """Write a number with two decimals, or in scientific form where that would hide it.

    Example:
        >>> number(98.125), number(0.00123), number(1234567.0)
        ('98.12', '1.23e-03', '1.23e+06')
    """
    readable = value == 0 or 0.005 <= abs(value) < 1e5
    return f"{value:.2f}" if readable else f"{value:.2e}"


def value_text(cell: Summary) -> str:
    """Write mean and spread, ``98.10 ± 0.31``; empty where no run is in the mean."""
    if cell.mean is None:
        return ""
    if cell.std is None:
        return number(cell.mean)
    spread = "<0.01" if 0 < cell.std < 0.005 < abs(cell.mean) else number(cell.std)
    return f"{number(cell.mean)} ± {spread}"


def interval_text(cell: Summary) -> str:
    """Write the interval of the mean with its level; empty where n < 2."""
    if cell.low is None or cell.high is None:
        return ""
    return f"{cell.level:.0%} CI {number(cell.low)} to {number(cell.high)}"


def cell_text(cell: object, *, fold: bool = False) -> str:
    """Write any cell: ``98.10 ± 0.31 (n=3)``, or ``diverged 3/3``.

    Args:
        cell: A ``Summary``, or anything that prints itself.
        fold: Give a note of several parts a line of its own.
    """
    if not isinstance(cell, Summary):
        return str(cell)
    value = value_text(cell)
    separator = "\n" if fold and "," in cell.note else " "
    return f"{value}{separator}({cell.note})" if value else cell.note


def to_csv(table: pd.DataFrame) -> str:
    """Write one line a cell, with every number in full precision and the command that made it."""
    if table.empty:
        return str(pd.DataFrame({"note": [NO_RUNS]}).to_csv(index=False))
    rows = []
    for key, row in table.iterrows():
        for column, cell in row.items():
            place = dict(zip(table.index.names, levels(key), strict=True))
            place |= dict(zip(table.columns.names, levels(column), strict=True))
            rows.append(place | _csv_cell(cell))
    # As objects, so that a cell without counts does not turn the others into decimals.
    return str(pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n"))


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """Write GitHub tables, one for all blocks where they fit side by side."""
    parts = [_markdown(caption)]
    for part in _pages(table):
        heads = ["<br>".join(map(_markdown, levels(column))) for column in part.columns]
        names = [_markdown(str(name)) for name in part.index.names]
        lines = [names + heads, ["---"] * len(names) + ["---:"] * len(heads)]
        for key, row in part.iterrows():
            lines.append([_markdown(text) for text in (*levels(key), *map(cell_text, row))])
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if table.empty:
        parts.append(NO_RUNS)
    return "\n\n".join(parts) + "\n"


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Write ``tabular`` environments for booktabs, one for all blocks where they fit."""
    comment = "".join(f"% {line}\n" for line in [*caption.splitlines(), r"\usepackage{booktabs}"])
    if table.empty:
        body = f"\\begin{{tabular}}{{l}}\n{latex(NO_RUNS)} \\\\\n\\end{{tabular}}\n"
        return comment + body
    return comment + "\n".join(_tabular(part) for part in _pages(table))


def latex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def to_html(table: pd.DataFrame) -> Markup:
    """Write one table with scoped headers; a summary gets its interval in small print."""
    if table.empty:
        return Markup("<p>{}</p>").format(NO_RUNS)
    names = Markup("").join(
        Markup('<th scope="col" rowspan="{}">{}</th>').format(table.columns.nlevels, name)
        for name in table.index.names
    )
    head = Markup("")
    for level in range(table.columns.nlevels):
        scope = "colgroup" if level < table.columns.nlevels - 1 else "col"
        spans = Markup("").join(
            Markup('<th scope="{}" colspan="{}">{}</th>').format(scope, span, name)
            for name, span in _spans(table, level)
        )
        head += Markup("<tr>{}{}</tr>\n").format(names if level == 0 else "", spans)
    body = Markup("")
    for key, row in table.iterrows():
        label, *rest = levels(key)
        cells = Markup('<th scope="row">{}</th>').format(label)
        cells += Markup("").join(Markup("<td>{}</td>").format(text) for text in rest)
        cells += Markup("").join(_html_cell(cell) for cell in row)
        body += Markup("<tr>{}</tr>\n").format(cells)
    return Markup("<table>\n<thead>{}</thead>\n<tbody>{}</tbody>\n</table>").format(head, body)


def blocks(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split by the first level of the columns.

    A method that has nothing in a block keeps one row there, whatever hyperparameters and rulesets
    it has elsewhere; of one that has something, only the rows that do are kept.
    """
    methods = [re.split(r" [(\[]", levels(key)[0])[0] for key in table.index]
    for name in dict.fromkeys(table.columns.get_level_values(0)):
        part = table[[name]]
        there = part.map(lambda cell: isinstance(cell, Summary)).any(axis=1)
        present = {method for method, kept in zip(methods, there, strict=True) if kept}
        rows = {}
        for key, method, kept in zip(part.index, methods, there, strict=True):
            if kept:
                rows[key] = part.loc[[key]]
            elif method not in present:
                alone = (method, *[""] * (part.index.nlevels - 1))
                rows[alone] = part.loc[[key]].set_axis(
                    pd.MultiIndex.from_tuples([alone], names=part.index.names)
                )
        yield str(name), pd.concat(rows.values())


def levels(key: object) -> tuple[str, ...]:
    """Take the key of a row or column apart, whether it has one level or several."""
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)


def _pages(table: pd.DataFrame) -> list[pd.DataFrame]:
    if table.empty:
        return []
    several = table.columns.get_level_values(0).nunique() > WIDE
    return [part for _, part in blocks(table)] if several else [table]


def _tabular(table: pd.DataFrame) -> str:
    names = table.index.names
    lines = [rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * table.shape[1]}}}", r"\toprule"]
    for level in range(table.columns.nlevels - 1):
        at, rules, heads = len(names) + 1, [], []
        for name, span in _spans(table, level):
            heads.append(rf"\multicolumn{{{span}}}{{c}}{{{latex(name)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines += [" & ".join([""] * len(names) + heads) + r" \\", " ".join(rules)]
    lasts = [levels(column)[-1] for column in table.columns]
    lines.append(" & ".join(latex(str(text)) for text in (*names, *lasts)) + r" \\")
    lines.append(r"\midrule")
    for key, row in table.iterrows():
        cells = [latex(text) for text in (*levels(key), *map(cell_text, row))]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _spans(table: pd.DataFrame, level: int) -> list[tuple[str, int]]:
    """Header cells of one level with their widths; equal neighbours under one parent are joined."""
    spans: list[tuple[tuple[str, ...], int]] = []
    for column in table.columns:
        key = levels(column)[: level + 1]
        if spans and spans[-1][0] == key:
            spans[-1] = (key, spans[-1][1] + 1)
        else:
            spans.append((key, 1))
    return [(key[-1], span) for key, span in spans]


def _html_cell(cell: object) -> Markup:
    if not isinstance(cell, Summary):
        return Markup('<td class="none">{}</td>').format(str(cell))
    value, interval = value_text(cell), interval_text(cell)
    small = ", ".join(text for text in (cell.note, interval) if text)
    form = "<td>{}<small>{}</small></td>" if value else '<td class="bad">{}{}</td>'
    return Markup(form).format(value, small)


def _csv_cell(cell: object) -> dict[str, object]:
    if not isinstance(cell, Summary):
        return {"statistic": "", "note": str(cell), "n": 0}
    return {
        "statistic": "mean",
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "ci_low": cell.low,
        "ci_high": cell.high,
        "ci_level": cell.level,
        "ci_method": "student-t over seeds",
        "expected_seeds": cell.expected,
        "diverged": cell.diverged,
        "failed": cell.failed,
        "out_of_memory": cell.out_of_memory,
        "incomplete": cell.incomplete,
        "note": cell.note,
        **cell.source,
    }


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*\[\]|])", r"\\\1", str(escape(" ".join(text.split()))))
    return escaped.replace("&#39;", "'").replace("&#34;", '"')
