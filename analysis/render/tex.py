r"""Tables and figures as LaTeX that is ``\input`` alone. Whatever comes from a record is escaped.

A table fits the text of a portrait page: its letters get smaller, down to ``SIZES[-1]`` points;
where that is not enough, the widest columns of a grid are set in paragraphs, and those of a flat
table follow below their row. A grid is a float a block, what is longer than a page a ``longtable``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.render.cells import (
    blocks,
    cell_text,
    commands,
    is_flat,
    is_strong,
    levels,
    nothing,
    number,
    shown,
    spans,
    value_text,
)
from analysis.statistics.summary import Summary
from experiments.system.output import plain_line

PACKAGES = {r"\arraybackslash": "array", r"\toprule": "booktabs", "{longtable}": "longtable"}
"""LaTeX packages that the tables need, by what in a table needs them."""
FOLDER = r"\reportpath"
"""The macro that says where the report lies, seen from the document that takes its figures."""
HEIGHT = 450.0  # points that the rows of a float may take, beside its caption and notes
WIDTH = 5.5 * 72.27  # points of TeX, of the text of a portrait page
SIZES = (9.0, 8.0, 7.0, 6.0)  # points, of a table's letters
EM = 0.56  # of the size, for a letter: Computer Modern's digits take 0.5, its bold ones 0.575
GAP = 6.0  # points between two columns
COMMAND = "command"
"""The column of a flat table whose commands follow as comments."""
BREAKS = re.compile(r"(?<=[/=,:_-])(?=[^\s\d/])")
"""Where a name or a command may go on in a new line; a number never."""
TOGETHER = "\u00a0"
"""The blank at which no line ends."""
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
_ESCAPES = str.maketrans(SPECIAL)


def to_latex(table: pd.DataFrame, caption: str, name: str) -> str:
    r"""Write ``table`` environments with ``\caption`` and ``\label{tab:name}``, one a block.

    Of the caption the first sentence heads the table and the others follow below it. The commands
    behind the numbers are comments.

    Args:
        table: What a module of ``analysis.tables`` has built.
        caption: What it says, as plain text.
        name: Of the table; a block's label has its own name after it.
    """
    table = shown(table)
    sources = {**commands(table), **_commands(table)}
    if is_flat(table):
        table = table.drop(columns=COMMAND, errors="ignore")
    head, _, notes = caption.partition(". ")
    parts = list(blocks(table)) if len(table) else [("", table)]
    several = len(parts) > 1
    if table.map(_has_interval).any(axis=None):
        notes = f"{notes} In square brackets: {_level(table)} Student-t interval of the mean."
    written = []
    for at, (block, part) in enumerate(parts):
        labels = [f"tab:{name}"] if at == 0 else []
        labels += [f"tab:{name}-{_slug(block)}"] if several else []
        title = latex(f"{head.rstrip('.')}; {block}." if several else f"{head.rstrip('.')}.")
        below = latex(notes.strip()) if at == 0 else rf"Notes: Table~\ref{{tab:{name}}}."
        marks = "".join(rf"\label{{{label}}}" for label in labels)
        written.append(_float(part, rf"\caption{{{title}}}{marks}", below))
    body = "\n".join(written)
    comments = [
        f"% {'; '.join(places)}: {' '.join(command.split())}\n"
        for command, places in sources.items()
    ]
    needed = [package for mark, package in PACKAGES.items() if mark in body]
    return f"% \\usepackage{{{','.join(needed)}}}\n{body}{''.join(comments)}"


def to_latex_figure(name: str, caption: str) -> str:
    r"""Write a ``figure`` with ``\caption`` and ``\label{fig:name}``, of the PDF at its true size.

    The document says by ``\newcommand{\reportpath}{...}`` where the report lies; without it, beside
    the document.
    """
    short = latex(caption.partition(". ")[0].rstrip("."))  # for a list of figures
    return (
        rf"% \usepackage{{graphicx}}; \newcommand{{{FOLDER}}}{{folder of the report}}"
        "\n"
        rf"\providecommand{{{FOLDER}}}{{.}}"
        "\n\\begin{figure}\n\\centering\n"
        rf"\includegraphics{{{FOLDER}/figures/{name}.pdf}}"
        "\n"
        rf"\caption[{{{short}.}}]{{{latex(caption)}}}\label{{fig:{name}}}"
        "\n\\end{figure}\n"
    )


def latex(text: str) -> str:
    """Escape text for LaTeX; what its default fonts lack becomes a question mark."""
    known = plain_line(" ".join(text.split())).translate(_ESCAPES)
    return known.encode("ascii", "replace").decode("ascii")


def _float(part: pd.DataFrame, caption: str, notes: str) -> str:
    """Write one block with caption and notes; a long one over several pages, as no float."""
    small = rf"\fontsize{{7}}{{8.4}}\selectfont\noindent {notes}\par"
    if part.empty:
        size, lines = SIZES[0], 1
        rows = [rf"\begin{{tabular}}{{l}}{latex(nothing(part))}\end{{tabular}}"]
    else:
        below = _below(part) if is_flat(part) else []
        lines = len(part) * (2 if below else 1)
        size, columns = _layout(part.drop(columns=below))
        rows = [r"\midrule", *_rows(part, below), r"\bottomrule"]
    font = rf"\fontsize{{{size:g}}}{{{1.2 * size:g}}}\selectfont\setlength{{\tabcolsep}}{{3pt}}"
    if lines * 1.2 * size > HEIGHT:
        head = [r"\toprule", *_head(part.drop(columns=below))]
        start = [rf"\setlength{{\LTcapwidth}}{{\linewidth}}\begin{{longtable}}{{{columns}}}"]
        start += [rf"{caption}\\", *head, r"\endfirsthead", *head, r"\endhead"]
        return "\n".join([f"{{{font}", *start, *rows, r"\end{longtable}", "}", f"{{{small}}}", ""])
    if not part.empty:
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *_head(part.drop(columns=below))]
        rows = [*head, *rows, r"\end{tabular}"]
    start = [r"\begin{table}", r"\centering", caption, rf"\par\smallskip {{{font}"]
    end = [rf"\par\smallskip \begin{{minipage}}{{\linewidth}}{small}\end{{minipage}}"]
    return "\n".join([*start, *rows, "}", *(end if notes else []), r"\end{table}", ""])


def _head(part: pd.DataFrame) -> list[str]:
    """Name the columns; above them what several share, but for the block itself."""
    names, lines = list(map(str, part.index.names)), []
    for level in range(1, part.columns.nlevels - 1):
        at, rules, heads = len(names) + 1, [], []
        for name, span in spans(part, level):
            heads.append(rf"\multicolumn{{{span}}}{{c}}{{{latex(name)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines += [" & ".join([""] * len(names) + heads) + r" \\", " ".join(rules)]
    lasts = [str(levels(column)[-1]) for column in part.columns]
    return [*lines, " & ".join(map(_breakable, (*names, *lasts))) + r" \\"]


def _rows(part: pd.DataFrame, below: Sequence[str]) -> Iterator[str]:
    """Write the rows; what they have no room for in a line below, which stays with its row."""
    kept = part.drop(columns=below)
    for (key, row), (_, whole) in zip(kept.iterrows(), part.iterrows(), strict=True):
        line = " & ".join([*map(_breakable, levels(key)), *map(_cell, row)])
        more = "; ".join(f"{name}: {_text(whole[name])}" for name in below if _text(whole[name]))
        yield line + (r" \\*" if more else r" \\")
        if more:
            span = part.index.nlevels + kept.shape[1]
            body = rf"\hspace*{{1em}}{_breakable(more)}"
            yield rf"\multicolumn{{{span}}}{{@{{}}p{{\linewidth}}@{{}}}}{{{body}}} \\[2pt]"


def _below(part: pd.DataFrame) -> list[str]:
    """Choose the columns of a flat table that its lines have no room for: the widest."""
    wide = [max(map(len, column)) for column in _texts(part)]
    names = list(map(str, part.columns))
    last = dict(zip(names, wide[part.index.nlevels :], strict=True))
    taken: list[str] = []
    for name in sorted(names, key=lambda name: -last[name]):
        count = len(wide) - len(taken)
        if count == 1 or _fits(sum(wide) - sum(map(last.__getitem__, taken)), count, SIZES[-2]):
            break
        taken.append(name)
    return [name for name in names if name in taken]


def _fits(letters: float, columns: int, size: float) -> bool:
    return EM * size * letters + GAP * (columns - 1) <= WIDTH


def _layout(part: pd.DataFrame) -> tuple[float, str]:
    """Choose the size of letters and the columns: paragraphs where lines would be too wide."""
    texts = list(_texts(part))
    wide = [max(map(len, column)) for column in texts]
    aligned = "l" * part.index.nlevels + ("l" if is_flat(part) else "r") * part.shape[1]
    for size in SIZES[:-1]:
        if _fits(sum(wide), len(wide), size):
            return size, f"@{{}}{aligned}@{{}}"
    least = [max(len(word) for text in column for word in _words(text)) for column in texts]
    size = next((size for size in SIZES[-2:] if _fits(sum(least), len(wide), size)), SIZES[-1])
    widths = _narrowed(wide, least, (WIDTH - GAP * (len(wide) - 1)) / (EM * size))
    columns = "".join(
        letter if width >= whole else _paragraph(letter, EM * size * width)
        for letter, whole, width in zip(aligned, wide, widths, strict=True)
    )
    return size, f"@{{}}{columns}@{{}}"


def _narrowed(wide: Sequence[int], least: Sequence[int], letters: float) -> list[float]:
    """Cut the widest columns to one width, so that all take so many letters, none under its own."""
    low, high = 0.0, float(max(wide))
    for _ in range(50):  # halves: more than a float can tell apart
        limit = (low + high) / 2
        taken = sum(max(min(w, limit), le) for w, le in zip(wide, least, strict=True))
        low, high = (limit, high) if taken <= letters else (low, limit)
    return [max(min(w, low), le) for w, le in zip(wide, least, strict=True)]


def _paragraph(letter: str, points: float) -> str:
    ragged = {"l": r"\raggedright", "r": r"\raggedleft"}[letter]
    return rf">{{{ragged}\arraybackslash}}p{{{points:.1f}pt}}"


def _texts(part: pd.DataFrame) -> Iterator[list[str]]:
    """Give what stands in each column, its name included."""
    keys = [levels(key) for key in part.index]
    for at, name in enumerate(part.index.names):
        yield [str(name), *(key[at] for key in keys)]
    for at, column in enumerate(part.columns):
        yield [str(levels(column)[-1]), *map(_text, part.iloc[:, at])]


def _words(text: str) -> list[str]:
    return [word for part in text.split(" ") for word in BREAKS.split(part)]


def _text(cell: object) -> str:
    """Write a cell, a mean over seeds with its interval."""
    if not isinstance(cell, Summary) or cell.low is None or cell.high is None:
        return cell_text(cell)
    parts = [f"{value_text(cell)} ({cell.note})", f"[{number(cell.low)}, {number(cell.high)}]"]
    return " ".join(part.replace(" ", TOGETHER) for part in parts)


def _cell(cell: object) -> str:
    text = _breakable(_text(cell))
    return rf"\textbf{{{text}}}" if text and is_strong(cell) else text


def _breakable(text: str) -> str:
    """Escape text, and mark the places at which a line may end."""
    return " ".join(
        r"\allowbreak{}".join("~".join(map(latex, p.split(TOGETHER))) for p in BREAKS.split(word))
        for word in text.split(" ")
    )


def _has_interval(cell: object) -> bool:
    return isinstance(cell, Summary) and cell.low is not None


def _level(table: pd.DataFrame) -> str:
    found = {cell.level for cell in table.to_numpy().ravel() if _has_interval(cell)}
    return " and ".join(f"{level:.0%}" for level in sorted(found))


def _slug(block: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", block).strip("-")


def _commands(table: pd.DataFrame) -> dict[str, list[str]]:
    """Gather the commands of a flat table, with the rows that they make."""
    found: dict[str, list[str]] = {}
    if is_flat(table) and COMMAND in table:
        for key, command in table[COMMAND].items():
            if command:
                found.setdefault(str(command), []).append(", ".join(levels(key)))
    return found
