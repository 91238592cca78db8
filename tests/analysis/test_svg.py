"""The SVG of a figure: what a browser and a reader of the file make of it."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import test_metric_vs_epoch
from analysis.report.svg import for_page, svg_of
from analysis.results.load import load_results
from analysis.style import INK, ON_LIGHT, RC, TEXT_WIDTH, on_dark

EVIL = "<script>alert('&')</script>"
NAME = "{http://www.w3.org/2000/svg}"


def made(name: str = "one", label: str = "A label") -> str:
    """Three lines, of which one has a name, a band, a bar, and a picture of four pixels."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(TEXT_WIDTH, 2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([0, 1, 2], [1, 3, 2.5], "o-", color="#D55E00", label="adam (n=3)")
        left.plot([0, 1, 2], [1, float("nan"), 1], color=INK, label="_unnamed")
        left.fill_between([0, 1, 2], [0, 1, 2], [1, 3, 4], color="#D55E00", alpha=0.2, lw=0)
        left.barh([0], [1.5], label=["a bar"])
        left.text(1, 1, EVIL)
        right.imshow([[0.0, 1.0], [2.0, 3.0]], cmap="viridis")
        right.text(0, 0, "on pixels", color=ON_LIGHT)
    figure.draw_without_rendering()
    return svg_of(figure, name=name, label=label)


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{NAME}text")]


def test_it_is_one_element_that_stands_alone_and_scales() -> None:
    root = ET.fromstring(made(label=f"{EVIL} &"))
    assert root.tag == f"{NAME}svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == f"{EVIL} &"
    assert root.attrib["viewBox"] == f"0 0 {72 * TEXT_WIDTH:g} 144"
    assert root.attrib["width"] == f"{72 * TEXT_WIDTH:g}pt"
    assert "width:100%" in root.attrib["style"]
    assert "max-width" in root.attrib["style"]


def test_text_is_text_in_the_font_of_the_page() -> None:
    svg = made()
    assert EVIL in texts(svg)
    assert "on pixels" in texts(svg)
    assert "<script" not in svg
    assert "DejaVu" not in svg
    assert svg.count("font-family") == 1  # of the root


def test_a_pointer_is_told_name_and_last_value() -> None:
    titles = [title.text for title in ET.fromstring(made()).iter(f"{NAME}title")]
    assert sorted(map(str, titles)) == ["a bar: 1.5", "adam (n=3): 2.5"]


def test_colours_are_variables_that_fall_back_to_themselves() -> None:
    """On a page only: other programs than browsers know no variables."""
    file = made()
    assert "var(" not in file
    page = for_page(file)
    body = page[page.index("</style>") :]  # behind what they are in the dark
    bare = re.findall(r"(?<!,)#[0-9a-f]{6}\b", re.sub(r'href="[^"]*"', "", body))
    assert set(bare) == {ON_LIGHT.lower()}  # what stands on pixels, which stay as they are
    assert "var(--ink-d55e00,#d55e00)" in body
    assert 'fill="var(--ink-000000,#000000)"' in page
    assert all(one == two for one, two in re.findall(r"var\(--ink-(\w+),#(\w+)\)", page))


def test_a_dark_page_turns_black_light_and_keeps_no_sheet() -> None:
    page = for_page(made())
    style, *_ = re.findall(r"<style>(.*?)</style>", page)
    assert style.startswith("@media screen and (prefers-color-scheme:dark){:root{")
    assert f"--ink-000000:{on_dark('#000000')};" in style
    assert "xmlns" not in page
    # The page shows through: nothing is filled as far as the edges.
    assert not re.search(r'd="M0 144l', page)


def test_a_rule_of_it_holds_for_no_other_part_of_a_page() -> None:
    """A class is named by what it says, so that two figures that name one say the same."""
    looks: dict[str, str] = {}
    for page in (for_page(made("one")), for_page(made("two"))):
        rules = "".join(re.findall(r"<style>(.*?)</style>", page)[1:])
        found = dict(re.findall(r"(\.look-[0-9a-f]{6})\{([^}]*)\}", rules))
        assert "".join(f"{name}{{{look}}}" for name, look in found.items()) == rules != ""
        assert all(looks.setdefault(name, look) == look for name, look in found.items())


def test_ids_differ_between_figures_and_each_is_there() -> None:
    ids = []
    for name in ("one", "two"):
        svg = made(name)
        ids.append(set(re.findall(r' id="([^"]*)"', svg)))
        assert {*re.findall(r"url\(#([^)]*)\)", svg), *re.findall(r'href="#([^"]*)"', svg)} == ids[
            -1
        ]
    assert not ids[0] & ids[1]


def test_coordinates_are_those_of_matplotlib_to_a_tenth_of_a_point() -> None:
    """Lines are written by how far each goes: summed up they end where matplotlib's do."""
    points = np.random.default_rng(0).uniform(0, 100, (50, 2))
    figure = Figure(figsize=(3, 2))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(0, 100))
    ax.set_axis_off()
    ax.plot(*points.T, color="#123456")
    (path,) = re.findall(r'd="M([^"]*)"[^>]*#123456', svg_of(figure, name="a", label="a"))
    first, _, steps = path.partition("l")
    numbers = [float(one) for one in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", first + " " + steps)]
    found = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)
    expected = points * (2.16, -1.44) + (0, 144)
    np.testing.assert_allclose(found, expected, atol=0.051)


def test_a_picture_keeps_its_pixels() -> None:
    (image,) = re.findall(r"data:image/png;base64,([^\"]*)", made())
    with Image.open(io.BytesIO(base64.b64decode(image))) as opened:
        assert opened.mode == "P"
        colours = np.unique(np.reshape(opened.convert("RGB"), (-1, 3)), axis=0)
    expected = mpl.colormaps["viridis"]([0.0, 1 / 3, 2 / 3, 1.0])[:, :3]
    np.testing.assert_allclose(sorted(colours.tolist()), sorted((255 * expected).tolist()), atol=1)


def test_the_same_runs_give_the_same_bytes(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0)
    results = load_results(runs_dir)
    first, second = (
        svg_of(test_metric_vs_epoch.build(results), name="a", label="a") for _ in range(2)
    )
    assert first == second
    assert len(first) < 12_000


@pytest.mark.parametrize("serif", [False, True])
def test_serifs_are_asked_for_where_no_page_is_around_it(serif: bool) -> None:
    svg = svg_of(Figure(figsize=(1, 1)), name="a", label="a", serif=serif)
    assert ("STIXGeneral" in svg) == serif
