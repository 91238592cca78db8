"""Which workloads belong together, and the tables over them, on records worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.load import load_results
from analysis.tables import aggregate_score
from analysis.workloads import suites, workloads

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
    (ptb, svhn) = workloads(load_results(runs_dir))
    assert (ptb.title, ptb.reference.name, list(ptb.methods)) == ("ptb", "sgd", ["adamw", "sgd"])
    assert (svhn.title, svhn.target, svhn.seeds) == ("svhn", 96.0, [0])


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


def test_score_by_hand(write_run: Any, runs_dir: Path) -> None:
    write_both(write_run, "adamw", (96.0, 10.0), (96.0, 10.0))  # errors 4
    write_both(write_run, "kfac", (99.0, 10.0), (99.0, 10.0))  # errors 1: a quarter
    write_both(write_run, "sgd", (94.0, 20.0), (98.0, 60.0))  # errors 4; 40, four times

    table = aggregate_score.build(load_results(runs_dir)).droplevel([0, 1])

    assert table.index.tolist() == ["kfac", "adamw", "sgd"]
    assert table["score"].tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["n"].tolist() == ["4", "4", "4"]
    assert table.loc["kfac", "interval"] == "0.50 to 0.50"  # no seed differs
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
    assert isinstance(table, pd.DataFrame)
