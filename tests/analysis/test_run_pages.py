import math

import numpy as np
import pytest

from analysis.report.run_pages import HEIGHT, MARGIN, TOP, WIDTH, polylines


def drawn(epoch: list[float], y: list[float]) -> list[list[tuple[float, float]]]:
    found = polylines({"epoch": np.array(epoch), "test_loss": np.array(y)}, "test_loss")
    assert found is not None
    return [
        [(float(a), float(b)) for a, b in (pair.split(",") for pair in points.split())]
        for points in found["lines"]
    ]


def test_a_curve_fills_its_box() -> None:
    left, right, bottom = MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
    assert drawn([0, 1, 2], [4.0, 3.0, 2.0]) == [
        [(left, TOP), ((left + right) / 2, (TOP + bottom) / 2), (right, bottom)]
    ]


def test_what_is_not_finite_is_a_gap_and_what_was_not_measured_is_none() -> None:
    x = [0, 1, 2, 3, 4, 5]
    assert list(map(len, drawn(x, [5.0, math.inf, math.inf, 3.0, 2.0, 1.0]))) == [1, 3]
    assert list(map(len, drawn(x, [5.0, 4.0, math.nan, 3.0, 2.0, 1.0]))) == [5]


@pytest.mark.parametrize("y", [[1.0, math.inf], [math.nan, 1.0], [math.inf, math.inf]])
def test_one_value_is_no_curve(y: list[float]) -> None:
    assert polylines({"epoch": np.array([0.0, 1.0]), "test_loss": np.array(y)}, "test_loss") is None


def test_values_that_are_equal_are_drawn_level() -> None:
    ((_, first), (_, last)) = drawn([0, 1], [100.0 * 353 / 359, 353 / 359 * 100.0])[0]
    assert first == last
