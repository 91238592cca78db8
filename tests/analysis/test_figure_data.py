"""What a figure shows, read back as numbers."""

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.figure_data import COLUMNS, LARGEST, figure_data


def test_lines_points_bars_and_images_come_back_as_drawn() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.set_title("left")
    left.plot([1, 2], [3, 4], label="a line")
    left.scatter([5], [6], label="points")
    left.bar([0], [7], label="bars")
    right.imshow(np.array([[1.0, 2.0], [3.0, np.nan]]))
    found = figure_data(figure)
    assert tuple(found.columns) == COLUMNS
    assert found["subplot"].tolist() == ["left"] * 4 + ["2"] * 4
    rows = found.loc[:, ["kind", "series", "x", "y"]].to_numpy().tolist()
    assert rows[:4] == [
        ["line", "a line", 1, 3],
        ["line", "a line", 2, 4],
        ["point", "points", 5, 6],
        ["bar", "bars", 0, 7],
    ]
    assert rows[4:] == [["image", "", x, y] for y in (0, 1) for x in (0, 1)]
    assert found["value"][4:7].tolist() == [1, 2, 3]
    assert np.isnan(found["value"][7])


def test_a_bar_that_lies_ends_at_its_value_and_has_its_own_name() -> None:
    figure = Figure()
    figure.subplots().barh([0, 1], [7, 9], label=["one", "other"])
    rows = figure_data(figure).loc[:, ["kind", "series", "x", "y"]].to_numpy().tolist()
    assert rows == [["bar", "one", 7, 0], ["bar", "other", 9, 1]]


def test_a_large_image_stays_in_its_arrays() -> None:
    """A page that held six of them was 77 MB."""
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.imshow(np.zeros((LARGEST // 100, 100)))
    right.imshow(np.zeros((LARGEST // 100 + 1, 100)))
    assert set(figure_data(figure)["subplot"]) == {"1"}


def test_an_empty_figure_has_no_rows() -> None:
    assert figure_data(Figure()).empty
