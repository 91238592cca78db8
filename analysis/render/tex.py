"""A table as LaTeX for booktabs. Whatever comes from a record is escaped."""

from __future__ import annotations

import pandas as pd

from analysis.render.cells import (
    cell_text,
    commands,
    is_flat,
    is_strong,
    levels,
    nothing,
    pages,
    shown,
    spans,
)
from experiments.system.output import plain_line

PACKAGES = {r"\arraybackslash": "array", r"\toprule": "booktabs", "{longtable}": "longtable"}
"""LaTeX packages that the tables need, by what in a table needs them."""
LONG = 40  # rows that fit on a page
TEXT = 28  # characters; a longer column is set in paragraphs
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Write ``tabular`` environments, one for all blocks where they fit.

    A flat table that is longer than a page is a ``longtable``. The commands behind the numbers
    follow as comments.
    """
    table = shown(table)
    comment = "".join(f"% {line}\n" for line in caption.splitlines())
    if table.empty:
        body = rf"{latex(nothing(table))} \\"
        return "\n".join(
            [comment + r"\begin{tabular}{p{0.9\linewidth}}", body, r"\end{tabular}", ""]
        )
    tables = "\n".join(_flat(part) if is_flat(part) else _grid(part) for part in pages(table))
    sources = [
        f"% {'; '.join(places)}: {' '.join(command.split())}\n"
        for command, places in commands(table).items()
    ]
    needed = [name for mark, name in PACKAGES.items() if mark in tables]
    return f"{comment}% \\usepackage{{{','.join(needed)}}}\n{tables}{''.join(sources)}"


def latex(text: str) -> str:
    """Escape text for LaTeX; what its default fonts lack becomes a question mark."""
    known = (SPECIAL.get(character, character) for character in plain_line(" ".join(text.split())))
    return "".join(part if part.isascii() or len(part) > 1 else "?" for part in known)


def _cell(cell: object) -> str:
    text = latex(cell_text(cell))
    return rf"\textbf{{{text}}}" if text and is_strong(cell) else text


def _grid(table: pd.DataFrame) -> str:
    names = table.index.names
    lines = [rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * table.shape[1]}}}", r"\toprule"]
    for level in range(table.columns.nlevels - 1):
        at, rules, heads = len(names) + 1, [], []
        for name, span in spans(table, level):
            heads.append(rf"\multicolumn{{{span}}}{{c}}{{{latex(name)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines += [" & ".join([""] * len(names) + heads) + r" \\", " ".join(rules)]
    lasts = [levels(column)[-1] for column in table.columns]
    lines.append(" & ".join(latex(str(text)) for text in (*names, *lasts)) + r" \\")
    return "\n".join([*lines, r"\midrule", *_rows(table), r"\bottomrule", r"\end{tabular}", ""])


def _flat(table: pd.DataFrame) -> str:
    kind = "longtable" if len(table) > LONG else "tabular"
    names = [*map(str, table.index.names), *map(str, table.columns)]
    columns = "l" * table.index.nlevels + "".join(
        r">{\raggedright\arraybackslash}p{0.22\linewidth}"
        if table[name].map(lambda cell: len(cell_text(cell))).max() > TEXT
        else "l"
        for name in table.columns
    )
    head = [rf"\begin{{{kind}}}{{{columns}}}", r"\toprule"]
    head += [" & ".join(map(latex, names)) + r" \\", r"\midrule"]
    if kind == "longtable":
        head.append(r"\endhead")
    return "\n".join([*head, *_rows(table), r"\bottomrule", rf"\end{{{kind}}}", ""])


def _rows(table: pd.DataFrame) -> list[str]:
    return [
        " & ".join([*map(latex, levels(key)), *map(_cell, row)]) + r" \\"
        for key, row in table.iterrows()
    ]
