"""Costs, curvature, and methods over tasks, on records whose numbers are worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from analysis.figures import (
    cost_per_method,
    curvature_spread,
    damping_share,
    final_by_seed,
    improvement_over_tasks,
    performance_profile,
    quality_vs_cost,
    scaling_over_gpus,
)
from analysis.plots.missing import Missing
from analysis.plots.panels import note_of
from analysis.results.load import load_results
from analysis.results.methods import methods_of
from analysis.style import KNOWN, PAPER

MIB = 2**20


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def names(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax: Any) -> list[str]:
    """Of the whole figure, which has one."""
    (shown,) = ax.get_figure(root=True).legends
    return [text.get_text() for text in shown.get_texts()]


def said(text: str) -> str:
    """In one line."""
    return " ".join(text.split())


def test_costs_are_means_and_ratios_to_adamw(write_run: Any, runs_dir: Path) -> None:
    for seed, seconds in enumerate((1.0, 3.0)):  # the record counts them over two epochs
        summary = {"peak_memory_bytes": 200 * MIB, "state_bytes": 4 * MIB}
        write_run("adamw", seed, seconds=seconds, summary=summary)
    write_run("sgd", 0, seconds=1.0, summary={"peak_memory_bytes": 100 * MIB})
    write_run("sgd", 1, seconds=99.0, status="diverged")
    write_run("kfac", 0, status="failed", rows=[])

    figure = cost_per_method.build(load_results(runs_dir))
    seconds, peak, state = figure.axes

    assert names(seconds) == ["adamw", "sgd"]
    assert [bar.get_width() for bar in seconds.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in peak.patches] == [200.0, 100.0]
    assert [bar.get_width() for bar in state.patches] == [4.0, 0.0]
    assert (texts(seconds), texts(peak)) == (["1.00×", "0.50×"], ["1.00×", "0.50×"])
    assert texts(state) == ["1.00×"]  # not recorded is no number
    assert said(seconds.get_xlabel()) == "training time an epoch (s)"
    assert "Number: ratio of the mean to that of adamw" in note_of(figure)
    assert "(MiB)" in peak.get_xlabel()
    (interval, *_) = seconds.collections[0].get_segments()
    assert interval[:, 0].tolist() == [1.0, 3.0]
    assert seconds.get_ylim()[0] > seconds.get_ylim()[1]  # the first on top


@pytest.mark.parametrize(("others", "reference"), [(["adam", "sgd"], "adam"), (["sgd"], "sgd")])
def test_without_adamw_another_reference_is_named(
    write_run: Any, runs_dir: Path, others: list[str], reference: str
) -> None:
    for optimizer in ("kfac", *others):
        write_run(optimizer)
    figure = cost_per_method.build(load_results(runs_dir))
    assert f"ratio of the mean to that of {reference} (" in note_of(figure)


def test_without_any_reference_costs_are_absolute(write_run: Any, runs_dir: Path) -> None:
    write_run("kfac", seconds=1.5)
    figure = cost_per_method.build(load_results(runs_dir))
    seconds, peak, _ = figure.axes
    assert "Number: the mean." in note_of(figure)
    assert texts(seconds) == ["1.5"]
    assert texts(peak) == ["Not recorded."]


def test_scaling_shows_seconds_and_the_ideal(write_run: Any, runs_dir: Path) -> None:
    for gpus, seconds in ((1, (8.0, 10.0)), (2, (5.0, 5.0)), (4, (3.0, 3.0))):
        for seed, value in enumerate(seconds):
            place = f"{gpus}_gpu"
            write_run("adafisher", seed, seconds=value, setting=place, group_id=place)
    write_run("adafisher", 0, setting="scratch")

    ax, published = scaling_over_gpus.build(load_results(runs_dir)).axes

    assert published.get_title() == "imagenet1k, resnet50"  # whose runs are not of this task
    ideal, line = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 4]
    assert line.get_ydata().tolist() == [9, 5, 3]
    assert line.get_color() == KNOWN["adafisher"].color
    np.testing.assert_allclose(ideal.get_xdata() * ideal.get_ydata(), 9)
    assert ax.get_xlabel() == "GPUs (processes)"
    assert said(ax.get_ylabel()) == "training time an epoch (s)"
    assert legend(ax) == ["adafisher (n=2)", "adafisher, published, Table 6"]


def test_scaling_counts_the_runs_that_are_not_done(write_run: Any, runs_dir: Path) -> None:
    for gpus in (1, 2, 4):
        place = {"setting": f"{gpus}_gpu", "group_id": f"{gpus}"}
        write_run("adafisher", 0, seconds=8.0 / gpus, **place)
        for seed in (1, 2):
            status = "diverged" if gpus == 2 else "done"
            write_run("adafisher", seed, seconds=8.0 / gpus, status=status, **place)
    write_run("adafisher", 0, status="failed", rows=[], setting="8_gpu", group_id="8")
    write_run("kfac", 0, status="failed", rows=[], setting="8_gpu", group_id="k")

    ax, _ = scaling_over_gpus.build(load_results(runs_dir)).axes

    ideal, line, lost = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 8], [2, 4], [4, 2], [8, np.nan]])
    np.testing.assert_allclose(ideal.get_xdata() * ideal.get_ydata(), 8)
    assert np.isnan(lost.get_ydata()).all()
    names = ["adafisher (n=0/1 to 3)", "kfac (n=0/1)"]
    assert legend(ax) == [*names, "adafisher, published, Table 6"]


def test_the_published_scaling_stands_beside_the_runs_that_join_it(
    write_run: Any, runs_dir: Path
) -> None:
    places = {"task": "imagenet1k", "model": "resnet50_imagenet", "setting": "2_gpu"}
    said = {"task": "imagenet1k", "model": "resnet50", "optimizer": "adafisher"}
    write_run("adafisher_released", 0, seconds=1500.0, published_as=said, **places)

    (ax,) = scaling_over_gpus.build(load_results(runs_dir)).axes

    assert legend(ax) == ["adafisher, published, Table 6", "adafisher_released (n=1)"]
    _, published, _, ours = ax.lines
    # As printed in Table 6.
    assert published.get_xydata().tolist() == [[1, 2882], [2, 1438], [3, 963], [4, 720]]
    assert ours.get_xydata().tolist() == [[2, 1500]]
    assert (published.get_linestyle(), published.get_markerfacecolor()) == ("--", PAPER)
    assert ours.get_markerfacecolor() == ours.get_color()


def test_profile_counts_workloads_within_a_factor(
    write_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The target is AdamW's last accuracy, 90. On digits it takes 2 epochs, K-FAC 1; on mnist it
    # takes 1, K-FAC never gets there, and SGD was not run.
    write_run("adamw", 0, (80.0, 90.0))
    write_run("kfac", 0, (91.0, 92.0))
    write_run("sgd", 0, (1.0, 2.0, 3.0, 95.0))
    write_run("adamw", 0, (90.0, 90.0), task="mnist")
    write_run("kfac", 0, (10.0, 20.0), task="mnist")
    monkeypatch.setattr(performance_profile, "FEW", 1)

    figure = performance_profile.build(load_results(runs_dir))

    for ax, what in zip(figure.axes, ("training time", "steps"), strict=True):
        assert ax.get_xlabel().startswith(what)
        assert legend(ax) == ["adamw", "kfac", "sgd (1)"]
        adamw, kfac, sgd = ax.lines
        assert adamw.get_xdata().tolist() == pytest.approx([1, 2, 4, 4.4])
        assert adamw.get_ydata().tolist() == [50, 100, 100, 100]
        assert kfac.get_ydata().tolist() == [50, 50, 50, 50]
        assert sgd.get_ydata().tolist() == [0, 0, 100, 100]
        assert ax.get_ylim() == (0, 100)
    assert "mean over the runs of adamw of the validation metric" in note_of(figure)


def test_few_workloads_are_marks_and_who_never_gets_there_is_at_the_edge(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adamw", 0, (80.0, 90.0))
    write_run("kfac", 0, (91.0, 92.0))
    write_run("adamw", 0, (90.0, 90.0), task="mnist")
    write_run("kfac", 0, (10.0, 20.0), task="mnist")

    figure = performance_profile.build(load_results(runs_dir))

    assert names(figure.axes[0]) == ["adamw", "kfac"]
    for ax in figure.axes:
        marks = [(*line.get_xydata()[0].tolist(), line.get_marker()) for line in ax.lines]
        assert marks == [(2, 0, "o"), (1, 0, "s"), (1, 1, "o"), (2.5, 1, "s")]
        assert [line.get_markerfacecolor() == "none" for line in ax.lines] == [False] * 3 + [True]
        assert ax.get_xlim() == (1, 2.5)
        assert legend(ax) == ["digits", "mnist"]
    assert "Each workload (there are but 2) is a mark" in note_of(figure)


def test_a_target_that_is_met_before_the_first_step_is_no_workload_of_that_method(
    write_run: Any, runs_dir: Path
) -> None:
    rows = [{"step": 0, "epoch": 0.0, "train_seconds": 0.0, "test_accuracy_percent": 95.0}]
    write_run("kfac", 0, rows=rows)
    write_run("adamw", 0, (80.0, 90.0))
    figure = performance_profile.build(load_results(runs_dir))
    assert [[line.get_label() for line in ax.lines] for ax in figure.axes] == [["adamw"]] * 2


@pytest.mark.parametrize("alone", [True, False], ids=["one method", "no reference"])
def test_nothing_to_compare_names_the_command(write_run: Any, runs_dir: Path, alone: bool) -> None:
    for optimizer in ["adamw"] if alone else ["kfac", "shampoo"]:
        write_run(optimizer)
    results = load_results(runs_dir)
    for module in (performance_profile, improvement_over_tasks):
        assert module.build(results) == Missing(module.COMMAND)


def test_improvement_has_a_box_from_three_tasks_on(write_run: Any, runs_dir: Path) -> None:
    for task, value in (("digits", 98.0), ("mnist", 97.0), ("svhn", 94.0)):  # 50, 25 and -50 %
        write_run("adamw", 0, (96.0,), task=task)
        write_run("kfac", 0, (value,), task=task)
    write_run("sgd", 0, (95.0,), task="digits")  # -25 %

    (ax,) = improvement_over_tasks.build(load_results(runs_dir)).axes

    assert names(ax) == ["kfac", "sgd (1 of 3)"]
    points = [part.get_offsets().tolist() for part in ax.collections[-3:]]
    assert points == [[[50, 0], [-25, 1]], [[25, 0]], [[-50, 0]]]
    (box,) = ax.patches
    assert (box.get_x(), box.get_x() + box.get_width()) == (-12.5, 37.5)  # quartiles
    whiskers, *medians = [part.get_segments()[0][:, 0].tolist() for part in ax.collections[:-3]]
    assert whiskers == [-50, 50]
    assert medians == [[25, 25], [-25, -25]]
    assert legend(ax) == ["digits", "mnist", "svhn"]
    assert ax.get_xlabel() == "relative improvement (%)"


def test_a_method_that_lacks_workloads_is_below_those_that_have_all(
    write_run: Any, runs_dir: Path
) -> None:
    for task in ("digits", "mnist"):
        write_run("adamw", 0, (90.0,), task=task)
        write_run("kfac", 0, (91.0,), task=task)
        write_run("sgd", 0, (80.0,), task=task)
    write_run("muon", 0, (99.0,), task="digits")  # was it run where it is good?

    (ax,) = improvement_over_tasks.build(load_results(runs_dir)).axes

    assert names(ax) == ["kfac", "sgd", "muon (1 of 2)"]


def curvature_rows(*medians: float) -> list[dict[str, float]]:
    return [
        {
            "step": epoch,
            "epoch": epoch,
            "train_seconds": epoch,
            "curvature_min": 1.0,
            "curvature_percentile_1": median / 2,
            "curvature_median": median,
            "curvature_percentile_99": 4 * median,
            "curvature_max": 1001.0,
        }
        for epoch, median in enumerate(medians, start=1)
    ]


def test_spread_is_drawn_for_methods_that_tell_of_it(write_run: Any, runs_dir: Path) -> None:
    write_run("adafisher", 0, rows=curvature_rows(4.0, 8.0))
    write_run("adafisher", 1, rows=curvature_rows(6.0, 10.0))
    write_run("adam", 0)

    (ax,) = curvature_spread.build(load_results(runs_dir)).axes

    one, median, least, largest = ax.lines
    assert one.get_ydata() == [1, 1]
    assert median.get_ydata().tolist() == [5, 9]
    assert least.get_ydata().tolist() == [1, 1]
    assert largest.get_ydata().tolist() == [1001, 1001]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (2.5, 36)
    assert texts(ax) == ["8.00×"]
    assert ax.get_title() == "digits: adafisher (n=2)"
    assert (ax.get_ylabel(), ax.get_yscale()) == ("F / damping", "log")


def test_spread_that_was_never_finite_is_said(write_run: Any, runs_dir: Path) -> None:
    write_run("adafisher", 0, rows=curvature_rows(float("inf")))
    figure = curvature_spread.build(load_results(runs_dir))
    assert texts(figure.axes[0]) == ["Never finite."]
    figure.draw_without_rendering()


def test_the_share_of_damping_is_drawn_for_each_layer(write_run: Any, runs_dir: Path) -> None:
    for seed, share in enumerate((0.25, 0.75)):
        rows = [
            {"step": epoch, "epoch": epoch, "train_seconds": epoch, "curvature_damping_share": 0.6}
            | {f"curvature_damping_share/{at}": share + at / 100 for at in range(4)}
            for epoch in (1, 2)
        ]
        write_run("adafisher", seed, rows=rows)
    others = curvature_rows(4.0, 8.0)  # tells of no layer, and is not in n
    write_run("adafisher", 2, rows=[row | {"curvature_damping_share": 0.9} for row in others])
    write_run("adam", 0)

    figure = damping_share.build(load_results(runs_dir))

    (ax,) = figure.axes
    assert [line.get_ydata()[-1] for line in ax.lines] == pytest.approx(
        [0.5, 0.51, 0.52, 0.53, 0.6]
    )
    assert ax.get_title() == "digits: adafisher (n=2)"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["all layers", "first layer", "last layer", "a layer between"]
    assert (ax.get_ylabel(), ax.get_ylim()) == ("damping / F", (0, 1.04))


def test_layers_are_in_the_order_of_their_own_model(write_run: Any, runs_dir: Path) -> None:
    """Another task may have a layer of the same name elsewhere, and be read first."""
    for task, names in (("digits", ("head", "a")), ("mnist", ("a", "b", "head"))):
        row = {"step": 1, "epoch": 1, "train_seconds": 1, "curvature_damping_share": 0.5}
        shares = {f"curvature_damping_share/{name}": 0.1 * at for at, name in enumerate(names, 1)}
        write_run("adafisher", 0, rows=[{**row, **shares}], task=task)
    _, mnist = damping_share.build(load_results(runs_dir)).axes
    ends = {str(line.get_label()): line.get_ydata()[-1] for line in mnist.lines}
    assert (ends["first layer"], ends["last layer"]) == pytest.approx((0.1, 0.3))


def test_runs_that_tell_of_no_layer_have_no_shares(write_run: Any, runs_dir: Path) -> None:
    write_run("adafisher", 0, rows=curvature_rows(4.0))
    assert isinstance(damping_share.build(load_results(runs_dir)), Missing)


def test_methods_are_rows_and_no_variant_stands_for_one(write_run: Any, runs_dir: Path) -> None:
    tuning = {"trials": 8, "chosen": {"lr": 0.2}}
    for lr, value in ((0.1, 99.0), (0.2, 90.0)):
        write_run("adam", values=(value,), hyperparameters={"lr": lr}, tuning=tuning)
    write_run("sgd", 0)
    write_run("sgd", 0, run_id="follows", group_id="follows", control="scalar")

    adam, sgd, control = methods_of(load_results(runs_dir))["digits"]

    assert (adam.name, sgd.name, control.name) == ("adam", "sgd", "sgd (scalar control)")
    assert adam.runs["hyperparameters"].tolist() == [{"lr": 0.2}]
    assert adam.style == KNOWN["adam"]
    assert control.style.color != sgd.style.color  # black, and a grey
    assert control.style.dash != sgd.style.dash


def test_quality_stands_over_the_cost_of_whole_runs(write_run: Any, runs_dir: Path) -> None:
    for seed, (seconds, value) in enumerate([(1.0, 90.0), (2.0, 92.0), (9.0, 94.0)]):
        write_run("adam", seed, (value, value), seconds=seconds)
    write_run("sgd", 0, (80.0, 80.0), seconds=0.5)
    ax = quality_vs_cost.build(load_results(runs_dir)).axes[0]
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines}
    assert points == {"adam": (4.0, 92.0), "sgd": (1.0, 80.0)}  # the median; two epochs each
    assert "cheaper: left" in said(ax.get_xlabel())
    assert "better: up" in said(ax.get_ylabel())
    level = ttest_1samp([90.0, 92.0, 94.0], 0.0).confidence_interval(0.95)
    segments = [part for lines in ax.collections for part in lines.get_segments()]
    assert [part.ravel().tolist() for part in segments] == [
        pytest.approx((4.0, level.low, 4.0, level.high))
    ]


def test_captions_of_means_say_what_is_not_in_them(write_run: Any, runs_dir: Path) -> None:
    """One run of three that is best by far has no n beside it in these figures."""
    for seed in range(3):
        write_run("adamw", seed, (90.0,))
    write_run("muon", 0, (99.0,))
    write_run("muon", 1, (99.0,), status="diverged")
    write_run("muon", 2, (99.0,), status="interrupted")
    write_run("sgd", 0, (80.0,))  # it was started with one seed alone
    write_run("kfac", 0, status="failed", rows=[])
    for seed in range(2):
        write_run("adamw", seed, (90.0,), task="mnist")
        write_run("muon", seed, (91.0,), task="mnist")
    results = load_results(runs_dir)
    told = (
        "Not all seeds are in the means: kfac on digits: failed 1/3; "
        "muon on digits: n=1/3, diverged 1/3, incomplete 1/3; sgd on digits: n=1/3."
    )
    for module in (cost_per_method, improvement_over_tasks, quality_vs_cost):
        assert told in note_of(module.build(results)), module


def test_captions_of_whole_means_say_nothing_of_it(write_run: Any, runs_dir: Path) -> None:
    for seed in range(2):
        write_run("adamw", seed)
        write_run("muon", seed)
    write_run("muon", 2, rows=[], summary={"state_bytes": 4})  # done, without a result
    write_run("adamw", 2)
    results = load_results(runs_dir)
    assert "Not all" not in note_of(cost_per_method.build(results))  # it has its costs
    for module in (improvement_over_tasks, quality_vs_cost):
        assert "muon on digits: n=2/3, not finite 1/3." in note_of(module.build(results))


def test_quality_of_a_loss_is_better_down(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", metric="perplexity", higher_is_better=False)
    assert "better: down" in said(
        quality_vs_cost.build(load_results(runs_dir)).axes[0].get_ylabel()
    )


def test_records_without_times_say_so(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", rows=[{"step": 1, "epoch": 1.0, "test_accuracy_percent": 90.0}])
    ax = quality_vs_cost.build(load_results(runs_dir)).axes[0]
    assert said(" ".join(texts(ax))) == "No training time is recorded."


def test_every_seed_is_drawn_with_the_mean_and_its_interval(write_run: Any, runs_dir: Path) -> None:
    finals = {"adamw": (90.0, 91.0, 95.0), "muon": (97.0, 99.0)}
    for name, values in finals.items():
        for seed, value in enumerate(values):
            write_run(name, seed, (value,))
    write_run("muon", 2, (50.0,), status="diverged")
    write_run("sgd", 0, (99.9,), status="failed")
    write_run("adam", task="mnist")  # of one seed there is nothing to show

    (ax,) = final_by_seed.build(load_results(runs_dir)).axes

    assert names(ax) == ["muon", "adamw", "sgd"]  # the best mean is on top
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    rings = {str(line.get_label()): line for line in ax.lines if line.get_marker() == "o"}
    for row, (name, values) in enumerate([("muon", finals["muon"]), ("adamw", finals["adamw"])]):
        assert rings[name].get_xdata().tolist() == list(values)
        assert set(rings[name].get_ydata()) == {row}
        expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
        (interval,) = (
            line.get_xdata()
            for line in ax.lines
            if line.get_linestyle() == "-" and line.get_lw() > 1 and line.get_ydata()[0] == row
        )
        assert list(interval) == pytest.approx([expected.low, expected.high])
        (mean,) = (
            line.get_xdata()
            for line in ax.lines
            if line.get_marker() == "|" and line.get_ydata()[0] == row
        )
        assert mean[0] == pytest.approx(np.mean(values))
    crosses = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "x"]
    assert crosses == [0, 2]
    assert {text.xy[1]: text.get_text() for text in ax.texts} == {0: "1 of 3", 2: "1 of 1"}
    assert said(ax.get_xlabel()) == "test accuracy (%); better: right"


def test_who_leads_with_one_run_of_many_says_so(write_run: Any, runs_dir: Path) -> None:
    lost = ("diverged", "failed", "out_of_memory", "interrupted", "running")
    write_run("muon", 0, (99.0,))
    for seed, status in enumerate(lost, start=1):
        write_run("muon", seed, (1.0,), status=status)
    write_run("muon", 6, (), rows=[])  # done, without a result
    for seed in range(7):
        write_run("adamw", seed, (90.0 + seed,))

    figure = final_by_seed.build(load_results(runs_dir))

    (ax,) = figure.axes
    assert names(ax) == ["muon", "adamw"]
    assert [(text.xy[1], text.get_text()) for text in ax.texts] == [(0, "6 of 7")]
    assert "so many of the method's runs are in no mean" in note_of(figure)
    figure.draw_without_rendering()


def test_seeds_of_losses_have_the_least_on_top(write_run: Any, runs_dir: Path) -> None:
    options = {"metric": "perplexity", "higher_is_better": False}
    for name, values in {"adamw": (10.0, 12.0), "muon": (300.0, 8.0)}.items():
        for seed, value in enumerate(values):
            write_run(name, seed, (value,), **options)

    (ax,) = final_by_seed.build(load_results(runs_dir)).axes

    assert names(ax) == ["adamw", "muon"]
    assert ax.get_xscale() == "log"  # the outlier does not hide the others
    assert said(ax.get_xlabel()) == "test perplexity; better: left"
