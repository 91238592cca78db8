import colorsys
import importlib
import io
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import analysis.figures
from analysis.figures import (
    test_metric_vs_epoch,
    test_metric_vs_step,
    test_metric_vs_train_seconds,
    train_loss_vs_epoch,
    train_loss_vs_step,
    train_loss_vs_train_seconds,
)
from analysis.plots.emphasis import MOST, chosen, rule
from analysis.plots.missing import Missing
from analysis.plots.panels import MOST_PANELS, note_of
from analysis.report.report import names_of
from analysis.results.load import load_results
from analysis.style import FAINT, KNOWN, LEAST_LINE, MOST_HEIGHT

MODULES = (
    test_metric_vs_epoch,
    test_metric_vs_step,
    test_metric_vs_train_seconds,
    train_loss_vs_epoch,
    train_loss_vs_step,
    train_loss_vs_train_seconds,
)
ALL = names_of(analysis.figures)
each_figure = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])


def legend(ax: Axes) -> list[str]:
    """Of the whole figure, which has one."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    (shown,) = figure.legends
    return [text.get_text() for text in shown.get_texts()]


def pixels(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    file.seek(0)
    return matplotlib.image.imread(file)


@each_figure
def test_one_subplot_a_task_with_axes_named(module: Any, write_run: Any, runs_dir: Path) -> None:
    for seed in (0, 1):
        write_run("adam", seed, (80.0, 90.0, 95.0))
        write_run("sgd", seed, (9.0, 8.0, 7.0), task="ptb", metric="perplexity")

    figure = module.build(load_results(runs_dir))

    left, right = figure.axes
    assert "diverged" not in note_of(figure)
    assert left.get_title() == left.get_label() == "digits (tuned hyperparameters)"
    assert right.get_title() == "ptb (tuned hyperparameters)"
    names = ("epoch", "step (updates of the parameters)", "training time (s)")
    assert left.get_xlabel() in names
    assert left.get_ylabel() in ("train loss (nats)", "test accuracy (%)")
    assert legend(left) == ["adam (n=2)", "sgd (n=2)"]
    (line,) = left.lines
    assert line.get_color() == KNOWN["adam"].color
    assert left.get_xlim()[0] == 0
    assert left.get_xlim()[1] == pytest.approx(1.04 * line.get_xdata()[-1])
    assert len(left.collections) == 1  # the band
    image = pixels(figure)
    assert image.ndim == 3
    assert image[..., :3].std() > 0.05


def test_the_line_is_the_mean_and_the_band_its_interval(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (80.0, 90.0))
    write_run("adam", 1, (82.0, 94.0))

    (ax,) = test_metric_vs_epoch.build(load_results(runs_dir)).axes

    assert ax.lines[0].get_ydata().tolist() == [81.0, 92.0]
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (
        80.0,
        94.0,
    )  # of two seeds the bootstrap's is the range


def test_on_time_the_line_ends_with_the_shortest_run(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (80.0, 90.0), seconds=1.0)
    write_run("adam", 1, (80.0, 90.0), seconds=1.5)

    figure = test_metric_vs_train_seconds.build(load_results(runs_dir))

    x = figure.axes[0].lines[0].get_xdata()
    assert (x[0], x[-1]) == (1.5, 2.0)
    assert "ends with the shortest run" in note_of(figure)


def test_a_single_seed_has_no_band(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0)
    (ax,) = train_loss_vs_epoch.build(load_results(runs_dir)).axes
    assert len(ax.collections) == 0
    assert legend(ax) == ["adam (n=1)"]


def test_a_diverged_run_is_drawn_apart_and_bends_no_axis(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (80.0, 90.0))
    loss = [2.0, 1e30, float("nan")]
    rows = [
        {"step": i, "epoch": i, "train_seconds": i, "train_loss": y} for i, y in enumerate(loss)
    ]
    write_run("adam", 1, status="diverged", rows=rows)

    (ax,) = train_loss_vs_epoch.build(load_results(runs_dir)).axes

    assert legend(ax) == ["adam (n=1/2, diverged 1/2)"]
    assert ax.get_ylim()[1] < 10
    mean, thin, cross = ax.lines
    assert mean.get_ydata().tolist() == [2.0, 1.0]
    assert thin.get_ydata().tolist() == [2.0, 1e30]
    assert (cross.get_marker(), cross.get_ydata()[0]) == ("x", ax.get_ylim()[1])


def test_a_curve_with_values_that_are_not_finite_is_not_in_the_mean_and_has_a_gap(
    write_run: Any, runs_dir: Path
) -> None:
    metric = {"metric": "perplexity", "higher_is_better": False}
    for seed in (0, 1):
        write_run("adam", seed, (30.0, 28.0, 26.0, 24.0), **metric)
    write_run("adam", 2, (20.0, float("inf"), float("nan"), 11.0), **metric)

    (ax,) = test_metric_vs_epoch.build(load_results(runs_dir)).axes

    assert legend(ax) == ["adam (n=2/3, diverged 1/3)"]
    mean, thin, cross = ax.lines
    assert mean.get_ydata().tolist() == [30.0, 28.0, 26.0, 24.0]
    np.testing.assert_array_equal(thin.get_ydata(), [20.0, np.nan, np.nan, 11.0])
    assert (cross.get_marker(), cross.get_xdata()[0]) == ("x", 4.0)


@each_figure
def test_a_method_without_a_finished_run_is_named(
    module: Any, write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", 0)
    write_run("kfac", 0, status="failed", rows=[])
    (ax,) = module.build(load_results(runs_dir)).axes
    assert legend(ax) == ["adam (n=1)", "kfac (failed 1/1)"]


@each_figure
def test_nothing_finished_is_said(module: Any, write_run: Any, runs_dir: Path) -> None:
    write_run("kfac", 0, status="failed", rows=[])
    figure = module.build(load_results(runs_dir))
    assert "No finished run." in [text.get_text() for text in figure.axes[0].texts]
    pixels(figure)


def test_on_steps_x_are_the_steps(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (80.0, 90.0, 91.0))
    write_run("adam", 1, (82.0, 94.0))

    (ax,) = test_metric_vs_step.build(load_results(runs_dir)).axes

    assert ax.lines[0].get_xdata().tolist() == [10, 20]
    assert ax.lines[0].get_ydata().tolist() == [81.0, 92.0]


@pytest.mark.parametrize("module", [test_metric_vs_epoch, test_metric_vs_step])
def test_no_mean_jumps_where_a_seed_ends(module: Any, write_run: Any, runs_dir: Path) -> None:
    """As with ``budget=target``, where the one that is there first is the better one until then."""
    write_run("adam", 0, (80.0, 90.0, 97.5), budget="until 97.5 %")
    write_run("adam", 1, (60.0, 65.0, 68.0, 70.0, 97.5), budget="until 97.5 %")

    figure = module.build(load_results(runs_dir))

    (ax,) = figure.axes
    assert legend(ax) == ["adam (n=2)"]
    assert ax.lines[0].get_ydata().tolist() == [70.0, 77.5, 82.75]
    assert "over all n of them at each point, and so ends with the shortest run" in note_of(figure)


def test_seeds_that_share_no_moment_are_no_line_and_are_finished(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", 0, (97.5,), seconds=1.0)
    write_run("adam", 1, (90.0, 97.5), seconds=3.0)

    (ax,) = test_metric_vs_train_seconds.build(load_results(runs_dir)).axes

    assert legend(ax) == ["adam (n=0/2)"]
    shown = " ".join(text.get_text() for text in ax.texts)
    assert " ".join(shown.split()) == "No point that all seeds of a method have."


@pytest.mark.parametrize("name", ALL)
def test_no_runs_name_the_command(name: str, tmp_path: Path) -> None:
    missing = importlib.import_module(f"analysis.figures.{name}").build(
        load_results(tmp_path / "none")
    )
    assert isinstance(missing, Missing)
    assert missing.command.startswith(("make ", "for n in", ".venv/bin/python"))
    assert "\n" not in missing.command  # it is shown in a line, and copied from there


@pytest.mark.parametrize("name", ALL)
def test_odd_records_are_drawn_or_missing_and_never_an_error(
    name: str, write_run: Any, runs_dir: Path
) -> None:
    nan = float("nan")
    write_run("adamw", 0, (nan, nan))
    write_run("adamw", 1, (80.0, nan, 90.0, 91.0), summary={"state_bytes": 4})
    write_run("kfac", 0, (), rows=[], status="failed")
    write_run("sgd", 0, (100.0,), hyperparameters={})
    write_run("sgd", 0, (3.0,), task="ptb", setting="2_gpu", metric="perplexity", batch_size=None)
    rows = [{"step": 1, "epoch": 0.0, "train_seconds": 0.0, "curvature_median": nan}]
    rows += [{"step": 2, "epoch": 1.0, "curvature_median": 2.0, "test_accuracy_percent": 50.0}]
    write_run("adafisher", 0, rows=rows)
    figure = importlib.import_module(f"analysis.figures.{name}").build(load_results(runs_dir))
    if not isinstance(figure, Missing):
        figure.draw_without_rendering()


def test_loss_over_decades_is_logarithmic_and_accuracy_never(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", values=tuple(float(value) for value in range(1, 40)))
    results = load_results(runs_dir)
    assert train_loss_vs_epoch.build(results).axes[0].get_yscale() == "log"
    assert test_metric_vs_epoch.build(results).axes[0].get_yscale() == "linear"


def test_variants_of_one_method_look_different(write_run: Any, runs_dir: Path) -> None:
    for step in range(20):
        write_run("adam", hyperparameters={"lr": 0.001 * (1 + step)})

    (ax,) = train_loss_vs_epoch.build(load_results(runs_dir)).axes

    shown = [line for line in ax.lines if line.get_color() != FAINT]
    looks = {(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in shown}
    assert len(looks) == len(shown) == MOST
    assert len({line.get_color() for line in shown}) > 1
    hues = [colorsys.rgb_to_hsv(*to_rgb(line.get_color()))[0] for line in shown]
    assert hues == pytest.approx(
        [colorsys.rgb_to_hsv(*to_rgb(KNOWN["adam"].color))[0]] * MOST, abs=0.02
    )


def test_of_many_methods_the_named_and_the_best_are_in_colour(
    write_run: Any, runs_dir: Path
) -> None:
    names = ["adafisher", "adamw", *(f"method{index:02}" for index in range(18))]
    for index, name in enumerate(names):
        write_run(name, 0, (50.0 + index, 60.0 + index))

    figure = test_metric_vs_epoch.build(load_results(runs_dir))

    (ax,) = figure.axes
    best = [f"method{index}" for index in range(12, 18)]
    in_colour = [line.get_label() for line in ax.lines if line.get_color() != FAINT]
    assert in_colour == [f"{name} (n=1)" for name in ["adafisher", "adamw", *best]]
    assert legend(ax) == [*in_colour, "12 others"]
    grey = next(line for line in ax.lines if line.get_color() == FAINT)
    assert (grey.get_linewidth(), grey.get_marker()) == (LEAST_LINE, "None")
    assert "Grey: method00, method01," in note_of(figure)
    assert "adafisher and adamw, and of the others those whose final result" in note_of(figure)


def test_what_is_always_in_colour_is_so_under_any_ruleset() -> None:
    means = {f"m{at}, {ruleset}": float(at) for at in range(9) for ruleset in ("tuned", "default")}
    names = [*means, "adafisher, tuned"]
    coloured = chosen([({**means, "adafisher, tuned": -1.0}, True)])
    assert "adafisher, tuned" in coloured
    said = rule(names, coloured)
    assert said.startswith(" In colour: adafisher, tuned, and of the others those whose")
    assert "Grey: m0, default; m0, tuned;" in said
    assert rule(["adam"], ["adam"]) == ""


def test_the_axis_spans_what_the_lines_do_after_the_start(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (10.0, 90.0, *(96.0 + 0.1 * step for step in range(18))))
    write_run("sgd", 0, (10.0, 80.0, *(94.0 + 0.1 * step for step in range(18))))

    figure = test_metric_vs_epoch.build(load_results(runs_dir))

    low, high = figure.axes[0].get_ylim()
    assert 90 < low < 94.2
    assert 97.7 < high < 98.5
    assert "leaves out the first 15%, 30% or 50% of the runs" in note_of(figure)


def test_a_late_start_squeezes_no_axis(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", 0, (10.0, 90.0, *(96.0 + 0.1 * step for step in range(18))))
    write_run("sgd", 0, (*[10.0] * 8, *(94.0 + 0.1 * step for step in range(12))))
    low, _ = test_metric_vs_epoch.build(load_results(runs_dir)).axes[0].get_ylim()
    assert 93 < low < 94.2


def test_counts_that_differ_between_panels_are_in_the_note(write_run: Any, runs_dir: Path) -> None:
    for task, seeds in (("digits", 1), ("mnist", 2), ("svhn", 1)):
        for seed in range(seeds):
            write_run("adam", seed, task=task)

    figure = test_metric_vs_epoch.build(load_results(runs_dir))

    assert legend(figure.axes[0]) == ["adam (n=1)"]
    assert "Other counts: adam, mnist: n=2." in note_of(figure)


def test_more_panels_than_a_page_holds_are_counted(write_run: Any, runs_dir: Path) -> None:
    for index in range(MOST_PANELS + 3):
        write_run("adam", task=f"task{index:02}")
    figure = test_metric_vs_epoch.build(load_results(runs_dir))
    assert len(figure.axes) == MOST_PANELS
    assert f"The first {MOST_PANELS} of {MOST_PANELS + 3} panels are drawn." in note_of(figure)
    assert figure.get_figheight() <= MOST_HEIGHT


def test_a_panel_shows_rows_and_no_variants(write_run: Any, runs_dir: Path) -> None:
    for name in ("adam", "sgd"):
        for lr in (0.1, 0.2):
            tuning = {"trials": 8, "chosen": {"lr": 0.2}}
            write_run(name, values=(100 * lr,), hyperparameters={"lr": lr}, tuning=tuning)
    (ax,) = test_metric_vs_epoch.build(load_results(runs_dir)).axes
    assert [line.get_label() for line in ax.lines] == ["adam (n=1)", "sgd (n=1)"]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[20.0]] * 2


def test_where_there_is_no_row_variants_are_shown(write_run: Any, runs_dir: Path) -> None:
    for index in range(41):
        write_run("adam", hyperparameters={"lr": 0.1 + index})
    (ax,) = test_metric_vs_epoch.build(load_results(runs_dir)).axes
    assert len(ax.lines) == 40


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("module", [test_metric_vs_epoch, train_loss_vs_train_seconds])
def test_many_tasks_with_long_names_have_room(module: Any, write_run: Any, runs_dir: Path) -> None:
    for task in ("cifar10_jpeg", "digits", "mnist", "ptb", "wikitext2"):
        for index in range(12):
            name = f"method_{index}_with_a_long_name"
            write_run(name, task=task)
            write_run(name, 1, task=task, status="interrupted")

    figure = module.build(load_results(runs_dir))

    image = pixels(figure)
    boxes = [ax.get_window_extent() for ax in figure.axes[:5]]
    assert all(box.height > 0.2 * image.shape[0] for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_are_never_mathematics(write_run: Any, runs_dir: Path) -> None:
    write_run("$\\frac{a}$ <b>", task="$x$")
    pixels(train_loss_vs_epoch.build(load_results(runs_dir)))
