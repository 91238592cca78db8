"""Figures to files, each drawn once and only when what it shows has changed.

A figure without data is no file, and files of an earlier one go: it is the command that makes some.

PDF embeds its letters as TrueType, so that its text can be searched and publishers take it; SVG has
them as outlines, so that it looks the same whatever fonts a reader has.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.plots.missing import Missing, failed_figure
from analysis.render.write import write_atomic
from analysis.results.load import Results
from analysis.results.studies import studies_digest
from analysis.results.trials import trials_digest
from experiments.system.output import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
MOST_PIXELS = 30_000  # a side; Agg draws no more than 2^16, and a figure grows with its tasks
# Without dates, versions and random ids the same runs give the same bytes.
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}
DATA = "csv"  # what is drawn, as numbers
SAVING: dict[Any, Any] = {"svg.hashsalt": "0", "svg.fonttype": "path", "pdf.fonttype": 42}


@dataclass(frozen=True)
class Drawn:
    """A figure as it was written.

    Attributes:
        png: Its pixels; none where there is nothing to draw.
        problem: One line, where the figure could not be drawn and its files say so; else ``None``.
        command: What makes runs to draw it from, where there are none; else empty.
    """

    png: bytes = b""
    problem: str | None = None
    command: str = ""


def draw(name: str, results: Results, folder: Path, digest: bytes | None = None) -> Drawn:
    """Write ``<name>.png``, ``.pdf``, ``.svg`` and ``.csv``.

    A hidden file beside them holds a digest of the data and of the code that draws, and the command
    of a figure that had no data; while it is the same, the files stand and matplotlib is not even
    imported. A figure that raises is written as one that says so, without that file: the next call
    tries again.

    Args:
        name: Of the figure.
        results: What it is built from.
        folder: Where it is written.
        digest: What ``digest_of(results)`` gives, for who draws several.
    """
    paths = {ending: folder / f"{name}.{ending}" for ending in (*FORMATS, DATA)}
    stamp = folder / f".{name}.sha256"
    digest = digest or digest_of(results)
    known, *commands = stamp.read_bytes().split(b"\n", 1) if stamp.is_file() else [b""]
    there = [path.is_file() for path in paths.values()]
    if known == digest and commands and not any(there):
        return Drawn(command=commands[0].decode(errors="replace"))
    if known == digest and not commands and all(there):
        return Drawn(paths["png"].read_bytes())
    problem: str | None = None
    try:
        built = importlib.import_module(f"analysis.figures.{name}").build(results)
        files = {} if isinstance(built, Missing) else _render(built)
    except Exception as error:  # whatever it is, the other figures are to be drawn
        problem = f"{name}: {_where(error)}"
        files = _render(failed_figure(problem))
    stamp.unlink(missing_ok=True)
    for ending, path in paths.items():
        if ending in files:
            write_atomic(path, files[ending])
        else:
            path.unlink(missing_ok=True)
    if problem is not None:
        return Drawn(files["png"], problem)
    command = built.command if isinstance(built, Missing) else ""
    write_atomic(stamp, b"\n".join([digest, command.encode()]) if command else digest)
    return Drawn(files.get("png", b""), command=command)


def _render(figure: Figure) -> dict[str, bytes]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from analysis.plots.figure_data import figure_data
    from analysis.report.fonts import shared_fonts

    files: dict[str, bytes] = {}
    dpi = min(DPI, MOST_PIXELS / max(figure.get_size_inches()))
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure)  # what is measured for the layout is known when pixels are drawn
    layout = figure.get_layout_engine()
    if layout is not None:
        # Once: with any engine, even one that does nothing, each format is drawn twice.
        layout.execute(figure)
        figure.set_layout_engine(None)
    with mpl.rc_context(SAVING), shared_fonts():
        for ending, options in FORMATS.items():
            file = io.BytesIO()
            figure.savefig(file, format=ending, dpi=dpi, **options)
            files[ending] = file.getvalue()
            if ending == "svg":  # it repeats each text as a comment
                files[ending] = plain(file.getvalue().decode()).encode()
    files[DATA] = plain(figure_data(figure).to_csv(index=False)).encode()
    return files


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
