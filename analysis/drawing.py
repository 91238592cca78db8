"""Figures to files, each drawn once and only when what it shows has changed."""

from __future__ import annotations

import hashlib
import importlib
import io
from importlib.metadata import version
from pathlib import Path

from analysis.files import write_atomic
from analysis.load import Results

DPI = 150


def draw(name: str, results: Results, folder: Path) -> bytes:
    """Write ``<name>.png`` and ``<name>.pdf`` and return the PNG.

    A hidden file beside them holds a digest of the data and of the code that draws; while it is the
    same, the files stand and matplotlib is not even imported.
    """
    png, pdf, stamp = folder / f"{name}.png", folder / f"{name}.pdf", folder / f".{name}.sha256"
    data = folder / f"{name}.csv"
    digest = _digest(results)
    if (
        png.is_file()
        and pdf.is_file()
        and data.is_file()
        and stamp.is_file()
        and stamp.read_bytes() == digest
    ):
        return png.read_bytes()
    figure = importlib.import_module(f"analysis.figures.{name}").build(results)
    pixels, vectors = io.BytesIO(), io.BytesIO()
    # Without dates and versions the same runs give the same bytes.
    figure.savefig(pixels, format="png", dpi=DPI, metadata={"Software": None})
    figure.set_layout_engine("none")  # the layout is found by now; finding it is half the time
    figure.savefig(vectors, format="pdf", metadata={"CreationDate": None})
    write_atomic(png, pixels.getvalue())
    write_atomic(pdf, vectors.getvalue())
    from analysis.figure_data import figure_data  # it imports matplotlib

    write_atomic(data, figure_data(figure).to_csv(index=False).encode())
    write_atomic(stamp, digest)
    return pixels.getvalue()


def _digest(results: Results) -> bytes:
    digest = hashlib.sha256(version("matplotlib").encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    digest.update(results.runs.to_json(orient="records").encode())
    digest.update(results.measurements.to_csv(index=False).encode())
    return digest.hexdigest().encode()
