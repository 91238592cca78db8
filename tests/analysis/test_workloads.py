"""Which workloads belong together, and the tables over them, on records worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.figures import improvement_over_tasks, performance_profile
from analysis.render import MISSING
from analysis.results.load import load_results
from analysis.results.suites import Target, suites, target_of, workloads
from analysis.statistics.speedup import SpeedUp
from analysis.tables import (
    aggregate_score,
    improvement_probability,
    paired_difference,
    speed_up,
)

PERPLEXITY = {"metric": "perplexity", "higher_is_better": False}


def write_both(
    write_run: Any, optimizer: str, *finals: tuple[float, float], **options: Any
) -> None:
    """Runs on digits (accuracy) and on ptb (perplexity), a seed each."""
    for seed, (accuracy, perplexity) in enumerate(finals):
        write_run(optimizer, seed, (accuracy,), **options)
        write_run(optimizer, seed, (perplexity,), task="ptb", **PERPLEXITY, **options)


def titles(runs_dir: Path) -> list[tuple[str, str]]:
    return [(suite.title, suite.reference) for suite in suites(load_results(runs_dir))]


def test_a_workload_needs_a_reference_with_a_result_and_another_method(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adamw")
    write_run("kfac", task="mnist")
    write_run("muon", task="mnist")
    write_run("adamw", task="ptb", status="diverged")
    write_run("sgd", task="ptb")
    write_run("adam", task="svhn", status="diverged")
    write_run("adamw", task="svhn", values=(90.0, 96.0))
    results = load_results(runs_dir)
    (ptb, svhn) = workloads(results)
    assert (ptb.title, ptb.reference.name, list(ptb.methods)) == ("ptb", "sgd", ["adamw", "sgd"])
    assert (svhn.title, svhn.seeds) == ("svhn", [0])
    assert target_of(svhn, results) == Target("test_accuracy_percent", 96.0)


def test_a_control_is_no_reference(write_run: Any, runs_dir: Path) -> None:
    """Though more of its runs are done than of the method that it is the control of."""
    for seed, status in enumerate(("done", "failed")):
        write_run("adamw", seed, status=status, group_id="own")
        of = {"control": "scalar", "control_of": "own", "group_id": "c"}
        write_run("adamw", seed, run_id=f"c{seed}", **of)
        write_run("sgd", seed)
    (workload,) = workloads(load_results(runs_dir))
    assert workload.reference.name == "adamw"


def test_unlike_workloads_are_kept_apart(write_run: Any, runs_dir: Path) -> None:
    for name in ("adamw", "adam", "kfac", "muon"):
        write_both(write_run, name, (90.0, 10.0))
    write_run("mine", 0)  # in one of the two alone: they stay together, and it is incomplete
    for name in ("adamw", "mine"):
        write_run(name, task="cifar10_jpeg")  # alike are 1 and 2 of 5: it stays alone
    for name in ("adam", "sgd"):
        write_run(name, task="cifar10", ruleset="paper")
    assert titles(runs_dir) == [
        ("cifar10", "adam, paper"),
        ("cifar10_jpeg", "adamw, tuned"),
        ("digits; ptb", "adamw, tuned"),
    ]
    table = aggregate_score.build(load_results(runs_dir))
    row = table.loc[("digits; ptb", "adamw, tuned", "mine, tuned")]
    assert (row["rank"], row["n"], row["incomplete"]) == (None, "1/2", "ptb: not run")


def test_a_method_that_was_tuned_twice_is_two_methods(write_run: Any, runs_dir: Path) -> None:
    """Neither is taken for the other, whichever comes last."""
    for name, setting, value in (
        *(("adamw", "study", 90.0), ("adam", "study", 91.0), ("sgd", "study", 80.0)),
        ("adam", "damping", 95.0),
    ):
        file = {"path": f"tuned/digits/{setting}/{name}.yaml", "sha256": "0" * 64}
        origin = {"command": [], "setting": {}, "typed": {}, "ruleset_file": file}
        for seed in (0, 1):
            made = {"hyperparameters": {"lr": value}, "origin": origin}
            write_run(name, seed, (value + seed,), **made, group_id=f"{name} {setting}")
    (workload,) = workloads(load_results(runs_dir))
    assert {name: len(of.done) for name, of in workload.methods.items()} == dict.fromkeys(
        ("adam", "adam (tuned=damping)", "adamw", "sgd"), 2
    )
    table = paired_difference.build(load_results(runs_dir))["difference"].droplevel([1, 2])
    assert table.to_dict() == {"adam": 1.0, "adam (tuned=damping)": 5.0, "sgd": -10.0}


def test_a_task_at_equal_time_and_at_equal_length_counts_once(
    write_run: Any, runs_dir: Path
) -> None:
    by = {"reference": "adamw", "reference_steps": 9, "date": "2026-11-29", "machine": "M1"}
    told = {"command": [], "typed": {}, "ruleset_file": None, "experiment": None}
    finals = {"adamw": (90.0, 91.0, 93.0), "muon": (92.0, 94.0, 94.5)}
    for task in ("digits", "mnist"):
        for budget, words in (({"calibration": by}, "equal time"), ({}, "9 steps")):
            for name, values in finals.items():
                for seed, value in enumerate(values):
                    write_run(
                        name,
                        seed,
                        (value,),
                        task=task,
                        budget=words,
                        protocol={"task": {"name": task}, "budget": {"steps": 9, **budget}},
                        origin={**told, "setting": {"budget": words}},
                        group_id=f"{task}{words}{name}",
                    )
    assert [title for title, _ in titles(runs_dir)] == [
        "digits, 9 steps; mnist, 9 steps",
        "digits, equal time; mnist, equal time",
    ]
    table = paired_difference.build(load_results(runs_dir))
    for figure in (improvement_over_tasks, performance_profile):
        text = figure.build(load_results(runs_dir)).get_label()
        assert "2 others left out." in " ".join(text.split())
    p = stats.ttest_rel(finals["muon"], finals["adamw"]).pvalue
    assert table["p"].tolist() == pytest.approx([p] * 4)
    assert table["p over workloads"].tolist() == pytest.approx([2 * p] * 4)  # Holm over two


def test_a_workload_that_cannot_be_tested_was_one_of_the_family(
    write_run: Any, runs_dir: Path
) -> None:
    for name, values in (("adamw", (90.0, 91.0, 93.0)), ("muon", (92.0, 94.0, 94.5))):
        for seed, value in enumerate(values):
            write_run(name, seed, (value,))
            status = "diverged" if name == "muon" and seed else "done"
            write_run(name, seed, (value,), task="mnist", status=status)
    table = paired_difference.build(load_results(runs_dir)).droplevel([0, 1])
    assert pd.isna(table.loc["mnist", "p"])
    assert table.loc["digits", "p over workloads"] == pytest.approx(2 * table.loc["digits", "p"])


def test_score_by_hand(write_run: Any, runs_dir: Path) -> None:
    write_both(write_run, "adamw", (96.0, 10.0), (96.0, 10.0))  # errors 4
    write_both(write_run, "kfac", (99.0, 10.0), (99.0, 10.0))  # errors 1: a quarter
    write_both(write_run, "sgd", (94.0, 20.0), (98.0, 60.0))  # errors 4; 40, four times

    table = aggregate_score.build(load_results(runs_dir)).droplevel([0, 1])

    assert table.index.tolist() == ["kfac", "adamw", "sgd"]
    assert table["score"].tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["n"].tolist() == ["4", "4", "4"]
    assert table.loc["kfac", "interval"] == ""  # no seed differs
    # sgd's relative costs 1.5, 0.5, 2, 6: of four the least and the largest are cut off.
    assert table.loc["sgd", "IQM"] == pytest.approx((1.5 + 2) / 2)
    # Of two seeds a resample is one of them with 1/4, or both: both tasks at once, the ends.
    ends = [np.sqrt(0.5 * 2), np.sqrt(1.5 * 6)]
    assert [table.loc["sgd", "low"], table.loc["sgd", "high"]] == pytest.approx(ends)


def test_what_a_method_lacks_is_said_and_moves_no_other(write_run: Any, runs_dir: Path) -> None:
    write_both(write_run, "adamw", (96.0, 10.0), (96.0, 10.0))
    write_both(write_run, "kfac", (98.0, 10.0), (98.0, 10.0))
    write_both(write_run, "muon", (98.0, 10.0))
    write_run("muon", 1, status="diverged")

    table = aggregate_score.build(load_results(runs_dir)).droplevel([0, 1])

    muon = table.loc["muon"]
    assert muon["incomplete"] == "digits: n=1/2, diverged 1/2; ptb: n=1/2"
    assert (muon["score"], muon["rank"], muon["IQM"], muon["n"]) == (None, None, None, "2/4")
    assert table.loc["kfac", "rank"] == 1


def test_a_diverged_seed_of_the_reference_leaves_no_score(write_run: Any, runs_dir: Path) -> None:
    write_run("adamw", 0)
    write_run("adamw", 1, status="diverged")
    write_run("kfac", 0)
    write_run("kfac", 1)
    table = aggregate_score.build(load_results(runs_dir)).droplevel([0, 1])
    assert table["score"].tolist() == [None, None]
    assert table.loc["adamw", "incomplete"] == "digits: n=1/2, diverged 1/2"
    assert table.loc["kfac", "incomplete"] == "the reference lacks adamw, digits: n=1/2"


def test_a_metric_without_a_best_value_has_no_score(write_run: Any, runs_dir: Path) -> None:
    for name in ("adamw", "kfac"):
        write_run(name, metric="bleu")
    assert aggregate_score.build(load_results(runs_dir)).empty


def test_a_seed_that_is_there_twice_is_said(write_run: Any, runs_dir: Path) -> None:
    write_run("adamw")
    for run_id in ("a", "b"):
        write_run("kfac", run_id=run_id)
    table = aggregate_score.build(load_results(runs_dir)).droplevel([0, 1])
    assert table.loc["kfac", "incomplete"] == "digits: a seed is there twice"


def test_speed_up_by_hand(write_run: Any, runs_dir: Path) -> None:
    # AdamW ends at 90 on the mean, and is there after 20 steps (2 s); K-FAC after 10, but slower:
    # in 4 s and in 2 s, of which a resample has the later one, the upper median, three times in 4.
    for seed in (0, 1):
        write_run("adamw", seed, (80.0, 90.0))
        write_run("kfac", seed, (91.0, 92.0), seconds=4.0 - 2 * seed)
        write_run("sgd", seed, (10.0, 20.0, 30.0, 40.0))
    write_run("muon", 0, (95.0,))

    table = speed_up.build(load_results(runs_dir)).droplevel([0, 1])

    shown = ["in steps", "interval in steps", "in training time", "interval in training time"]
    # All of both are there at one evaluation: by steps there is no spread.
    twice, half = ["2.00×", "inconclusive"], ["0.50×", "0.50 to 1.00"]
    assert table.loc["kfac", shown].tolist() == [*twice, *half]
    assert table.loc["sgd", shown].tolist() == ["at most 0.50×", "", "at most 0.50×", ""]
    assert table.loc["muon", shown].tolist() == ["2.00×", "inconclusive"] * 2
    assert table.loc["kfac", "target"] == "test accuracy 90.00 %"
    assert table["reached by reference"].tolist() == ["2/2"] * 3
    assert table["incomplete"].to_dict() == {"kfac": "", "muon": "digits: n=1/2", "sgd": ""}
    assert table["reached by method"].to_dict() == {"kfac": "2/2", "muon": "1/1", "sgd": "0/2"}


def split_rows(
    *values: tuple[float, float], metric: str = "accuracy_percent"
) -> list[dict[str, float]]:
    """An evaluation every 10 steps and second, of values on validation and on test."""
    return [
        {
            "step": 10 * number,
            "epoch": float(number),
            "train_seconds": float(number),
            f"validation_{metric}": on_validation,
            f"test_{metric}": on_test,
        }
        for number, (on_validation, on_test) in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("identity", "sign"), [({}, 1), ({"task": "ptb", **PERPLEXITY}, -1)], ids=["up", "down"]
)
def test_the_target_is_one_of_validation(
    write_run: Any, runs_dir: Path, identity: dict[str, Any], sign: int
) -> None:
    """The reference is best on validation after 20 steps; test says the opposite everywhere."""
    metric = identity.get("metric", "accuracy_percent")

    def write(name: str, seed: int, *values: tuple[float, float]) -> None:
        rows = split_rows(*((50 + sign * a, 50 + sign * b) for a, b in values), metric=metric)
        write_run(name, seed, rows=rows, validation=True, **identity)

    write("adamw", 0, (1, 9), (5, 3), (4, 8))
    write("adamw", 1, (1, 9), (7, 3), (4, 8))
    write("kfac", 0, (6, 0), (2, 0))  # at the mean of 5 and 7 after 10 steps
    write("kfac", 1, (8, 0), (2, 0))
    write("sgd", 0, (5, 9), (5, 9))  # never, whatever it has on test
    write("sgd", 1, (5, 9), (5, 9))
    results = load_results(runs_dir)
    (workload,) = workloads(results)
    assert target_of(workload, results) == Target(f"validation_{metric}", 50 + sign * 6)

    table = speed_up.build(results).droplevel([0, 1])
    # One of two runs of AdamW is not there, and it counts as the median of two.
    assert table.loc["kfac", ["reached by reference", "reached by method"]].tolist() == [
        "1/2",
        "2/2",
    ]
    assert table.loc["kfac", "in steps"] == table.loc["kfac", "in training time"]
    assert table.loc["kfac", "in steps"] == "at least 3.00×"
    assert table.loc["sgd", "reached by method"] == "0/2"
    label = "validation accuracy 56.00 %" if sign > 0 else "validation perplexity 44.00"
    assert set(table["target"]) == {label}

    costs = performance_profile.costs_of(results, [workload], ["adamw", "kfac", "sgd"], "step")
    np.testing.assert_array_equal(costs[:, 0], [np.inf, 10.0, np.inf])


def speed(*, value: float | None, bound: str = "exact", **interval: float) -> SpeedUp:
    ends = {"low": None, "high": None, **interval}
    counts = {"n": 3, "baseline_n": 3, "reached": 2, "baseline_reached": 2}
    return SpeedUp(bound=bound, value=value, **ends, **counts)


LATE = {
    "reference late": (speed(value=2.0, bound="at least"), "at least 2.00×", ""),
    "both late": (speed(value=None, bound="unknown"), "neither gets there", ""),
    "not evaluated": (speed(value=None, bound="at most"), "the reference alone gets there", ""),
    "at once": (speed(value=None, bound="at once"), "there from the start", ""),
    "above": (speed(value=2.0, low=1.5, high=np.inf), "2.00×", "1.50 or more"),
    "below": (speed(value=2.0, low=0.0, high=3.0), "2.00×", "up to 3.00"),
    "both": (speed(value=2.0, low=0.0, high=np.inf), "2.00×", "open on both sides"),
}


@pytest.mark.parametrize(("made", "ratio", "interval"), LATE.values(), ids=list(LATE))
def test_a_bound_is_said_in_words(made: SpeedUp, ratio: str, interval: str) -> None:
    assert (speed_up.said(made), speed_up.interval_said(made)) == (ratio, interval)


def test_paired_differences_are_corrected_over_workloads_by_an_independent_test(
    write_run: Any, runs_dir: Path
) -> None:
    ours = {"digits": (93.0, 91.5, 95.0, 92.0), "ptb": (80.0, 81.0, 85.0, 79.0)}
    theirs = {"digits": (90.0, 91.0, 92.0, 90.5), "ptb": (82.0, 80.0, 84.0, 81.0)}
    for task in ours:
        for seed in range(4):
            write_run("kfac", seed, (ours[task][seed],), task=task)
            write_run("adamw", seed, (theirs[task][seed],), task=task)
            write_run("sgd", seed, (50.0,), task=task)

    table = paired_difference.build(load_results(runs_dir)).droplevel(1)

    found = table.loc["kfac"]
    wanted = [stats.ttest_rel(ours[task], theirs[task]) for task in ours]
    p = [one.pvalue for one in wanted]
    assert found["p"].tolist() == pytest.approx(p)
    assert found["p over workloads"].tolist() == pytest.approx(
        [min(1.0, 2 * p[0]), max(p[1], min(1.0, 2 * p[0]))]  # the first is the smaller
    )
    ends = [one.confidence_interval(0.95) for one in wanted]
    assert found["low"].tolist() == pytest.approx([end.low for end in ends])
    assert found["high"].tolist() == pytest.approx([end.high for end in ends])
    assert found["difference"].tolist() == pytest.approx([2.0, -0.5])
    assert found["n"].tolist() == [4, 4]
    assert found.loc["digits", "differences"] == "0: 3; 1: 0.5; 2: 3; 3: 1.5"
    assert found.loc["digits", "metric"] == "accuracy (%) ↑"


def test_a_pair_that_lacks_a_run_drops_out_and_is_told(write_run: Any, runs_dir: Path) -> None:
    for seed in range(3):
        write_run("adamw", seed, (90.0 + seed,))
    write_run("kfac", 0, (91.0,))
    write_run("kfac", 1, status="diverged")
    row = paired_difference.build(load_results(runs_dir)).droplevel(1).loc[("kfac", "digits")]
    assert (row["difference"], row["n"], row["interval"]) == (1.0, 1, "")
    assert row["p"] is None
    assert "diverged 1/3" in row["incomplete"]


def probability(runs_dir: Path) -> pd.DataFrame:
    return improvement_probability.build(load_results(runs_dir)).droplevel(1)


def test_equal_runs_make_no_one_more_often_better(write_run: Any, runs_dir: Path) -> None:
    for seed in range(5):
        write_run("adamw", seed, (90.0,))
        write_run("kfac", seed, (91.0,))
    row = probability(runs_dir).loc[("digits", "kfac")]
    assert (row["better in"], row["p"], row["outcome"]) == ("100 %", None, "inconclusive")


def test_probability_by_hand(write_run: Any, runs_dir: Path) -> None:
    # Digits: of 4 pairs K-FAC wins 2, ties 1: 5/8. Perplexity: it wins all. The mean is 13/16.
    write_both(write_run, "adamw", (90.0, 10.0), (92.0, 20.0))
    write_both(write_run, "kfac", (92.0, 5.0), (91.0, 6.0))

    table = probability(runs_dir)

    assert table["value"].tolist() == pytest.approx([5 / 8, 1.0, 13 / 16])
    assert table.index.get_level_values(0).tolist() == ["digits", "ptb", "all 2: digits; ptb"]
    assert table["better in"].tolist() == ["62 %", "100 %", "81 %"]
    assert table["n"].tolist() == table["against n"].tolist() == [2, 2, 4]
    assert table["p"].tolist()[1] == pytest.approx(2 / 6)  # two against two are dealt in 6 ways
    assert set(table["outcome"]) == {"inconclusive"}


@pytest.mark.parametrize(
    ("seeds", "kfac", "outcome"),
    [
        (1, 99.0, "inconclusive"),
        (3, 99.0, "inconclusive"),  # p = 2/20
        (4, 99.0, "more often better"),
        (4, 80.0, "more often worse"),
        (4, 90.0, "inconclusive"),
    ],
)
def test_an_outcome_needs_runs_that_carry_it(
    write_run: Any, runs_dir: Path, seeds: int, kfac: float, outcome: str
) -> None:
    for seed in range(seeds):
        write_run("adamw", seed, (90.0 + 0.1 * seed,))
        write_run("kfac", seed, (kfac + 0.1 * seed,))
    assert probability(runs_dir)["outcome"].tolist() == [outcome]


def test_a_diverged_run_is_worse_than_any(write_run: Any, runs_dir: Path) -> None:
    for task, better in (("digits", {}), ("ptb", PERPLEXITY)):
        write_run("adamw", 0, (1.0,), task=task, **better)
        write_run("kfac", 0, (99.0 if task == "digits" else 0.5,), task=task, **better)
        write_run("kfac", 1, status="diverged", task=task, **better)
        write_run("sgd", 0, status="failed", task=task, **better)
    table = probability(runs_dir)
    kfac = table.xs("kfac", level=1)
    assert kfac["value"].tolist() == [0.5, 0.5, 0.5]
    assert kfac["n"].tolist() == [2, 2, 4]
    sgd = table.xs("sgd", level=1)
    assert (sgd["better in"].tolist(), sgd["outcome"].tolist()) == ([""] * 3, [""] * 3)
    assert sgd["incomplete"].iloc[2] == "digits: failed 1/1; ptb: failed 1/1"
    assert kfac["incomplete"].tolist() == [""] * 3  # the seed that diverged is none of AdamW's


@pytest.mark.parametrize("module", [aggregate_score, speed_up, improvement_probability])
def test_one_method_alone_says_what_to_run(module: Any, write_run: Any, runs_dir: Path) -> None:
    write_run("adamw")
    table = module.build(load_results(runs_dir))
    assert table.empty
    assert "make sweep OPT=adamw,adafisher" in str(table.attrs[MISSING])
