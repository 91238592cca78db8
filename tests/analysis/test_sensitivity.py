from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.figures import test_metric_vs_batch_size, test_metric_vs_learning_rate
from analysis.plots.missing import Missing
from analysis.plots.panels import note_of
from analysis.plots.sensitivity import dependences
from analysis.results.load import load_results
from analysis.style import KNOWN


def write_rates(write_run: Any, optimizer: str, finals: dict[float, tuple[float, ...]]) -> None:
    for rate, values in finals.items():
        for seed, value in enumerate(values):
            write_run(optimizer, seed, (value,), hyperparameters={"lr": rate, "beta": 0.9})


def texts(ax: Any) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in ax.texts}


def test_lines_and_heat_map_show_the_means(write_run: Any, runs_dir: Path) -> None:
    write_rates(write_run, "adam", {0.1: (50.0, 60.0), 0.01: (90.0, 94.0)})
    write_rates(write_run, "sgd", {0.1: (97.0,), 1.0: (80.0,)})

    left, right = test_metric_vs_learning_rate.build(load_results(runs_dir)).axes

    adam, sgd = left.lines
    assert (left.get_xlabel(), left.get_ylabel()) == ("learning rate", "test accuracy (%)")
    assert left.get_xscale() == "log"
    assert adam.get_xdata().tolist() == [0.01, 0.1]
    assert adam.get_ydata().tolist() == [92.0, 55.0]
    assert sgd.get_ydata().tolist() == [97.0, 80.0]
    assert [line.get_color() for line in left.lines] == [KNOWN["adam"].color, KNOWN["sgd"].color]
    (band,) = left.collections  # sgd has one seed
    assert band.get_paths()[0].vertices[:, 1].min() == 50.0
    assert [label.get_text() for label in right.get_yticklabels()] == ["adam", "sgd"]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0.01", "0.1", "1"]
    shown = right.images[0].get_array()
    np.testing.assert_array_equal(shown.filled(-1), [[92, 55, -1], [-1, 97, 80]])
    assert texts(right) == {(0, 0): "92", (1, 0): "55", (1, 1): "97", (2, 1): "80"}


def test_settings_of_one_title_and_controls_keep_names_of_their_own(
    write_run: Any, runs_dir: Path
) -> None:
    """Two timings of one budget, say: no method stands twice in a panel."""
    told = {"command": [], "typed": {}, "ruleset_file": None, "experiment": None}
    for day in ("2026-11-29", "2026-12-01"):
        words = f"equal time (9 steps of sgd, timed {day} on M1)"
        for lr in (0.1, 0.2):
            for control in ("", "scalar"):
                write_run(
                    "adam",
                    budget=words,
                    control=control,
                    control_of="own" if control else None,
                    group_id=f"{day}{lr}{control}",
                    hyperparameters={"lr": lr},
                    protocol={"task": {"name": "digits"}, "budget": {"steps": 9, "on": day}},
                    origin={**told, "setting": {"budget": words}},
                )
    figure = test_metric_vs_learning_rate.build(load_results(runs_dir))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(set(titles)) == len(titles) == 2
    found = dependences(load_results(runs_dir).runs, "lr")
    assert [[one.name for one in of] for of in found.values()] == [
        ["adam", "adam (scalar control)"]
    ] * 2


def test_what_ended_badly_is_a_cross_and_a_count(write_run: Any, runs_dir: Path) -> None:
    write_rates(write_run, "adam", {0.1: (50.0,)})
    lr = {"lr": 1.0, "beta": 0.9}
    write_run("adam", 0, (40.0,), hyperparameters=lr)
    write_run("adam", 1, status="diverged", rows=[], hyperparameters=lr)
    write_run("adam", 0, status="failed", rows=[], hyperparameters=lr | {"lr": 10.0})

    figure = test_metric_vs_learning_rate.build(load_results(runs_dir))

    left, right = figure.axes
    line, crosses = left.lines
    np.testing.assert_array_equal(line.get_ydata(), [50, 40, np.nan])
    assert crosses.get_xdata().tolist() == [1.0, 10.0]
    assert texts(right) == {(0, 0): "50", (1, 0): "40\n1/2", (2, 0): "0/1"}
    figure.draw_without_rendering()


def test_what_is_not_finished_is_counted_in_its_cell(write_run: Any, runs_dir: Path) -> None:
    lr = {"lr": 0.1, "beta": 0.9}
    write_run("adam", 0, (90.0,), hyperparameters=lr)
    write_run("adam", 1, (99.0,), status="interrupted", hyperparameters=lr)
    write_run("adam", 2, (99.0,), status="running", hyperparameters=lr)
    write_run("adam", 0, (80.0,), hyperparameters=lr | {"lr": 1.0})
    write_run("adam", 1, rows=[], hyperparameters=lr | {"lr": 1.0})  # done, without a result
    write_run("adam", 0, (70.0,), status="running", hyperparameters=lr | {"lr": 10.0})

    figure = test_metric_vs_learning_rate.build(load_results(runs_dir))

    left, right = figure.axes
    assert texts(right) == {(0, 0): "90\n1/3", (1, 0): "80\n1/2", (2, 0): "0/1"}
    assert len(left.lines) == 1  # nothing of it ended badly
    assert "n/m: of m runs n are in it" in note_of(figure)


def test_cells_without_room_for_numbers_have_their_counts_in_the_note(
    write_run: Any, runs_dir: Path
) -> None:
    for at in range(40):
        lr = {"lr": 2.0**at, "beta": 0.9}
        write_run("adam", 0, (90.0,), hyperparameters=lr)
        status = "interrupted" if at == 3 else "done"
        write_run("adam", 1, (90.0,), status=status, hyperparameters=lr)

    figure = test_metric_vs_learning_rate.build(load_results(runs_dir))

    assert texts(figure.axes[1]) == {}
    told = "no room for them. Not all runs are in the means of adam at 8 on digits: 1/2."
    assert told in note_of(figure)


def test_nothing_finished_is_still_drawn(write_run: Any, runs_dir: Path) -> None:
    for rate in (0.1, 1.0):
        write_run("adam", 0, status="diverged", rows=[], hyperparameters={"lr": rate})
    figure = test_metric_vs_learning_rate.build(load_results(runs_dir))
    assert set(texts(figure.axes[1]).values()) == {"0/1"}
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    "other",
    [
        {"hyperparameters": {"lr": 1.0, "beta": 0.8}},
        {"hyperparameters": {"lr": 1.0, "beta": 0.9}, "batch_size": 32},
        {"hyperparameters": {"lr": 1.0, "beta": 0.9}, "precision": "bf16"},
        {"hyperparameters": {"lr": 1.0, "beta": 0.9}, "task": "mnist"},
        {"hyperparameters": {"lr": 1.0, "beta": 0.9}, "ruleset": "default"},
        {"hyperparameters": {"lr": 1.0, "beta": 0.9}, "control": "scalar"},
        {"hyperparameters": {"beta": 0.9}},
    ],
)
def test_runs_that_differ_in_more_than_the_rate_are_not_compared(
    write_run: Any, runs_dir: Path, other: dict[str, Any]
) -> None:
    write_run("adam", 0, hyperparameters={"lr": 0.1, "beta": 0.9})
    write_run("adam", 0, run_id="other", group_id="other", **other)
    missing = test_metric_vs_learning_rate.build(load_results(runs_dir))
    assert missing == Missing(test_metric_vs_learning_rate.COMMAND)


def test_two_series_of_one_method_have_two_names(write_run: Any, runs_dir: Path) -> None:
    for beta in (0.8, 0.9):
        for rate in (0.1, 1.0):
            write_run("adam", 0, hyperparameters={"lr": rate, "beta": beta})
    ((first, second),) = dependences(load_results(runs_dir).runs, "lr").values()
    assert first.name != second.name
    assert first.style != second.style
    assert first.style.dash != second.style.dash


def test_batch_sizes_come_from_the_task(write_run: Any, runs_dir: Path) -> None:
    for size, value in ((16, 97.0), (64, 95.0)):
        write_run("kfac", 0, (value,), batch_size=size, group_id=f"batch {size}")

    left, right = test_metric_vs_batch_size.build(load_results(runs_dir)).axes

    assert left.lines[0].get_xdata().tolist() == [16, 64]
    assert left.lines[0].get_ydata().tolist() == [97.0, 95.0]
    assert [label.get_text() for label in left.get_xticklabels()] == ["16", "64"]
    assert right.get_xlabel() == "batch size (samples a step)"


def test_perplexity_is_better_where_it_is_low(write_run: Any, runs_dir: Path) -> None:
    for rate, value in ((0.1, 10.0), (1.0, 2000.0)):
        write_run("adam", 0, (value,), hyperparameters={"lr": rate}, metric="perplexity",
                  higher_is_better=False)  # fmt: skip
    left, right = test_metric_vs_learning_rate.build(load_results(runs_dir)).axes
    low, high = right.images[0].to_rgba(np.array([10.0, 2000.0]))
    assert low[:3].sum() > high[:3].sum()
    assert left.get_yscale() == "log"
