"""``load`` and ``figure``, for those who read records from Python."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.api import figure, load
from analysis.results.load import RUN_COLUMNS

# The records that the fixture writes are of the first schema.
pytestmark = pytest.mark.filterwarnings("ignore:.*older than the protocol:UserWarning")


def drawn(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The points of each curve, by its label."""
    lines = [line for axes in figure.axes for line in axes.lines]
    return {str(line.get_label()): list(map(tuple, line.get_xydata())) for line in lines}


def test_a_row_a_run_with_the_path_of_its_record(write_run: Any, runs_dir: Path) -> None:
    folders = [write_run("adam", seed, (90.0, 95.0 + seed)) for seed in (0, 1)]
    write_run("sgd", status="failed", reason="no memory", rows=[])

    runs = load(str(runs_dir))

    assert tuple(runs.columns) == RUN_COLUMNS
    rows = runs[["optimizer", "seed", "status", "final"]].fillna(0.0).values.tolist()
    assert rows == [["adam", 0, "done", 95.0], ["adam", 1, "done", 96.0], ["sgd", 0, "failed", 0.0]]
    assert [Path(folder) for folder in runs["folder"]][:2] == folders


def test_the_curves_as_a_frame(write_run: Any, runs_dir: Path) -> None:
    write_run(values=(90.0, 95.0), run_id="a")

    measured = load(runs_dir, measurements=True)

    accuracy = measured[measured["metric"] == "test_accuracy_percent"]
    assert accuracy[["run_id", "epoch", "value"]].values.tolist() == [
        ["a", 1.0, 90.0],
        ["a", 2.0, 95.0],
    ]


def test_a_record_that_cannot_be_read_is_a_warning(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")
    (write_run("sgd") / "status.json").write_text("{")
    with pytest.warns(UserWarning, match=r"status\.json"):
        runs = load(runs_dir)
    assert runs["optimizer"].tolist() == ["adam"]


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_of_records_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    for read in (load, lambda runs: figure("test_metric_vs_epoch", runs)):
        with pytest.raises(ValueError, match=f"Invalid runs: '.*{name}'. Must be a folder"):
            read(tmp_path / name)


def test_a_figure_of_a_folder_or_of_some_of_its_rows(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", values=(90.0, 95.0))
    write_run("sgd", values=(80.0, 85.0))

    both = drawn(figure("test_metric_vs_epoch", runs_dir))
    assert both == {
        "adam (n=1)": [(1.0, 90.0), (2.0, 95.0)],
        "sgd (n=1)": [(1.0, 80.0), (2.0, 85.0)],
    }
    runs = load(runs_dir)
    assert drawn(figure("test_metric_vs_epoch", runs)) == both
    some = runs[runs["optimizer"] == "sgd"].replace({"optimizer": {"sgd": "mine"}})
    assert drawn(figure("test_metric_vs_epoch", some)) == {"mine (n=1)": both["sgd (n=1)"]}


def test_rows_of_several_folders_together_and_none_twice(
    write_run: Any, runs_dir: Path, tmp_path: Path
) -> None:
    one, other = (write_run("adam", seed, (90.0, 95.0 + seed)) for seed in (0, 1))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(runs_dir, elsewhere)
    shutil.rmtree(other)

    joined = pd.concat([load(runs_dir), load(elsewhere)])

    assert len(joined) == 3
    assert drawn(figure("test_metric_vs_epoch", joined)) == {
        "adam (n=2)": [(1.0, 90.0), (2.0, 95.5)]
    }
    assert one.exists()


def test_what_cannot_be_drawn_is_refused(write_run: Any, runs_dir: Path) -> None:
    write_run()
    runs = load(runs_dir)
    with pytest.raises(ValueError, match=r"Unknown figure: 'curves'\. Must be one of: cost_per_"):
        figure("curves", runs)
    with pytest.raises(ValueError, match="Invalid runs: the frame lacks folder, which load gives"):
        figure("test_metric_vs_epoch", runs.drop(columns="folder"))
    for given in (runs_dir, runs, runs.iloc[:0]):
        with pytest.raises(ValueError, match=r"Nothing to draw kronecker_factors from.*make study"):
            figure("kronecker_factors", given)


def test_rows_give_no_curve_that_their_folder_does_not(write_run: Any, runs_dir: Path) -> None:
    """Test was looked at where validation was best: a mean of that would be of the best alone."""
    rows = [
        {"step": step, "epoch": step / 10, "train_seconds": 1.0, "train_loss": 1.0}
        | {"validation_accuracy_percent": 60.0 + step, "test_accuracy_percent": 90.0 + step}
        for step in (10, 20)
    ]
    write_run("adam", rows=rows, validation=True, evaluate_test="best")
    validated = {"adam (n=1)": [(1.0, 70.0), (2.0, 80.0)]}  # what is drawn where test is not
    assert drawn(figure("test_metric_vs_epoch", runs_dir)) == validated
    assert drawn(figure("test_metric_vs_epoch", load(runs_dir))) == validated
