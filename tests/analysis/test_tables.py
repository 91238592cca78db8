"""Tables other than the main one, on made-up records."""

import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_1samp, ttest_rel

import analysis.tables
from analysis.render import MISSING, cell_text
from analysis.report import __main__ as report
from analysis.report.report import names_of
from analysis.results.load import load_results
from analysis.tables import (
    comparison,
    cost,
    coverage,
    damping_share,
    published_vs_reproduced,
    results,
    table8_budgets,
    table9_learning_rates,
    tuning_effort,
)

FORMATS = ("csv", "md", "tex", "html")


def with_costs(folder: Path, *, step: int, seconds: float, peak: int, state: int) -> None:
    status = json.loads((folder / "status.json").read_text())
    status["progress"] = {"step": step, "train_seconds": seconds}
    status["summary"] = {"peak_memory_bytes": peak, "state_bytes": state}
    (folder / "status.json").write_text(json.dumps(status))


def test_cost_is_the_mean_over_runs_and_a_ratio_within_the_block(
    write_run: Any, runs_dir: Path
) -> None:
    for seed, seconds in enumerate((1.0, 3.0)):
        folder = write_run("adamw", seed)
        with_costs(folder, step=100, seconds=seconds, peak=4_000_000, state=2_000_000)
    with_costs(write_run("kfac"), step=10, seconds=1.0, peak=8_000_000, state=500_000)
    with_costs(write_run("sgd", task="mnist"), step=10, seconds=1.0, peak=1, state=1)

    table = cost.build(load_results(runs_dir))

    texts = table.xs("digits", axis=1).map(cell_text)
    assert texts.loc[("adamw", "tuned", "unknown")].tolist() == ["20 ± 14", "1", "4", "2"]
    assert texts.loc[("kfac", "tuned", "unknown")].tolist() == ["100", "5", "8", "0.5"]
    assert (
        table.loc[("sgd", "tuned", "unknown"), ("mnist", "to adamw")].text == ""
    )  # no AdamW there
    assert table.loc[("sgd", "tuned", "unknown"), ("digits", "to adamw")] == "not run"


def test_the_time_with_the_test_passes_is_beside_that_of_training(
    write_run: Any, runs_dir: Path
) -> None:
    """The authors' count; a record that does not tell has none, and no block of such a column."""
    for seed, seconds in enumerate((8.0, 12.0)):
        folder = write_run("adam", seed)
        with_costs(folder, step=100, seconds=seconds, peak=1, state=1)
        status = json.loads((folder / "status.json").read_text())
        status["progress"]["evaluation_seconds"] = 2.0 + seed
        (folder / "status.json").write_text(json.dumps(status))
    with_costs(write_run("sgd"), step=100, seconds=9.0, peak=1, state=1)
    with_costs(write_run("sgd", task="mnist"), step=100, seconds=9.0, peak=1, state=1)

    table = cost.build(load_results(runs_dir))

    assert table.loc[("adam", "tuned", "unknown"), ("digits", "s with test")].text == "12.5"
    assert table.loc[("adam", "tuned", "unknown"), ("digits", "ms a step")].values["mean"] == 100.0
    assert table.loc[("sgd", "tuned", "unknown"), ("digits", "s with test")].text == ""
    assert ("mnist", "s with test") not in table.columns


def test_the_set_up_stands_beside_the_time_that_has_none_of_it(
    write_run: Any, runs_dir: Path
) -> None:
    """A method whose steps take half as long, and whose set-up is as long as all of them."""
    for method, seconds, setup in (("adamw", 10.0, 2.0), ("muon", 5.0, 5.0), ("sgd", 5.0, None)):
        folder = write_run(method)
        with_costs(folder, step=100, seconds=seconds, peak=1, state=1)
        status = json.loads((folder / "status.json").read_text())
        status["progress"]["setup_seconds"] = setup
        (folder / "status.json").write_text(json.dumps(status))

    texts = cost.build(load_results(runs_dir)).xs("digits", axis=1).map(cell_text)

    columns = ["ms a step", "to adamw", "s set-up", "to adamw with it"]
    found = {
        name: texts.loc[(name, "tuned", "unknown"), columns].tolist()
        for name in texts.index.levels[0]
    }
    assert found["muon"] == ["50", "0.5", "5", "0.833"]
    assert found["adamw"] == ["100", "1", "2", "1"]
    assert found["sgd"] == ["50", "0.5", "", ""]  # a record that does not tell


def test_the_form_of_a_step_stands_beside_its_time(write_run: Any, runs_dir: Path) -> None:
    """Seeds of one method may have been run in several; a record of before does not tell."""
    said = {"adamw": ("fused", "plain", None), "soap": ("plain",), "sgd": (None,)}
    for method, forms in said.items():
        for seed, form in enumerate(forms):
            folder = write_run(method, seed)
            with_costs(folder, step=100, seconds=1.0, peak=1, state=1)
            status = json.loads((folder / "status.json").read_text())
            status["summary"] |= {} if form is None else {"form": form}
            (folder / "status.json").write_text(json.dumps(status))
    with_costs(write_run("sgd", task="mnist"), step=100, seconds=9.0, peak=1, state=1)

    table = cost.build(load_results(runs_dir))

    found = {name: table.loc[(name, "tuned", "unknown"), ("digits", "form")] for name in said}
    assert {name: cell.text for name, cell in found.items()} == {
        "adamw": "fused; plain",
        "soap": "plain",
        "sgd": "",
    }
    assert found["adamw"].values["n"] == 2
    assert ("mnist", "form") not in table.columns


def test_a_run_that_failed_has_no_cost(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", status="failed")
    with_costs(write_run("sgd"), step=0, seconds=0.0, peak=1, state=1)
    table = cost.build(load_results(runs_dir))
    assert table.loc[("adam", "tuned", "unknown")].map(cell_text).tolist() == [""] * 4
    assert table.loc[("sgd", "tuned", "unknown")].map(cell_text).tolist()[0] == ""


def test_coverage_counts_seeds_against_the_most_of_the_block(
    write_run: Any, runs_dir: Path
) -> None:
    for seed in range(3):
        write_run("adam", seed)
    write_run("sgd", 0)
    write_run("sgd", 1, status="diverged")
    write_run("kfac", 0, task="mnist")

    table = coverage.build(load_results(runs_dir)).map(cell_text)

    assert table.loc[("adam", "tuned", "unknown")].tolist() == ["3/3", "none"]
    assert table.loc[("sgd", "tuned", "unknown")].tolist() == ["1/3, diverged 1/3", "none"]
    assert table.loc[("kfac", "tuned", "unknown")].tolist() == ["none", "1/1"]


def test_coverage_tells_of_weights_that_a_method_left_alone(write_run: Any, runs_dir: Path) -> None:
    write_run("kfac", 0, summary={"left_alone_percent": 51.2})
    write_run("shampoo", 0, summary={"left_alone_percent": 0.9})
    write_run("adam", 0)

    table = coverage.build(load_results(runs_dir)).map(cell_text)

    found = {name: table.loc[(name, "tuned", "unknown")].item() for name in table.index.levels[0]}
    left = "1/1, 51 % of the weights left alone"
    assert found == {"kfac": left, "shampoo": "1/1", "adam": "1/1"}


def test_tuning_effort_says_what_stands_behind_a_number(write_run: Any, runs_dir: Path) -> None:
    tuning = {"trials": 8, "seeds": [1000, 1001], "budget": "2 epochs", "on_edge": ["lr"]}
    tuning |= {"space": {"lr": "1e-3 to 1 (log)"}, "completed": 7, "diverged": 1}
    write_run("adam", tuning=tuning)
    write_run("sgd", ruleset="paper")
    write_run("muon", tuning={**tuning, "score": "mean over seeds", "choose": "loss"})

    table = tuning_effort.build(load_results(runs_dir))

    adam, sgd = (
        table.loc[("digits", "adam", "tuned")],
        table.loc[("digits", "sgd", "paper")],
    )
    assert adam["effort"] == "8 trials x 2 epochs x 2 seeds, edge"
    assert (adam["space"], adam["on_edge"]) == ("lr: 1e-3 to 1 (log)", "lr")
    assert (adam["completed"], adam["diverged"]) == (7, 1)
    assert (sgd["effort"], sgd["trials"]) == ("not tuned here", "")
    muon = table.loc[("digits", "muon", "tuned")]
    assert muon["effort"] == "8 trials x 2 epochs x 2 seeds, by loss, mean over seeds, edge"


def test_tuning_effort_tells_of_trials_that_were_stopped(write_run: Any, runs_dir: Path) -> None:
    tuning = {"trials": 16, "seeds": [1, 2], "budget": "2 epochs", "completed": 4, "pruned": 12}
    write_run("adam", tuning={**tuning, "pruner": "halving", "choose": "loss"})
    row = tuning_effort.build(load_results(runs_dir)).iloc[0]
    assert row["effort"] == "16 trials x 2 epochs x 2 seeds, pruner halving, by loss"
    assert (row["completed"], row["pruned"], row["pruner"]) == (4, 12, "halving")


def test_tuning_effort_tells_of_trials_that_failed(write_run: Any, runs_dir: Path) -> None:
    tuning = {"trials": 8, "seeds": [1, 2], "budget": "2 epochs", "completed": 1, "diverged": 0}
    write_run("adam", tuning={**tuning, "failed": 7})
    row = tuning_effort.build(load_results(runs_dir)).iloc[0]
    assert row["effort"] == "1 of 8 trials x 2 epochs x 2 seeds"
    assert (row["trials"], row["completed"], row["failed"]) == (8, 1, 7)


@pytest.mark.parametrize(
    ("seeds", "on_edge", "count"),
    [
        ([1000], ["lr"], "8, edge, 1 seed"),
        ([1000], [], "8, 1 seed"),
        ([1000, 1001, 1002], ["lr"], "8 x 3 seeds, edge"),
        ([1000, 1001, 1002], [], "8 x 3 seeds"),
    ],
)
def test_an_accident_of_tuning_is_marked_beside_every_number(
    write_run: Any, runs_dir: Path, seeds: list[int], on_edge: list[str], count: str
) -> None:
    tuning = {"trials": 8, "seeds": seeds, "budget": "2 epochs", "on_edge": on_edge}
    for optimizer in ("adam", "sgd"):
        for seed in (0, 1):
            write_run(optimizer, seed, tuning=tuning)
    loaded = load_results(runs_dir)
    for table in (results, cost, coverage):
        assert {trials for *_, trials in table.build(loaded).index} == {count}, table.__name__
    told = count.replace("8 x 3 seeds", "8 trials of 3 seeds").replace("8,", "8 trials,")
    assert set(comparison.build(loaded)["tuning"]) == {f"tuned, {told}"}
    marks = count.removeprefix("8 x 3 seeds").removeprefix("8")
    assert all(text.endswith(marks) for text in tuning_effort.build(loaded)["effort"])


def test_one_method_of_two_that_is_marked_is_told_apart(write_run: Any, runs_dir: Path) -> None:
    for optimizer, on_edge in (("adam", []), ("sgd", ["lr"])):
        tuning = {"trials": 8, "seeds": [1, 2], "budget": "2 epochs", "on_edge": on_edge}
        for seed in (0, 1):
            write_run(optimizer, seed, (90.0 + seed,), tuning=tuning)
    row = comparison.build(load_results(runs_dir)).iloc[0]
    assert row["tuning"] == "tuned, 8 trials of 2 seeds; tuned, 8 trials of 2 seeds, edge"
    assert row["outcome"] != "unequal tuning effort"  # a mark is no part of the effort


@pytest.mark.parametrize(
    ("there", "trials"),
    [
        ({"on_edge": ["lr"]}, "8 x 2 seeds, edge on ptb"),
        ({"trials": 16}, "8 x 2 seeds on digits; 16 x 2 seeds on ptb"),
        ({"seeds": [1], "on_edge": ["lr"]}, "8 x 2 seeds on digits; 8, edge, 1 seed on ptb"),
        ({}, "8 x 2 seeds"),
    ],
)
def test_a_method_that_was_tuned_otherwise_on_another_task_keeps_one_row(
    write_run: Any, runs_dir: Path, there: dict[str, Any], trials: str
) -> None:
    here = {"trials": 8, "seeds": [1, 2], "budget": "2 epochs", "on_edge": []}
    write_run("adam", tuning=here)
    write_run("adam", task="ptb", tuning={**here, **there})
    for table in (results, cost, coverage):
        built = table.build(load_results(runs_dir))
        assert built.index.tolist() == [("adam", "tuned", trials)], table.__name__
        assert not built.isin(["not run", "none"]).any(axis=None)


def tuned(trials: int) -> dict[str, Any]:
    return {"trials": trials, "seeds": [1], "budget": "1 epoch"}


def best_of(write_run: Any, runs_dir: Path, *, trials: int = 8, seeds: int = 4) -> Any:
    """Adam is 2 points better than SGD at every seed, and both scatter alike."""
    for seed in range(seeds):
        write_run("adam", seed, (97.0 + 0.1 * seed,), tuning=tuned(8))
        write_run("sgd", seed, (95.0 + 0.1 * seed + 0.01 * (seed % 2),), tuning=tuned(trials))
    return load_results(runs_dir)


def test_the_best_is_bold_where_the_seeds_carry_it(write_run: Any, runs_dir: Path) -> None:
    loaded = best_of(write_run, runs_dir)
    table = results.build(loaded)
    final = table.columns[0]
    assert table.loc[("adam", "tuned", "8, 1 seed"), final].strong
    assert not table.loc[("sgd", "tuned", "8, 1 seed"), final].strong
    row = comparison.build(loaded).loc[("digits", "final", "adam", "sgd")]
    # By scipy: ttest_rel of the same eight numbers.
    adam, sgd = [97.0, 97.1, 97.2, 97.3], [95.0, 95.11, 95.2, 95.31]
    assert row["p"] == pytest.approx(ttest_rel(adam, sgd).pvalue, rel=1e-6)
    assert (row["outcome"], row["n"], row["tuning"]) == ("better", 4, "tuned, 8 trials, 1 seed")


@pytest.mark.parametrize(
    ("options", "outcome"),
    [({"trials": 7}, "unequal tuning effort"), ({"seeds": 1}, "inconclusive")],
    ids=["less effort for the loser", "one seed"],
)
def test_nothing_is_bold_that_is_not_carried(
    write_run: Any, runs_dir: Path, options: dict[str, int], outcome: str
) -> None:
    loaded = best_of(write_run, runs_dir, **options)
    cells = results.build(loaded).to_numpy().ravel()
    assert not any(cell.strong for cell in cells)
    made = comparison.build(loaded)
    assert made["outcome"].str.startswith(outcome).all()
    if "trials" in options:
        assert set(made["tuning"]) == {"tuned, 8 trials, 1 seed; tuned, 7 trials, 1 seed"}
        assert {trials for *_, trials in results.build(loaded).index} == {"7, 1 seed", "8, 1 seed"}


ONE_IMAGE_APART = Path(__file__).parent / "one_image_apart"
"""Records of three seeds of kfac and of adafisherw_released on digits, 359 test images."""


def test_one_image_more_in_each_seed_is_not_better() -> None:
    """Equal differences that differ by 1e-14 were once p = 2.9e-28, and bold."""
    loaded = load_results(ONE_IMAGE_APART)
    counts = loaded.runs.pivot_table(index="seed", columns="optimizer", values="best_test") * 3.59
    assert (counts["kfac"] - counts["adafisherw_released"]).round(9).tolist() == [1, 1, 1]
    made = comparison.build(loaded).xs("best_test", level="result")
    assert made["outcome"].tolist() == ["inconclusive"]
    assert made["p"].tolist() == [None]
    assert made["why"].tolist() == ["all differences are equal"]
    assert not any(cell.strong for cell in results.build(loaded).to_numpy().ravel())


def test_one_method_alone_is_compared_with_nothing(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")
    assert comparison.build(load_results(runs_dir)).empty


PUBLISHED = {2: 94, 3: 6, 4: 48, 5: 7, 6: 4}  # rows of analysis/published/published.csv by table


@pytest.mark.parametrize("number", PUBLISHED)
def test_a_published_table_has_every_published_number(number: int, tmp_path: Path) -> None:
    (name,) = (name for name in names_of(analysis.tables) if name.startswith(f"table{number}_"))
    table = __import__(f"analysis.tables.{name}", fromlist=["build"]).build(load_results(tmp_path))
    cells = [cell for cell in table.to_numpy().ravel() if cell.text]
    assert len(cells) == PUBLISHED[number]
    assert all(" / not " in cell.text for cell in cells)  # run, or comparable


def test_every_published_row_has_a_verdict_and_its_rule_is_in_the_caption(tmp_path: Path) -> None:
    table = published_vs_reproduced.build(load_results(tmp_path))
    assert len(table) == sum(PUBLISHED.values()) == 159
    first = table.iloc[0]
    assert first["published"] == "95.64"
    assert first["verdict"].startswith("not run (python -m experiments.train")
    (tmp_path / "no").mkdir()
    arguments = ["--runs", str(tmp_path / "no"), "--out", str(tmp_path), "--tables-only"]
    assert report.main([*arguments, "--only", "published_vs_reproduced"]) == 0
    text = (tmp_path / "tables" / "published_vs_reproduced.md").read_text("utf-8")
    assert "Not comparable: there are runs, but of other data" in text
    head, *_ = (line for line in text.splitlines() if line.startswith("| table"))
    assert "published_n" not in head
    csv = (tmp_path / "tables" / "published_vs_reproduced.csv").read_text("utf-8")
    assert "published_n" in csv.splitlines()[0]
    assert len(csv.splitlines()) == 160


def test_budgets_and_rates_are_those_of_the_paper_with_their_sources() -> None:
    table = table8_budgets.build(load_results(Path("none")))
    # The paper's Table 8: AdaFisher 200, Adam 210; the others are of the released configurations.
    epochs = table["cifar epochs"]
    assert (epochs["adafisher_released"], epochs["adam"], epochs["kfac"]) == (200, 210, 107)
    assert (epochs["adahessian"], epochs["shampoo"]) == (89, 36)
    assert table.loc["adam", "cifar source"] == "Table 8"
    rates = table9_learning_rates.build(load_results(Path("none")))
    assert rates.loc["adafisher_released", ("paper", "cnn")].values["lr"] == 1e-3
    assert rates.loc["adamw", ("paper", "lm")].text == "1e-05"
    assert rates.loc["adam", ("paper", "lm")].text == "none"


def test_tuned_rates_are_those_of_the_methods_rows(write_run: Any, runs_dir: Path) -> None:
    origin = {"command": [], "setting": {}, "typed": {}, "ruleset_file": None, "experiment": None}
    protocol = {"task": {"name": "digits"}, "budget": {"epochs": 2}}
    facts = {"protocol": protocol, "origin": origin}
    write_run("adam", hyperparameters={"lr": 0.5}, **facts)
    write_run(
        "adam",
        1,
        hyperparameters={"lr": 0.25},
        **{**facts, "origin": {**origin, "typed": {"lr": 0.25}}},
    )
    write_run("sgd", ruleset="default", hyperparameters={"lr": 0.1}, **facts)
    file = {"path": "tuned/digits/w16/adam.yaml", "sha256": "0" * 64}
    wide = {**facts, "protocol": {**protocol, "model": {"name": "wide"}}}
    made = {**wide, "origin": {**origin, "ruleset_file": file}}
    write_run("adam", hyperparameters={"lr": 0.125}, **made)
    rates = table9_learning_rates.build(load_results(runs_dir))
    assert rates.loc["adam", ("tuned", "digits")].text == "0.5"
    assert rates.loc["adam", ("tuned", "digits, tuned=w16")].text == "0.125"
    assert rates.loc["sgd", ("tuned", "digits")].text == "none"


def test_without_runs_every_table_is_written_and_says_what_makes_it(tmp_path: Path) -> None:
    runs, out = tmp_path / "no", tmp_path / "out"
    runs.mkdir()
    assert report.main(["--runs", str(runs), "--out", str(out), "--tables-only"]) == 0
    names = {module.name for module in pkgutil.iter_modules(analysis.tables.__path__)}
    written = {path.name for path in (out / "tables").iterdir()}
    assert written == {f"{name}.{form}" for name in names for form in FORMATS}
    for name in ("results", "cost", "coverage", "tuning_effort"):
        for form in FORMATS:
            assert "make " in (out / "tables" / f"{name}.{form}").read_text("utf-8")


@pytest.mark.parametrize("name", ["results", "cost", "coverage"])
def test_each_number_of_a_grid_names_its_runs(name: str, write_run: Any, runs_dir: Path) -> None:
    known = {"command": ["task=digits"], "setting": {}, "typed": {}}
    write_run("adam", run_id="first", origin=known, protocol={"budget": {"epochs": 2}})
    module = __import__(f"analysis.tables.{name}", fromlist=["build"])
    cell = module.build(load_results(runs_dir)).iloc[0, 0]
    assert cell.source["run_ids"] == "first"
    assert cell.source["group_id"].startswith("digits-small_cnn-adam")
    assert cell.source["command"] == "python -m experiments.train task=digits seed=0"
    assert MISSING not in cell.source


def test_the_share_of_damping_over_training_and_layers(write_run: Any, runs_dir: Path) -> None:
    shares = {0: (0.1, 0.5, 0.9), 1: (0.2, 0.5, 1.0)}  # of a seed, at three evaluations
    for seed, values in shares.items():
        rows = [
            {"step": step, "epoch": step, "train_seconds": step, "curvature_damping_share": share}
            | {f"curvature_damping_share/{name}": share * k for name, k in (("a", 1), ("b", 0.5))}
            for step, share in enumerate(values, start=1)
        ]
        write_run("adafisher", seed, rows=rows)
    write_run("adam", 0)

    table = damping_share.build(load_results(runs_dir)).loc["digits", "adafisher"]

    assert table["share (%)"].tolist() == pytest.approx([15.0, 50.0, 95.0])
    assert table["n"].tolist() == [2, 2, 2]
    expected = ttest_1samp([90.0, 100.0], 0.0).confidence_interval(0.95)
    last = table.loc["last"]
    assert (last["low"], last["high"]) == pytest.approx((expected.low, expected.high))
    assert (last["least"], last["most"]) == ("47.5 (b)", "95.0 (a)")


def test_a_folder_that_tells_of_no_damping_says_what_would(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")
    table = damping_share.build(load_results(runs_dir))
    assert table.empty
    assert "curvature_by_layer=true" in table.attrs[MISSING].command
