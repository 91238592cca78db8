import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb

from analysis.style import (
    COLORS,
    DARK_PAGE,
    KNOWN,
    SHADES,
    SOFT,
    contrast,
    metric_label,
    on_dark,
    style_of,
)

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]  # sRGB, D65


def lab(color: str, vision: str) -> np.ndarray:
    """CIE L*a*b* of a colour (CIE 15) as someone sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    x, y, z = np.array(XYZ) @ seen / (np.array(XYZ) @ np.ones(3))
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def hue(color: str) -> float:
    return float(rgb_to_hsv(to_rgb(color))[0])


def test_lab_of_white_and_black_is_known() -> None:
    assert lab("#FFFFFF", "normal") == pytest.approx([100, 0, 0], abs=1e-6)
    assert lab("#000000", "deuteranopia") == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart(vision: str) -> None:
    variants = {"adafisherw", "ekfac", "soap", *(name for name in KNOWN if "_" in name)}
    heads = {style.color for name, style in KNOWN.items() if name not in variants}
    colours = sorted(heads | set(COLORS))
    seen = [lab(color, vision) for color in colours]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 15  # a difference of 2.3 is just noticeable (Mahy et al., 1994)


def test_variants_of_a_method_differ_in_lightness_line_and_marker() -> None:
    for family in ("adafisher", "kfac"):
        styles = [style for name, style in KNOWN.items() if family in name]
        lightness = sorted(lab(style.color, "normal")[0] for style in styles)
        assert min(np.diff(lightness)) > 5  # CIE units, of 100
        assert len({style.dash for style in styles}) == len(styles)
    variants = [style_of("my_own", "my_own", f"my_own (lr={lr})") for lr in range(40)]
    assert len({style.color for style in variants}) == len(SHADES)


@pytest.mark.parametrize("color", sorted({style.color for style in KNOWN.values()} | {SOFT}))
def test_every_colour_can_be_read_in_the_dark(color: str) -> None:
    assert contrast(on_dark(color), DARK_PAGE) > 4.4
    page = Path(__file__).parents[2] / "analysis/report/templates/page.css"
    assert f"--page: {DARK_PAGE.lower()}" in page.read_text("utf-8")


def test_every_colour_stands_out_from_white_in_grey() -> None:
    assert max(lab(color, "normal")[0] for color in COLORS) < 75


def test_known_methods_look_the_same_whatever_else_is_drawn() -> None:
    assert style_of("adafisher").color == "#D55E00"
    assert {name: style_of(name) for name in reversed(KNOWN)} == KNOWN


def test_known_methods_are_told_apart_without_colour() -> None:
    in_grey = [(style.dash, style.marker) for style in KNOWN.values()]
    assert len(set(in_grey)) == len(KNOWN)
    assert len({style.marker for style in KNOWN.values()}) == len(KNOWN)


def test_an_unknown_name_looks_the_same_in_another_process() -> None:
    code = "from analysis.style import style_of; print(style_of('my_own'))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert shown == str(style_of("my_own"))
    assert style_of("my_own").color in COLORS


def test_a_family_lends_its_colour_to_an_unknown_name() -> None:
    style = style_of("adafisher_mine", "adafisher")
    assert hue(style.color) == pytest.approx(hue(KNOWN["adafisher"].color), abs=0.02)
    assert style.marker not in {known.marker for known in KNOWN.values()}


def test_variants_keep_the_hue_and_change_lightness_and_marker() -> None:
    variants = [style_of("adam", "adam", variant) for variant in ("adam (lr=1)", "adam (lr=2)")]
    own = KNOWN["adam"].color
    assert {round(hue(style.color), 2) for style in variants} == {round(hue(own), 2)}
    assert own not in {style.color for style in variants}
    assert KNOWN["adam"].marker not in {style.marker for style in variants}


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("test_accuracy_percent", "test accuracy (%)"),
        ("train_loss", "train loss (nats)"),
        ("test_perplexity", "test perplexity"),
        ("step_seconds", "step (s)"),
    ],
)
def test_labels_carry_their_unit(metric: str, label: str) -> None:
    assert metric_label(metric) == label
