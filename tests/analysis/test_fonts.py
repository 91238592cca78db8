"""The fonts in a PDF against the font that they were taken from."""

import io
import re
import zlib

import matplotlib as mpl
import pytest
from fontTools.ttLib import TTFont
from matplotlib.backends import _backend_pdf_ps
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont

from analysis.report import fonts
from analysis.report.drawing import SAVING

pytestmark = pytest.mark.skipif(
    not hasattr(_backend_pdf_ps, "SubsetResults"),
    reason="matplotlib before 3.11 takes letters out of fonts by other means",
)
TEXT = "Loss by epoch (%), n=3: 0.123 ± 0.4"


def saved(text: str) -> bytes:
    figure, file = Figure(), io.BytesIO()
    figure.text(0.1, 0.5, text)
    with mpl.rc_context(SAVING), fonts.shared_fonts():
        figure.savefig(file, format="pdf", metadata={"CreationDate": None})
    return file.getvalue()


def streams(pdf: bytes) -> list[bytes]:
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return [zlib.decompress(one) if one[:1] == b"x" else one for one in found]


def embedded(pdf: bytes) -> list[bytes]:
    return [one for one in streams(pdf) if one.startswith(b"\x00\x01\x00\x00")]


def test_every_letter_has_the_outline_and_width_of_the_font() -> None:
    whole = TTFont(findfont("DejaVu Sans"))
    (content,) = embedded(saved(TEXT))
    found = TTFont(io.BytesIO(content))
    names = {whole.getBestCmap()[ord(letter)] for letter in set(TEXT)}
    assert names <= set(found.getGlyphOrder())
    for name in set(found.getGlyphOrder()) - {".notdef"}:  # shown for no letter
        assert found["hmtx"][name] == whole["hmtx"][name]
        ours, theirs = (font["glyf"][name].getCoordinates(font["glyf"]) for font in (found, whole))
        assert list(ours[0]) == list(theirs[0])
    assert not set(fonts.SHAPING) & set(found.keys())
    for table in ("cvt ", "fpgm", "prep"):  # what makes letters sharp on a screen
        assert found.getTableData(table) == whole.getTableData(table)


def test_text_can_be_searched() -> None:
    """Each code of the page has its letter in the map that a viewer searches by."""
    told = b"".join(streams(saved(TEXT)))
    mapped = {
        bytes.fromhex(code.decode()).decode("utf-16be")
        for group in re.findall(rb"\[((?:<[0-9a-f]{4}> ?)+)\]", told)
        for code in re.findall(rb"<([0-9a-f]{4})>", group)
    }
    assert set(TEXT) <= mapped


def test_figures_share_a_cut_and_a_rare_letter_has_its_own() -> None:
    """Whatever was drawn before, a figure's bytes are the same."""
    first = saved(TEXT)
    assert embedded(first) == embedded(saved("Another text about jumps of a metric, by step"))
    rare = saved("Thirty letters that are common, and Ж")
    assert embedded(rare) != embedded(first)
    fonts._cuts.clear()
    assert saved("Thirty letters that are common, and Ж") == rare
    assert saved(TEXT) == first
