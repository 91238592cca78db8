"""Metrics of other tasks: their unit and direction, from the record to the cell and the axis."""

import pytest

from analysis.figures import test_metric_vs_epoch as curves
from analysis.results.load import load_results
from analysis.style import metric_label
from analysis.tables import results as results_table
from analysis.tables import speed_up


@pytest.mark.parametrize(
    ("metric", "units", "label"),
    [
        ("test_error", {"error": "kg"}, "test error (kg)"),
        ("validation_excess_loss", {"excess_loss": ""}, "validation excess loss"),
        ("train_loss", {"loss": ""}, "train loss"),
        ("train_loss", {}, "train loss (nats)"),
        ("test_accuracy_percent", {"accuracy_percent": "%"}, "test accuracy (%)"),
        ("right_percent", {"right_percent": "% of rows"}, "right percent (% of rows)"),
        ("train_seconds", None, "train (s)"),
    ],
)
def test_a_label_has_the_unit_that_the_record_says(metric, units, label):
    assert metric_label(metric, units) == label


def test_a_regression_goes_through_tables_and_figures_with_unit_and_direction(write_run, runs_dir):
    told = {"metric": "error", "higher_is_better": False, "units": {"loss": "", "error": "kg"}}
    for optimizer, values in (("adam", (9.0, 4.0, 5.0)), ("sgd", (9.0, 8.0, 7.0))):
        for seed in range(3):
            rows = [
                {
                    **{"step": step, "epoch": step, "train_seconds": step, "train_loss": value},
                    **{"validation_error": value + seed / 8, "test_error": value + seed / 8},
                }
                for step, value in enumerate(values, 1)
            ]
            write_run(optimizer, seed, rows=rows, validation=True, **told)
    results = load_results(runs_dir)
    assert len(results.runs) == 6
    table = results_table.build(results)
    assert {name[1] for name in table.columns} == {"error (kg) ↓"}
    row = next(index for index in table.index if "adam" in str(index))
    cell = next(table.loc[row, name] for name in table.columns if name[2] == "final")
    # The best epoch on validation is the second, the lowest: 4, 4.125 and 4.25.
    assert cell.mean == pytest.approx(4.125)
    # SGD is timed to where Adam ends, which is that mean.
    assert speed_up.build(results)["target"].tolist() == ["validation error 4.12 kg"]
    figure = curves.build(results)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["test error (kg)"]
