"""A method beside its scalar control, on made-up records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.figures import scalar_control as figure
from analysis.plots.missing import Missing
from analysis.results.controls import controlled
from analysis.results.load import load_results
from analysis.tables import scalar_control as table

METHOD = {0: (90.0, 96.0), 1: (91.0, 97.5), 2: (92.0, 97.0)}
CONTROL = {0: (89.0, 95.0), 1: (90.5, 96.0), 2: (91.0, 96.0)}


@pytest.fixture
def both(write_run: Any, runs_dir: Path) -> Any:
    for seed, values in METHOD.items():
        write_run("adafisher", seed, values, group_id="own")
    for seed, values in CONTROL.items():
        write_run(
            "adafisher", seed, values, group_id="ctl", control="scalar", control_of="own",
            run_id=f"c{seed}",
        )  # fmt: skip
    write_run("sgd", 0, group_id="lone", control="scalar", control_of="nowhere")
    return load_results(runs_dir)


def test_a_control_is_found_by_the_group_that_it_names(both: Any) -> None:
    (one,) = controlled(both)
    assert one.pair["label"].tolist() == ["adafisher", "adafisher (scalar control)"]
    assert [len(runs) for runs in one.runs] == [3, 3]


def test_the_difference_is_paired_by_seed(both: Any) -> None:
    built = table.build(both)
    row = built.loc[("digits", "adafisher, tuned", "final")]
    finals = [values[-1] for values in METHOD.values()], [values[-1] for values in CONTROL.values()]
    assert row["difference"] == pytest.approx(np.mean(finals[0]) - np.mean(finals[1]))
    assert row["p"] == pytest.approx(stats.ttest_rel(*finals).pvalue)
    assert row["n"] == 3
    assert row["its control"] == "95.67 ± 0.58 (n=3)"


def test_a_result_that_no_run_can_have_has_no_row(write_run: Any, runs_dir: Path) -> None:
    told = {"evaluate_test": "best", "validation": True}
    for seed, values in METHOD.items():
        write_run("adafisher", seed, values, group_id="own", **told)
        write_run(
            "adafisher", seed, values, group_id="c", control="scalar", control_of="own",
            run_id=f"c{seed}", **told,
        )  # fmt: skip
    assert [row[2] for row in table.build(load_results(runs_dir)).index] == ["final"]


def test_where_test_was_looked_at_now_and_then_all_runs_are_drawn_on_validation(
    write_run: Any, runs_dir: Path
) -> None:
    """A curve on test would be of the runs that were best each time: of some seeds alone."""
    for seed in (0, 1):
        for name in ("own", "c"):
            rows = [
                {"step": at, "epoch": float(at), "validation_accuracy_percent": 90.0 + at}
                | ({"test_accuracy_percent": 80.0 + at} if seed == 0 or at == 1 else {})
                for at in (1, 2)
            ]
            of = {"control": "scalar", "control_of": "own"} if name == "c" else {}
            made = {
                "rows": rows,
                "validation": True,
                "evaluate_test": "best",
                "run_id": f"{name}{seed}",
            }
            write_run("adafisher", seed, group_id=name, **made, **of)
    results = load_results(runs_dir)
    assert results.series_by_run("test_accuracy_percent", "epoch") == {}
    left, _ = figure.build(results).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[91.0, 92.0]] * 2
    assert "validation" in left.get_ylabel()


def test_the_figure_draws_both_and_their_difference(both: Any) -> None:
    left, right = figure.build(both).axes
    assert len(left.lines) == 2
    _, line = right.lines  # the first is zero
    assert line.get_xdata().tolist() == [1.0, 2.0]
    expected = [np.mean([METHOD[s][at] - CONTROL[s][at] for s in METHOD]) for at in (0, 1)]
    assert line.get_ydata().tolist() == pytest.approx(expected)


def test_the_difference_says_how_many_seeds_both_have(write_run: Any, runs_dir: Path) -> None:
    for seed in range(3):
        write_run("adam", seed, (1.0, 2.0), group_id="own")
    of: dict[str, Any] = {"group_id": "c", "control": "scalar", "control_of": "own"}
    for seed in (1, 2, 3):
        status = "diverged" if seed == 2 else "done"
        write_run("adam", seed, (0.5, 1.0), run_id=f"c{seed}", status=status, **of)
    left, right = figure.build(load_results(runs_dir)).axes
    assert left.lines[0].get_label() == "adam (n=3/4)"
    assert right.get_title() == "method minus control (n=1)"


def test_a_difference_of_curves_without_a_value_is_none(write_run: Any, runs_dir: Path) -> None:
    for seed in range(2):
        write_run("adam", seed, (1.0, 2.0), group_id="own")
    of: dict[str, Any] = {"group_id": "c", "control": "scalar", "control_of": "own"}
    rows = [{"step": 3, "epoch": 3.0, "test_accuracy_percent": 1.0}]
    write_run("adam", 0, run_id="c0", rows=rows, **of)
    write_run("adam", 1, (0.5, 1.0), run_id="c1", **of)
    _, right = figure.build(load_results(runs_dir)).axes
    assert right.get_title() == "method minus control (n=1)"  # the other shares no epoch


def test_epochs_that_only_one_has_are_left_out(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (1.0, 2.0, 3.0), group_id="own")
    write_run("adam", 0, (0.5, 1.0), group_id="c", control="scalar", control_of="own", run_id="c")
    results = load_results(runs_dir)
    (one,) = controlled(results)
    ((x, y),) = figure.differences(one, results, "test_accuracy_percent")
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [0.5, 1.0])


def test_without_a_control_both_say_what_makes_one(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")
    results = load_results(runs_dir)
    assert table.build(results).empty
    missing = figure.build(results)
    assert isinstance(missing, Missing)
    assert "control=scalar" in missing.command
