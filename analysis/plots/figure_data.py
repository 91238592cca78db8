"""What a figure shows, as numbers: one row a point of each line, bar, scatter and image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

COLUMNS = ("subplot", "kind", "series", "x", "y", "value")
LARGEST = 10_000  # values of one image; a larger one is in the arrays that it was drawn from


def figure_data(figure: Figure) -> pd.DataFrame:
    """Read the points back from the drawn figure.

    Returns:
        ``COLUMNS``: title of the subplot, ``line``, ``point``, ``bar`` or ``image``, the series'
        name in the legend, and its coordinates; ``value`` is that of an image's pixel.
    """
    parts = [
        pd.DataFrame({"subplot": axes.get_title() or f"{number}", **part})
        for number, axes in enumerate(figure.axes, start=1)
        for part in _parts(axes)
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))


def _parts(axes: Axes) -> Iterator[dict[str, object]]:
    for line in axes.lines:
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        yield {"kind": "line", "series": name_of(line.get_label()), "x": x, "y": y}
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            points = np.ma.getdata(collection.get_offsets())
            name = name_of(collection.get_label())
            yield {"kind": "point", "series": name, "x": points[:, 0], "y": points[:, 1]}
    for container in axes.containers:
        if isinstance(container, BarContainer):
            bars = container.patches
            named = [name_of(bar.get_label()) or name_of(container.get_label()) for bar in bars]
            if container.orientation == "horizontal":
                x = np.array([bar.get_x() + bar.get_width() for bar in bars])
                y = np.array([bar.get_y() + bar.get_height() / 2 for bar in bars])
            else:
                x = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
                y = np.array([bar.get_y() + bar.get_height() for bar in bars])
            yield {"kind": "bar", "series": named, "x": x, "y": y}
    for image in axes.images:
        pixels = image.get_array()
        if pixels is not None and pixels.ndim == 2 and pixels.size <= LARGEST:
            rows, columns = np.indices(pixels.shape)
            values = np.ma.filled(pixels.astype(np.float64), np.nan).ravel()
            places = {"x": columns.ravel(), "y": rows.ravel(), "value": values}
            yield {"kind": "image", "series": name_of(image.get_label()), **places}


def name_of(label: object) -> str:
    """Read a label as a name; matplotlib's own begin with an underscore and are none."""
    return "" if str(label).startswith("_") else str(label).replace(r"\$", "$")
