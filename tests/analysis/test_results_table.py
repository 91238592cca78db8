import statistics
from pathlib import Path
from typing import Any

import pytest

from analysis.render import cell_text
from analysis.render.text import to_csv
from analysis.results.load import load_results
from analysis.statistics.summary import Summary
from analysis.tables import variants
from analysis.tables.results import build


def test_optimizers_by_tasks(write_run: Any, runs_dir: Path) -> None:
    finals = {0: 95.0, 1: 96.5, 2: 94.0}
    for seed, value in finals.items():
        write_run("adam", seed, (97.0, value))
    perplexity = {"metric": "perplexity", "higher_is_better": False, "task": "ptb"}
    write_run("sgd", 0, (30.0, 20.0), **perplexity)

    table = build(load_results(runs_dir))

    assert table.index.tolist() == [("adam", "tuned", "unknown"), ("sgd", "tuned", "unknown")]
    assert table.columns.tolist() == [
        ("digits", "accuracy (%) ↑", "final"),
        ("digits", "accuracy (%) ↑", "best_test"),
        ("ptb", "perplexity ↓", "final"),
        ("ptb", "perplexity ↓", "best_test"),
    ]
    final = table.loc[("adam", "tuned", "unknown"), ("digits", "accuracy (%) ↑", "final")]
    assert isinstance(final, Summary)
    assert final.mean == pytest.approx(statistics.mean(finals.values()))
    assert final.std == pytest.approx(statistics.stdev(finals.values()))
    texts = table.map(cell_text).to_numpy().tolist()
    assert texts == [
        ["95.17 ± 1.26 (n=3)", "97.00 ± 0.00 (n=3)", "not run", "not run"],
        ["not run", "not run", "20.00 (n=1)", "20.00 (n=1)"],
    ]


def test_the_best_on_test_is_left_out_where_nobody_looked_for_it(
    write_run: Any, runs_dir: Path
) -> None:
    for seed in range(2):
        write_run("adam", seed, evaluate_test="best", validation=True)
        write_run("sgd", seed, evaluate_test="best", validation=True, task="ptb")
        write_run("adam", seed, evaluate_test="true", task="ptb")

    table = build(load_results(runs_dir))

    assert [column[::2] for column in table.columns] == [
        ("digits", "final"),
        ("ptb", "final"),
        ("ptb", "best_test"),
    ]
    texts = table.map(cell_text)
    mean = "95.00 ± 0.00 (n=2)"
    assert texts.iloc[:, 2].tolist() == [mean, "n=0/2"]
    assert texts.iloc[:, 1].tolist() == [mean, mean]


def test_a_run_that_collapsed_is_counted_and_stays_in_the_mean(
    write_run: Any, runs_dir: Path
) -> None:
    for seed, final in enumerate((10.2, 80.0, 90.0)):
        known = {"summary": {"constant_prediction": 10.0}, "units": {"accuracy_percent": "%"}}
        write_run("adam", seed, (final,), **known)
    write_run("adam", 3, (10.1,))  # a record from before: nothing is known

    results = load_results(runs_dir)

    assert results.runs["collapsed"].tolist() == [True, False, False, False]
    cell = build(results).iloc[0, 0]
    assert (cell.n, cell.collapsed) == (4, 1)
    assert cell.mean == pytest.approx((10.2 + 80.0 + 90.0 + 10.1) / 4)
    assert cell_text(cell).endswith("(n=4, collapsed 1/4)")
    assert to_csv(build(results)).count("collapsed") > 0


def test_what_did_not_finish_is_in_the_table(write_run: Any, runs_dir: Path) -> None:
    for seed in range(3):
        write_run("adam", seed)
        write_run("sgd", seed, status="diverged")
    write_run("kfac", 0)
    write_run("kfac", 1)
    write_run("shampoo", 0)
    write_run("shampoo", 1, status="out_of_memory", rows=[])
    write_run("shampoo", 2, status="running")

    texts = build(load_results(runs_dir)).map(cell_text).iloc[:, 0].tolist()

    assert texts == [
        "95.00 ± 0.00 (n=3)",
        "95.00 ± 0.00 (n=2/3)",
        "diverged 3/3",
        "95.00 (n=1/3, out of memory 1/3, incomplete 1/3)",
    ]


def test_rulesets_are_rows_of_their_own(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", ruleset="tuned")
    write_run("adam", ruleset="default")
    table = build(load_results(runs_dir))
    assert table.index.tolist() == [
        ("adam", "default", "0"),
        ("adam", "tuned", "unknown"),
    ]


def test_a_number_names_its_runs_and_command(write_run: Any, runs_dir: Path) -> None:
    known = {"command": ["task=digits"], "setting": {}, "typed": {}}
    for seed, run_id in enumerate(("first", "second")):
        write_run("adam", seed, run_id=run_id, origin=known, protocol={"budget": {"epochs": 2}})
    cell = build(load_results(runs_dir)).iloc[0, 0]
    assert cell.source["run_ids"] == "first second"
    assert cell.source["command"] == "python -m experiments.train -m task=digits seed=0,1"
    assert (cell.source["model"], cell.source["budget"]) == ("small_cnn", "2 epochs")


def test_a_method_of_typed_values_alone_is_said_to_have_variants_only(
    write_run: Any, runs_dir: Path
) -> None:
    for lr in (0.1, 0.2):
        write_run("adam", ruleset="default", hyperparameters={"lr": lr})
    write_run("sgd", ruleset="default")

    texts = build(load_results(runs_dir)).map(cell_text).iloc[:, 0]

    assert texts.to_dict() == {
        ("adam", "default", "0"): "variants only",
        ("sgd", "default", "0"): "95.00 (n=1)",
    }
    assert variants.build(load_results(runs_dir)).map(cell_text).iloc[:, 0].to_dict() == {
        ("adam (lr=0.1)", "default", "0"): "95.00 (n=1)",
        ("adam (lr=0.2)", "default", "0"): "95.00 (n=1)",
    }
