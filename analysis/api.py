"""Records from Python: ``load`` gives them as a frame, ``figure`` draws one of the figures."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import analysis.figures
from analysis.plots.missing import Missing
from analysis.report.report import names_of
from analysis.results.cache import to_record
from analysis.results.load import RUN_COLUMNS, Results, load_results, whole_curves
from experiments.records.schema import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Folder = str | os.PathLike[str]


def load(runs: Folder, *, measurements: bool = False) -> pd.DataFrame:
    """Read every record under a folder.

    Args:
        runs: The folder, as ``runs_dir`` of a sweep.
        measurements: Whether to give the curves instead.

    Returns:
        One row a run: what it is, how it ended, ``final`` and ``best_test`` (in the unit of its
        ``metric``) and what it cost (``analysis.results.load.RUN_COLUMNS``); ``folder`` is the
        path of its record. With ``measurements`` one row a run, step and metric, by ``run_id``.

    Raises:
        ValueError: If there is no such folder. A record that cannot be read is a warning.
    """
    results = _of_folder(runs)
    return results.measurements if measurements else results.runs


def figure(name: str, runs: Folder | pd.DataFrame) -> Figure:
    """Draw one figure of the report.

    Args:
        name: Of a module in ``analysis/figures/``.
        runs: The folder of the records, or the rows of them to draw, as ``load`` gives them; they
            may be filtered, joined with those of other folders, and renamed.

    Returns:
        The figure, for ``savefig`` or a notebook.

    Raises:
        ValueError: If there is no such figure or folder, the frame lacks a column that ``load``
            gives, or there is nothing to draw: then it has the command that makes some.
    """
    known = names_of(analysis.figures)
    if name not in known:
        raise ValueError(f"Unknown figure: {name!r}. Must be one of: {', '.join(known)}.")
    results = _of_rows(runs) if isinstance(runs, pd.DataFrame) else _of_folder(runs)
    built: Figure | Missing = importlib.import_module(f"analysis.figures.{name}").build(results)
    if isinstance(built, Missing):
        raise ValueError(f"Nothing to draw {name} from. This makes some: {built.command}")
    return built


def _of_folder(runs: Folder) -> Results:
    folder = Path(runs).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"Invalid runs: {str(runs)!r}. Must be a folder of records.")
    results = load_results(folder)
    for line in results.broken:
        warnings.warn(line, stacklevel=3)
    records = results.runs_dir or folder
    paths = [str(records / name) for name in results.runs["folder"]]
    return Results(results.runs.assign(folder=paths), results.curves, results.broken, records)


def _of_rows(runs: pd.DataFrame) -> Results:
    """Read the curves of these runs anew; a frame has no room for them."""
    lacking = [column for column in RUN_COLUMNS if column not in runs]
    if lacking:
        raise ValueError(f"Invalid runs: the frame lacks {', '.join(lacking)}, which load gives.")
    runs = runs.drop_duplicates("run_id", ignore_index=True)  # else one more seed
    paths = [Path(folder) for folder in runs["folder"]]
    curves = {
        run_id: whole_curves(to_record(load_run(path), path.name))
        for run_id, path in zip(runs["run_id"], paths, strict=True)
    }
    common = Path(os.path.commonpath([path.parent for path in paths])) if paths else None
    return Results(runs, curves, runs_dir=common)
