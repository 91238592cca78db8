import subprocess
import sys
from pathlib import Path

import pytest

from analysis.style import COLORS, KNOWN, metric_label, style_of


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
    assert style.color == KNOWN["adafisher"].color
    assert style.marker not in {known.marker for known in KNOWN.values()}


def test_variants_keep_the_colour_and_change_the_marker() -> None:
    variants = [style_of("adam", "adam", variant) for variant in ("adam (lr=1)", "adam (lr=2)")]
    assert {style.color for style in variants} == {KNOWN["adam"].color}
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
