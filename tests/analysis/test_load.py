import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.results.cache import read_records
from analysis.results.load import MEASUREMENT_COLUMNS, RUN_COLUMNS, load_results, to_results


def test_one_row_a_run_step_and_metric(write_run: Any, runs_dir: Path) -> None:
    write_run(values=(90.0, 95.0), run_id="a")

    measured = load_results(runs_dir).measurements

    assert tuple(measured.columns) == MEASUREMENT_COLUMNS
    rows = set(measured.itertuples(index=False, name=None))
    assert rows == {
        ("a", 10, 1.0, 1.0, "train_loss", 2.0),
        ("a", 20, 2.0, 2.0, "train_loss", 1.0),
        ("a", 10, 1.0, 1.0, "test_accuracy_percent", 90.0),
        ("a", 20, 2.0, 2.0, "test_accuracy_percent", 95.0),
    }


def test_a_run_without_rows_is_a_row_all_the_same(write_run: Any, runs_dir: Path) -> None:
    write_run(status="failed", reason="no memory", rows=[])

    results = load_results(runs_dir)

    assert results.runs[["status", "reason"]].values.tolist() == [["failed", "no memory"]]
    assert results.measurements.empty


def test_a_word_among_the_numbers_is_named_and_the_others_are_read(
    write_run: Any, runs_dir: Path
) -> None:
    write_run(rows=[{"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": "low"}], run_id="a")
    write_run(seed=1, run_id="b")

    results = load_results(runs_dir)

    assert results.runs["run_id"].tolist() == ["b"]
    assert results.broken[0] == (
        'a/metrics.jsonl: line 2: train_loss is "low", must be a number or null'
    )


def test_results_are_taken_from_the_rows(write_run: Any, runs_dir: Path) -> None:
    rows = [
        {"step": 1, "epoch": 1.0, "validation_accuracy_percent": 9.0, "test_accuracy_percent": 5.0},
        {"step": 2, "epoch": 2.0, "validation_accuracy_percent": 8.0, "test_accuracy_percent": 7.0},
    ]
    write_run(rows=rows)

    run = load_results(runs_dir).runs.iloc[0]

    assert (run["final"], run["best_test"], run["final_epoch"]) == (5.0, 7.0, 1.0)


def test_a_run_that_looked_at_test_now_and_then_has_no_curve_of_it(
    write_run: Any, runs_dir: Path
) -> None:
    rows = [
        {"step": n, "epoch": float(n), "validation_accuracy_percent": v, **test}
        for n, v, test in (
            (1, 9.0, {"test_accuracy_percent": 5.0}),
            (2, 8.0, {}),
            (3, 7.0, {"test_accuracy_percent": 6.0}),
        )
    ]
    write_run(rows=rows, run_id="a")

    results = load_results(runs_dir)

    run = results.runs.iloc[0]
    assert (run["final"], run["final_epoch"]) == (5.0, 1.0)
    assert pd.isna(run["best_test"])
    assert set(results.measurements["metric"]) == {"validation_accuracy_percent"}


def test_without_a_validation_split_test_was_looked_at_each_time(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", evaluate_test="best", validation=False)
    results = load_results(runs_dir)
    assert results.runs["best_test"].tolist() == [95.0]
    ((_, values),) = results.series_by_run("test_accuracy_percent", "epoch").values()
    assert values.tolist() == [90.0, 95.0]


def test_a_finished_run_that_lacks_rows_is_left_out(write_run: Any, runs_dir: Path) -> None:
    """As of a folder that was copied while it ran: the epoch that is left may not be the best."""
    folder = write_run("adam")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "progress": {"last_row_step": 20}}))
    assert len(load_results(runs_dir).runs) == 1
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(rows[0])
    results = load_results(runs_dir)
    assert results.runs.empty
    (line,) = results.broken
    assert "rows of a finished run are missing" in line


def test_the_order_of_the_runs_does_not_matter(write_run: Any, runs_dir: Path) -> None:
    for optimizer in ("adam", "sgd"):
        for seed in (0, 2, 10):
            write_run(optimizer, seed)
    records, _ = read_records(runs_dir)

    forward, backward = to_results(records), to_results(records[::-1])

    pd.testing.assert_frame_equal(forward.runs, backward.runs)
    pd.testing.assert_frame_equal(forward.measurements, backward.measurements)
    assert forward.runs["seed"].tolist() == [0, 2, 10, 0, 2, 10]


def test_faults_are_named(write_run: Any, runs_dir: Path) -> None:
    write_run(run_id="cut", seed=0)
    with (runs_dir / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step"')
    write_run(run_id="empty", seed=1, rows=[])
    broken = write_run(run_id="broken", seed=2)
    (broken / "status.json").write_text(json.dumps({"schema": 9}))

    results = load_results(runs_dir)

    assert [line.split("/")[0].split(":")[0] for line in results.broken] == [
        "broken",
        "cut",
        "empty",
        "2 of 2 records are older than the protocol of a run, and join no published row",
    ]
    assert "done, but without a finite test_accuracy_percent" in results.broken[2]


LOST = {
    "test metric": {"test_perplexity": math.nan},
    "validation metric": {"validation_perplexity": math.inf},
    "loss": {"train_loss": -math.inf},
    "test loss": {"test_loss": math.nan},
}


@pytest.mark.parametrize("lost", LOST.values(), ids=list(LOST))
@pytest.mark.parametrize("last", [False, True])
def test_a_run_that_is_done_with_a_value_that_is_not_finite_counts_as_diverged(
    write_run: Any, runs_dir: Path, lost: dict[str, float], last: bool
) -> None:
    whole = {"train_loss": 2.0, "test_loss": 2.0, "validation_perplexity": 20.0}
    whole |= {"test_perplexity": 20.0, "test_perplexity_word": math.inf}
    rows = [{"step": step, **whole} for step in (10, 20, 30)]
    rows[2 if last else 1] |= lost
    metric = {"metric": "perplexity", "higher_is_better": False}
    write_run(run_id="lost", rows=rows, **metric)
    write_run(run_id="well", rows=[{"step": 10, **whole}, {"step": 20}], seed=1, **metric)

    results = load_results(runs_dir)

    runs = results.runs.set_index("run_id")
    (name,) = lost
    assert runs.loc["lost", "status"] == "diverged"
    assert runs.loc["lost", "reason"] == f"{name} is not finite at step {30 if last else 20}"
    assert results.broken[0] == f"lost: done, but {runs.loc['lost', 'reason']}: counts as diverged"
    # The perplexity a word is not what the run is judged by; and a row need not have a metric.
    assert runs.loc["well", "status"] == "done"
    x, y = results.series_by_run(name, "step")["lost"]
    assert x.tolist() == [10, 20, 30]
    assert np.flatnonzero(np.isnan(y)).tolist() == [2 if last else 1]


def test_series_are_those_of_the_runs_asked_for_in_order_of_the_axis(
    write_run: Any, runs_dir: Path
) -> None:
    rows = [
        {"step": 2, "train_seconds": 0.2, "loss": 1.0, "other": 9.0},
        {"step": 1, "train_seconds": 0.1, "loss": 2.0},
        {"step": 3, "train_seconds": 0.3, "loss": None},
    ]
    write_run(rows=rows, run_id="a")
    write_run(seed=1, rows=[{"step": 1, "loss": 7.0}], run_id="b")

    results = load_results(runs_dir)

    ((x, y),) = results.series(["a", "unknown"], "loss", "train_seconds")
    assert (x.tolist(), y.tolist()) == ([0.1, 0.2], [2.0, 1.0])
    assert results.series(["b"], "loss", "train_seconds") == []  # it has no times
    assert len(results.series(["a", "b"], "loss", "step")) == 2


def test_no_runs_make_empty_frames_with_every_column(tmp_path: Path) -> None:
    results = load_results(tmp_path / "none")

    assert tuple(results.runs.columns) == RUN_COLUMNS
    assert tuple(results.measurements.columns) == MEASUREMENT_COLUMNS
    assert results.runs.empty
    assert results.measurements.empty
