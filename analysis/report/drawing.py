"""Figures to files, each drawn once and only when what it shows has changed.

A figure without data is no file, and files of an earlier one go: it is the command that makes some.

PDF embeds its letters as TrueType, so that its text can be searched and publishers take it; the SVG
is for a page, and has its text as text.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.plots.missing import Missing, failed_figure
from analysis.render.write import write_atomic
from analysis.results.load import Results
from analysis.results.studies import studies_digest
from analysis.results.trials import trials_digest
from analysis.style import Look
from experiments.records import strict_json
from experiments.records.kinds import TEXT, fault, list_of, mapping
from experiments.system.output import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 300
ON_PAGE = ("svg",)
"""What a report draws."""
FORMATS = (*ON_PAGE, "pdf", "png")
"""What there is for a paper and a slide as well."""
# Without dates, versions and random ids the same runs give the same bytes.
OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}, "facecolor": "white"},
    "pdf": {"metadata": {"CreationDate": None}},
}
SAVING: dict[Any, Any] = {"pdf.fonttype": 42}
DATA = "csv"  # what is drawn, as numbers
PLAIN = Look()
STAMP = mapping(
    {
        "digest": TEXT.needed,
        "formats": list_of(TEXT).needed,
        "command": TEXT.needed,
        "note": TEXT.needed,
    }
)


@dataclass(frozen=True)
class Drawn:
    """A figure as it was written.

    Attributes:
        svg: The picture, as a file of that name has it; none where there is nothing to draw.
        problem: One line, where the figure could not be drawn and its files say so; else ``None``.
        command: What makes runs to draw it from, where there are none; else empty.
        note: How it is to be read, for its caption.
    """

    svg: str = ""
    problem: str | None = None
    command: str = ""
    note: str = ""


def draw(
    name: str,
    results: Results,
    folder: Path,
    digest: bytes | None = None,
    *,
    caption: str = "",
    formats: Collection[str] = FORMATS,
    look: Look = PLAIN,
) -> Drawn:
    """Write ``<name>.csv`` and the picture in each format; those of an earlier one go.

    A hidden file beside them holds a digest of the data and of the code that draws, which formats
    there are, the note, and the command of a figure that had no data; while it is the same, the
    files stand and matplotlib is not even imported. A figure that raises is written as one that
    says so, without that file: the next call tries again.

    Args:
        name: Of the figure.
        results: What it is built from.
        folder: Where it is written.
        digest: What ``digest_of(results)`` gives, for who draws several.
        caption: What a screen reader says of the SVG.
        formats: Of ``FORMATS``.
        look: What is asked of it.
    """
    stamp = folder / f".{name}.sha256"
    known = _read(stamp)
    now = hashlib.sha256((digest or digest_of(results)) + repr(look).encode()).hexdigest()
    there = [end for end in (*FORMATS, DATA) if folder.joinpath(f"{name}.{end}").is_file()]
    if known.get("digest") == now:
        if known["command"] and not there:
            return Drawn(command=known["command"])
        whole = {DATA, *formats, *ON_PAGE} <= {*there} and {*formats} <= {*known["formats"]}
        if not known["command"] and whole:
            return Drawn(_text(folder / f"{name}.svg"), note=known["note"])
    problem: str | None = None
    note = ""
    try:
        built, files, note = _made(name, results, caption, formats, look)
    except Exception as error:  # whatever it is, the other figures are to be drawn
        problem = f"{name}: {_where(error)}"
        built, files = None, _render(failed_figure(problem), name, problem, formats)
    stamp.unlink(missing_ok=True)
    for ending in (*FORMATS, DATA):
        if ending in files:
            write_atomic(folder / f"{name}.{ending}", files[ending])
        else:
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    svg = files.get("svg", b"").decode()
    if problem is not None:
        return Drawn(svg, problem)
    command = built.command if isinstance(built, Missing) else ""
    told = {"digest": now, "formats": sorted(formats), "command": command, "note": note}
    write_atomic(stamp, strict_json.dumps(told).encode())
    return Drawn(svg, command=command, note=note)


def _made(
    name: str, results: Results, caption: str, formats: Collection[str], look: Look
) -> tuple[Figure | Missing, dict[str, bytes], str]:
    """Build the figure and render it under one style: letters are chosen when they are set."""
    module = importlib.import_module(f"analysis.figures.{name}")
    with look.used():
        built = module.build(results)
        if isinstance(built, Missing):
            return built, {}, ""
        from analysis.plots.panels import note_of

        return built, _render(built, name, caption, formats, serif=look.serif), note_of(built)


def _render(
    figure: Figure, name: str, caption: str, formats: Collection[str], *, serif: bool = False
) -> dict[str, bytes]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from analysis.plots.figure_data import figure_data
    from analysis.report.fonts import shared_fonts
    from analysis.report.svg import svg_of

    FigureCanvasAgg(figure)  # what is measured for the layout is known when pixels are drawn
    layout = figure.get_layout_engine()
    if layout is not None:
        # Once: with any engine, even one that does nothing, each format is drawn twice.
        layout.execute(figure)
        figure.set_layout_engine(None)
    files = {DATA: plain(figure_data(figure).to_csv(index=False)).encode()}
    svg = svg_of(figure, name=name, label=plain(caption or name), serif=serif)
    files["svg"] = plain(svg).encode()
    others = [ending for ending in FORMATS if ending in OPTIONS and ending in formats]
    if others:
        with mpl.rc_context(SAVING), shared_fonts():
            for ending in others:
                file = io.BytesIO()
                figure.savefig(file, format=ending, dpi=DPI, **OPTIONS[ending])
                files[ending] = file.getvalue()
    return files


def _read(stamp: Path) -> Mapping[str, Any]:
    """Read the file beside a figure; one that is not ours counts as none."""
    try:
        known = strict_json.loads(stamp.read_bytes())
    except (OSError, ValueError):
        return {}
    return {} if fault(known, STAMP) else known


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _where(error: Exception) -> str:
    """Say what was raised and where, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})"


def digest_of(results: Results) -> bytes:
    """Digest of the code that draws, and of everything that a figure may show."""
    digest = hashlib.sha256(version("matplotlib").encode())
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    digest.update(results.digest)
    digest.update(studies_digest(results.runs_dir))
    digest.update(trials_digest(results.runs_dir))
    return digest.hexdigest().encode()
