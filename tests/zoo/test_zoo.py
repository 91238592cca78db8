"""Forty architectures: every factor beside the oracle's, and every parameter moves."""

import os
import statistics
from collections import Counter
from pathlib import Path

import pytest

from adafisher.reasons import REASONS
from tests.zoo.architectures import ZOO, Architecture
from tests.zoo.check import NO_GRADIENT, Line, absent, check, table

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of many kinds
TABLE = Path(__file__).with_name("table.txt")
TOLERANCE, MEDIAN_SHARE = 1e-9, 0.98
LINES: dict[str, Line] = {}


def line_of(architecture: Architecture) -> Line:
    if absent(architecture):
        pytest.skip(f"{architecture.library} is not installed: pip install '.[suite,zoo]'")
    if architecture.name not in LINES:
        LINES[architecture.name] = check(architecture)
    return LINES[architecture.name]


@pytest.mark.parametrize("architecture", ZOO, ids=lambda entry: entry.name)
def test_factors_are_those_of_the_functional_calls(architecture: Architecture) -> None:
    line = line_of(architecture)
    assert line.unknown == []
    assert line.error < TOLERANCE
    assert line.stuck == []
    assert set(line.reasons) <= {*REASONS, NO_GRADIENT}


def test_share_with_curvature() -> None:
    lines = [line_of(architecture) for architecture in ZOO]
    assert statistics.median(line.share for line in lines) >= MEDIAN_SHARE
    # Another version of a library may have another element here or there: then write it anew.
    assert table(lines) == TABLE.read_text("utf-8").rstrip("\n")


def test_the_zoo_is_what_it_says() -> None:
    assert Counter(entry.library for entry in ZOO) == {
        "transformers": 16,
        "timm": 14,
        "torchvision": 6,
        "torch_geometric": 4,
    }
    assert len({entry.name for entry in ZOO}) == 40
