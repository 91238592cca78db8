"""Fonts of PDF files: the letters of all figures are taken out of a font once, not once a file.

matplotlib takes the letters of each file out of its font anew, which reads the whole font; that was
a third of the time of a report. Here a font is cut down to the letters that texts commonly have,
and every file embeds these; one with other letters has a cut of its own. It leaves out what shapes
text (ligatures, kerning): the letters of a PDF are placed already, and no viewer reads it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COMMON = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("°±²µ×é–—…≤≥−")
FEW = 16  # letters; so few are embedded alone
SHAPING = ("GSUB", "GPOS", "GDEF", "kern", "MATH")
"""Tables for who has text to shape (OpenType 1.9, chapters of these names)."""

_cuts: dict[tuple[str, frozenset[int]], tuple[bytes, Any]] = {}


@contextmanager
def shared_fonts() -> Iterator[None]:
    """Have matplotlib embed the common cuts meanwhile; of another version it does as it does."""
    from matplotlib.backends import _backend_pdf_ps as backend

    if not hasattr(backend, "SubsetResults"):  # before 3.11
        yield
        return
    whole = backend.get_glyphs_subset

    def cut(fontfile: Any, glyphs: Any) -> Any:
        common = _common(fontfile)
        asked = frozenset(glyphs)
        if len(asked) > FEW and asked <= common:
            asked = common
        key = (str(fontfile), asked)
        if key not in _cuts:
            with _without_shaping(), whole(fontfile, set(asked)) as made:
                _cuts[key] = backend.font_as_file(made.font).getvalue(), made.glyph_index_map
        content, numbers = _cuts[key]
        return _opened(backend, content, numbers)

    backend.get_glyphs_subset = cut
    try:
        yield
    finally:
        backend.get_glyphs_subset = whole


@contextmanager
def _opened(backend: Any, content: bytes, numbers: Any) -> Iterator[Any]:
    from fontTools.ttLib import TTFont

    with TTFont(io.BytesIO(content), recalcTimestamp=False) as font:
        yield backend.SubsetResults(font, numbers)


def _common(fontfile: Any) -> frozenset[int]:
    """Numbers of the common letters in a font."""
    from matplotlib.font_manager import get_font

    font = get_font(fontfile)
    return frozenset(font.get_char_index(ord(letter)) for letter in COMMON)


@contextmanager
def _without_shaping() -> Iterator[None]:
    """Have fontTools leave out ``SHAPING``."""
    from fontTools import subset

    whole = subset.Options

    def lean(**options: Any) -> Any:
        made = whole(**options)
        made.drop_tables += SHAPING
        return made

    subset.Options = lean
    try:
        yield
    finally:
        subset.Options = whole
