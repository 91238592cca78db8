"""A figure as an SVG that a page can hold: small, its text as text, its colours those of the page.

matplotlib writes a file for a viewer of its own: every coordinate with six digits, the names of its
fonts at every word, a rule of style that would hold for the whole page, and ids of every group.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.style import FIXED, STACKS, on_dark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 90  # of what is pixels inside
COLOURS = 256  # of a picture with a palette
MANY = 4  # elements of one look
LARGER = 1.3  # than in print a figure may be on a page
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'

_HEAD = re.compile(r'.*?<svg[^>]*viewBox="0 0 (\S+) (\S+)"[^>]*>', re.DOTALL)
_LEFT_OUT = re.compile(
    r"<defs>\s*<style.*?</style>\s*</defs>"  # a rule for all elements, which the root has here
    r"|<!--.*?-->"  # each formula
    r"|<metadata>.*?</metadata>",
    re.DOTALL,
)
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d+")
_IN_TAG: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r'(?<=<g) id="[^"]*"| id="image[^"]*"'), ""),  # nothing refers to these
    (re.compile(r' transform="rotate\(-0 [^"]*\)"'), ""),
    (re.compile(r"font-family: [^;\"]*;? ?"), ""),
    (re.compile(r' style=" *"'), ""),
    (re.compile(r"xlink:href"), "href"),
    (re.compile(r"(?<=[:;]) "), ""),
    (re.compile(r"\s*\b([MLCQz])\s*|\s+(?=\")"), r"\1"),
    (re.compile(r' d="[MLz\d.\s-]*"'), lambda found: f' d="{_path(found[0][4:-1])}"'),
    (re.compile(r' (?:d|x|y)="[^"]*"'), lambda found: _NUMBER.sub(_tenths, found[0])),
)
_TITLE = re.compile(r'<g id="title(\d+)">')
_MARKERS = re.compile(
    r'<g( clip-path="[^"]*")?>(<use href="[^"]*" x="[^"]*" y="[^"]*"( style="[^"]*")/>'
    r'(?:<use href="[^"]*" x="[^"]*" y="[^"]*"\3/>)*)</g>'
)
_GROUP = re.compile(r"(<g(?: [^>]*)?>|</g>)")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_COLOURED = re.compile(r"<style>[^<]*</style>|<[^>]*>")
_STYLE = re.compile(r' style="([^"]*)"')
_AGAIN = re.compile(r"(<use [^>]*/>)\1+")
_IMAGE = re.compile(r"(?<=data:image/png;base64,)\s*([^\"]*)")
_NOTHING = re.compile(r'<path d="[^"]*" style="fill:none"/>|<g(?: [^>]*)?></g>')


def svg_of(figure: Figure, *, name: str, label: str, serif: bool = False) -> str:
    """Write a figure as one ``<svg>`` element, without what stands before it in a file.

    Lines and bars that have a name say it, with their last value, where a pointer rests.

    Args:
        figure: With its layout done.
        name: Of the figure; ids inside differ from those of figures of other names.
        label: What a screen reader says.
        serif: Whether text without a page around it has serifs.
    """
    import matplotlib as mpl

    file = io.StringIO()
    titles = list(_titles(figure))
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata=NO_METADATA, facecolor="none", dpi=DPI)
    text = file.getvalue()
    head = _HEAD.match(text)
    assert head is not None
    width, height = (float(side) for side in head.groups())
    body = _with_classes(_compact(text[head.end() :], titles))
    return (
        f'<svg{NAMESPACE} width="{width:g}pt" height="{height:g}pt" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'font-family="{STACKS[serif]}" fill="#000000" stroke-linejoin="round" '
        f'style="width:100%;height:auto;max-width:{LARGER * width / 72:.2f}in">{body}'
    )


def for_page(svg: str) -> str:
    """Write the element for a page of HTML, with the colours that it has in the dark.

    Colours become variables that fall back to themselves, as ``var(--ink-d55e00,#d55e00)``.
    """
    known = sorted({color for color in _COLOUR.findall(svg) if color not in FIXED})
    dark = "".join(f"--ink-{color[1:]}:{on_dark(color)};" for color in known)
    style = f"<style>@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    opening, rest = svg.replace(NAMESPACE, "", 1).split(">", 1)
    opening = opening.replace('fill="#000000"', f'fill="{_variable("#000000")}"')
    return f"{opening}>{style}{_COLOURED.sub(_variables, rest)}"


def _variables(found: re.Match[str]) -> str:
    return _COLOUR.sub(lambda color: _variable(color[0]), found[0])


def _titles(figure: Figure) -> Iterator[str]:
    """Mark the lines and bars that have a name, and say what each shows."""
    from analysis.plots.figure_data import name_of

    count = 0
    for axes in figure.axes:
        for artist in (*axes.lines, *(bar for part in axes.containers for bar in part)):
            if name := name_of(artist.get_label()):
                artist.set_gid(f"title{count}")
                count += 1
                yield f"{name}: {_last(artist):.4g}"


def _last(artist: Any) -> float:
    """Find the last value of a line, or the length of a bar."""
    if not hasattr(artist, "get_ydata"):
        return float(artist.get_width())
    values = np.asarray(artist.get_ydata(), dtype=np.float64)
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else float("nan")


def _compact(body: str, titles: Sequence[str]) -> str:
    body = re.sub(r">\s+<", "><", _LEFT_OUT.sub("", body))
    body = _TAG.sub(_tag, body)
    body = _MARKERS.sub(_shared, body)
    body = _AGAIN.sub(r"\1", body)
    body = _IMAGE.sub(_palette, body)
    body = _TITLE.sub(lambda found: f"<g><title>{escape(titles[int(found[1])])}</title>", body)
    while (shorter := _NOTHING.sub("", body)) != body:
        body = shorter
    return _without_groups(body)


def _with_classes(body: str) -> str:
    """Write each look that many elements have once, by a class of its own content's name."""
    rules = ""
    for look, count in Counter(_STYLE.findall(body)).items():
        if count >= MANY:
            name = f"look-{hashlib.sha256(look.encode()).hexdigest()[:6]}"
            rules += f".{name}{{{look}}}"
            body = body.replace(f' style="{look}"', f' class="{name}"')
    return f"<style>{rules}</style>{body}" if rules else body


def _without_groups(body: str) -> str:
    """Take out the groups that say nothing: matplotlib has one around each artist."""
    parts = _GROUP.split(body)
    nothing: list[bool] = []
    for index in range(1, len(parts), 2):
        if parts[index] == "</g>":
            silent = bool(nothing) and nothing.pop()
        else:
            silent = parts[index] == "<g>" and not parts[index + 1].startswith("<title>")
            nothing.append(silent)
        if silent:
            parts[index] = ""
    return "".join(parts)


def _tag(found: re.Match[str]) -> str:
    tag = found[0]
    if tag.startswith('<g id="title'):
        return tag
    for pattern, instead in _IN_TAG:
        tag = pattern.sub(instead, tag)
    return tag


def _shared(found: re.Match[str]) -> str:
    """Write the look of several markers once."""
    return f"<g{found[1] or ''}{found[3]}>{found[2].replace(found[3], '')}</g>"


def _palette(found: re.Match[str]) -> str:
    """Write a picture by the colours that it has, where these are few, as those of a map are."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        least, _ = image.convert("RGBA").getchannel("A").getextrema()
        if least != 255 or image.getcolors(COLOURS) is None:
            return found[1]
        file = io.BytesIO()
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(file, format="png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _path(steps: str) -> str:
    """Write lines by how far each goes, to tenths of a point, without those that go nowhere.

    Example:
        >>> _path("M100 20L100.31 20.2L100.32 20.21L99 21z")
        'M100 20l.3 .2-1.3 .8z'
    """
    written, last = "", (0, 0)
    for letter, x, y in re.findall(r"([MLz])(?:(\S+) ([\d.-]+))?", steps):
        if letter == "z":
            written += "z"
            continue
        here = round(10 * float(x)), round(10 * float(y))
        moved = here[0] - last[0], here[1] - last[1]
        if letter == "M":
            written += f"M{_short(here[0])} {_short(here[1])}l"
        elif moved != (0, 0):
            written += f" {_short(moved[0])} {_short(moved[1])}"
        last = here
    return re.sub(r"(?<=l) | (?=-)|l(?=[zM]|$)", "", written)


def _short(tenths: int) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{tenths / 10:g}")


def _tenths(found: re.Match[str]) -> str:
    """Round a coordinate to tenths of a point: a 700th of an inch."""
    return f"{round(float(found[0]), 1) + 0.0:g}"


def _variable(color: str) -> str:
    return color if color in FIXED else f"var(--ink-{color[1:]},{color})"
