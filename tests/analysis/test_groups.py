import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from analysis.results.answer import answer
from analysis.results.groups import group_runs, rows_of, shown_of, without_row
from analysis.results.load import load_results
from analysis.tables import results as results_table
from experiments.config import grids


def labels(runs_dir: Path) -> list[str]:
    return group_runs(load_results(runs_dir).runs)["label"].tolist()


def test_a_group_is_its_seeds(write_run: Any, runs_dir: Path) -> None:
    for seed in (0, 1, 2):
        write_run("adam", seed)
    for seed in (0, 1):
        write_run("sgd", seed)

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["label"].tolist() == ["adam", "sgd"]
    assert groups["expected"].tolist() == [3, 3]
    assert [len(ids.split()) for ids in groups["run_ids"]] == [3, 2]
    assert groups["title"].tolist() == ["digits", "digits"]


def origin(**changes: Any) -> dict[str, Any]:
    plain = {"command": [], "setting": {}, "typed": {}, "ruleset_file": None, "experiment": None}
    return {**plain, **changes}


PROTOCOL: dict[str, Any] = {"task": {"name": "digits", "batch_size": 64}, "budget": {"epochs": 2}}


def test_a_typed_argument_makes_a_variant_that_is_in_the_way_of_no_row(
    write_run: Any, runs_dir: Path
) -> None:
    for lr, typed in ((0.01, {}), (0.1, {"lr": 0.1}), (1.0, {"lr": 1.0})):
        write_run("adam", protocol=PROTOCOL, origin=origin(typed=typed), hyperparameters={"lr": lr})

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["label"].tolist() == ["adam", "adam (lr=0.1)", "adam (lr=1)"]
    assert groups["is_row"].tolist() == [True, False, False]
    assert set(groups["title"]) == {"digits"}


def test_a_variant_alone_says_what_was_typed_and_is_no_row(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", protocol=PROTOCOL, origin=origin(typed={"betas": [0.8, 0.999]}))

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["label"].tolist() == ["adam (betas=[0.8,0.999])"]
    assert without_row(groups)["label"].tolist() == ["adam"]
    assert rows_of(groups).empty
    assert len(shown_of(groups)) == 1


@pytest.mark.parametrize("now", ["the first", "the second", "neither"])
def test_of_two_tuned_files_the_one_that_is_there_now_is_the_row(
    write_run: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, now: str
) -> None:
    monkeypatch.setattr("analysis.results.groups.CONF", tmp_path)
    (tmp_path / "adam.yaml").write_text(now)
    for text, lr in (("the first", 0.1), ("the second", 0.2)):
        file = {"path": "adam.yaml", "sha256": hashlib.sha256(text.encode()).hexdigest()}
        known = origin(ruleset_file=file)
        write_run("adam", protocol=PROTOCOL, origin=known, hyperparameters={"lr": lr})

    groups = group_runs(load_results(runs_dir).runs)

    rows = [values["lr"] for values in rows_of(groups)["hyperparameters"]]
    assert rows == {"the first": [0.1], "the second": [0.2], "neither": []}[now]
    assert len(groups) == 2


def test_of_records_without_an_origin_the_tuned_values_make_the_row(
    write_run: Any, runs_dir: Path
) -> None:
    for lr in (0.01, 0.1, 1.0):
        tuning = {"trials": 8, "chosen": {"lr": 0.1}}
        write_run("adam", hyperparameters={"lr": lr}, tuning=tuning)

    groups = group_runs(load_results(runs_dir).runs).set_index("label")

    assert groups["is_row"].to_dict() == {
        "adam": True,
        "adam (lr=0.01)": False,
        "adam (lr=1)": False,
    }


def test_a_method_that_was_tuned_twice_has_two_rows(write_run: Any, runs_dir: Path) -> None:
    """Of the rate alone, as all others, and of rate and damping: each is what its ruleset gives."""
    for name, setting, lr in (
        *(("adam", "study", 0.1), ("sgd", "study", 0.2), ("soap", "study", 0.3)),
        *(("adam", "damping", 0.4), ("soap", "", 0.5)),
    ):
        file = {
            "path": f"tuned/digits/{setting}/{name}.yaml".replace("//", "/"),
            "sha256": "0" * 64,
        }
        made = {**origin(command=[]), "ruleset_file": file}
        write_run(name, hyperparameters={"lr": lr}, protocol=PROTOCOL, origin=made)

    groups = group_runs(load_results(runs_dir).runs).set_index("label")

    assert groups["is_row"].to_dict() == dict.fromkeys(
        ["adam", "adam (tuned=damping)", "sgd", "soap", "soap (tuned=.)"], True
    )
    assert groups.loc["adam", "hyperparameters"] == {"lr": 0.1}
    assert groups.loc["soap (tuned=.)", "hyperparameters"] == {"lr": 0.5}
    assert groups["tuned"].tolist() == ["study", "damping", "study", "study", ""]


def tuned_by(setting: str, name: str, **told: Any) -> dict[str, Any]:
    file = {"path": f"tuned/digits/{setting}/{name}.yaml", "sha256": "0" * 64}
    return {**origin(command=[], **told), "ruleset_file": file}


def test_one_name_is_one_tuning_in_all_blocks(write_run: Any, runs_dir: Path) -> None:
    """Also where most of a block have the other one; one that stands alone needs no name."""
    for task, methods in (
        ("digits", {"adam": "study", "sgd": "study", "soap": "study"}),
        ("mnist", {"adam": "damping", "sgd": "damping", "soap": "study"}),
        ("ptb", {"adam": "w16", "sgd": "w16"}),
    ):
        for name, setting in methods.items():
            write_run(
                name,
                task=task,
                protocol={**PROTOCOL, "task": {"name": task}},
                origin=tuned_by(setting, name),
            )
    labels = group_runs(load_results(runs_dir).runs).groupby("task")["label"].agg(list).to_dict()
    assert labels == {
        "digits": ["adam", "sgd", "soap"],
        "mnist": ["adam (tuned=damping)", "sgd (tuned=damping)", "soap"],
        "ptb": ["adam", "sgd"],
    }


@pytest.mark.parametrize(
    ("of", "line"),
    [
        ({"setting": "damping"}, "adam (tuned=damping)"),
        ({"control": "scalar"}, "adam (scalar control)"),
    ],
)
def test_variants_take_no_row_of_another_method(
    write_run: Any, runs_dir: Path, of: dict[str, str], line: str
) -> None:
    """A typed value beside another tuning, or a control, leaves the number of the method alone."""
    for name in ("adam", "sgd"):
        write_run(name, values=(95.0,), protocol=PROTOCOL, origin=tuned_by("study", name))
    made = tuned_by(of.get("setting", "study"), "adam", typed={"lr": 0.4})
    write_run(
        "adam",
        values=(50.0,),
        protocol=PROTOCOL,
        origin=made,
        control=of.get("control"),
        hyperparameters={"lr": 0.4},
    )
    built = results_table.build(load_results(runs_dir))
    cells = dict(zip(built.index.get_level_values(0), built.iloc[:, 0], strict=True))
    assert (cells["adam"].mean, cells[line].text) == (95.0, "variants only")


def test_versions_of_a_method_of_ones_own_are_said_to_be_several(
    write_run: Any, runs_dir: Path
) -> None:
    """As of a file that was edited between two sweeps: it did run, and the other is not alone."""
    for at, value in enumerate((94.0, 95.0)):
        own = {"group_id": f"g{at}", "protocol": PROTOCOL, "origin": origin()}
        write_run("mine.MySGD", values=(value,), run_id=f"r{at}", **own)
    write_run("adamw", values=(90.0,), protocol=PROTOCOL, origin=origin())
    results = load_results(runs_dir)
    built = results_table.build(results)
    cells = dict(zip(built.index.get_level_values(0), built.iloc[:, 0], strict=True))
    assert cells["mine.MySGD"].text == "2 versions"
    (sentence,) = answer(results).sentences
    assert sentence.endswith("Left out: mine.MySGD, run in several versions.")


def test_where_nothing_tells_the_row_all_are_variants(write_run: Any, runs_dir: Path) -> None:
    """A choice among them after seeing the results would be a choice on the test set."""
    for lr in (0.01, 0.001):
        write_run("adam", hyperparameters={"lr": lr, "betas": [0.9, 0.999]})
    write_run("sgd", hyperparameters={"lr": 0.5})

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["label"].tolist() == ["adam (lr=0.001)", "adam (lr=0.01)", "sgd"]
    assert groups["is_row"].tolist() == [False, False, True]


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the default": ({}, {}, "digits"),
    "batch size": ({"task": {"batch_size": 16}}, {"task.batch_size": 16}, "digits, batch_size=16"),
    "precision": ({"precision": "bf16"}, {"precision": "bf16"}, "digits, precision=bf16"),
    "width": ({"model": {"width": 8}}, {"model.width": 8}, "digits, small_cnn width=8"),
    "a subset": (
        {"task": {"train_limit": 6000}},
        {"task.train_limit": 6000},
        "digits, 6,000 images",
    ),
    "a model, its width, a subset": (
        {"model": {"name": "vit", "width": 8}, "task": {"train_limit": 6000}},
        {"model": "vit", "task.train_limit": 6000, "model.width": 8, "model.stem": 2},
        "digits, small_cnn width=8 stem=2, 6,000 images",
    ),
    "budget": ({"budget": {"epochs": 5}}, {"budget.epochs": 5}, "digits, 2 epochs"),
    "schedule": ({"schedule": {"name": "x"}}, {"schedule": "x"}, "digits, schedule=x"),
    "model": ({"model": {"name": "vit"}}, {"model": "vit"}, "digits, small_cnn"),
    "a table of budgets": (
        {"budget": {"epochs": 7, "by_optimizer": {"adam": 7, "sgd": 9}}},
        {"budget": "paper_cifar"},
        "digits, budget=paper_cifar",
    ),
}


@pytest.mark.parametrize(("protocol", "changes", "title"), SETTINGS.values(), ids=SETTINGS.keys())
def test_each_setting_is_a_block_named_by_what_is_not_the_tasks_default(
    write_run: Any, runs_dir: Path, protocol: Any, changes: Any, title: str
) -> None:
    write_run("adam", protocol=PROTOCOL, origin=origin(), group_id="plain")
    write_run("adam", 1, protocol={**PROTOCOL, **protocol}, origin=origin(setting=changes))

    groups = group_runs(load_results(runs_dir).runs)

    assert set(groups["title"]) == {"digits", title}
    assert groups["is_row"].all() == (title != "digits")
    assert groups["expected"].tolist() == ([1, 1] if changes else [2, 2])


def test_a_budget_that_is_a_table_by_methods_is_one_setting(write_run: Any, runs_dir: Path) -> None:
    table = {"adam": 7, "sgd": 9}
    for name, epochs in table.items():
        protocol = {**PROTOCOL, "budget": {"epochs": epochs, "by_optimizer": table}}
        known = origin(setting={"budget": "paper_cifar"})
        write_run(name, protocol=protocol, origin=known, budget=f"{epochs} epochs")

    assert group_runs(load_results(runs_dir).runs)["block"].nunique() == 1


def test_steps_of_one_calibration_are_one_setting_that_says_so(
    write_run: Any, runs_dir: Path
) -> None:
    words = "equal time (9 steps of sgd, timed 2026-11-29 on M1)"
    for date, methods in {"2026-11-29": {"adam": 7, "sgd": 9}, "2026-11-30": {"adam": 8}}.items():
        by = {"reference": "sgd", "reference_steps": 9, "date": date, "machine": "M1"}
        for name, steps in methods.items():
            protocol = {**PROTOCOL, "budget": {"steps": steps, "calibration": by}}
            known = origin(setting={"budget": "equal", "budget.steps": steps})
            said = words.replace("2026-11-29", date)
            write_run(name, protocol=protocol, origin=known, budget=said, group_id=f"{name}{date}")

    runs = load_results(runs_dir).runs
    groups = group_runs(runs)

    blocks = groups.groupby("title")["optimizer"].apply(sorted).to_dict()
    assert blocks == {
        f"digits, {words}": ["adam", "sgd"],
        f"digits, {words.replace('29', '30')}": ["adam"],
    }
    of_one_day = runs[runs["budget"] == words]
    assert set(group_runs(of_one_day)["title"]) == {"digits, equal time (9 steps of sgd)"}


def test_a_record_without_a_protocol_is_no_run_of_a_recorded_setting(
    write_run: Any, runs_dir: Path
) -> None:
    write_run("adam", protocol=PROTOCOL, origin=origin())
    write_run("sgd")

    titles = group_runs(load_results(runs_dir).runs)["title"].tolist()

    assert titles == ["digits", "digits, protocol not recorded"]


def test_batch_size_and_schedule_are_settings_of_older_records_too(
    write_run: Any, runs_dir: Path
) -> None:
    for seed, size in enumerate((64, 64, 32)):
        write_run("adam", seed, group_id=f"g{size}", batch_size=size, schedule="cosine")

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["title"].tolist() == ["digits", "digits, batch_size=32"]
    assert groups["label"].tolist() == ["adam", "adam"]


def test_rulesets_are_no_hyperparameters(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", ruleset="default", hyperparameters={"lr": 0.1})
    write_run("adam", ruleset="tuned", hyperparameters={"lr": 0.2})

    assert labels(runs_dir) == ["adam", "adam"]


def test_what_differs_outside_the_optimizer_shows_by_id(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", group_id="aaaaaaaaaaaa")
    write_run("adam", group_id="bbbbbbbbbbbb")

    assert labels(runs_dir) == ["adam [aaaaaa]", "adam [bbbbbb]"]


def test_older_records_are_named_by_what_differs_from_the_setting_with_most_runs(
    write_run: Any, runs_dir: Path
) -> None:
    write_run(budget="2 epochs")
    write_run("sgd", budget="2 epochs")
    write_run(budget="30 steps")
    write_run(task="ptb")

    assert group_runs(load_results(runs_dir).runs)["title"].tolist() == [
        "digits",
        "digits",
        "digits, 30 steps",
        "ptb",
    ]


def test_seeds_of_another_budget_are_not_expected(write_run: Any, runs_dir: Path) -> None:
    for seed in range(3):
        write_run(seed=seed, budget="2 epochs")
    write_run(budget="30 steps")

    assert group_runs(load_results(runs_dir).runs)["expected"].tolist() == [3, 1]


def test_the_command_is_the_recorded_one_and_survives_a_shell(
    write_run: Any, runs_dir: Path
) -> None:
    typed = ["task=digits", "optimizer=adam", "model.width=8", 'pretrained.source="a b"']
    for seed in (0, 1):
        write_run("adam", seed, protocol=PROTOCOL, origin=origin(command=typed))

    (command,) = group_runs(load_results(runs_dir).runs)["command"]

    start = ["python", "-m", "experiments.train", "-m"]
    assert shlex.split(command) == [*start, *typed, "seed=0,1"]


def test_the_command_of_runs_of_an_experiment_runs_nothing_else_of_it(
    write_run: Any, runs_dir: Path
) -> None:
    typed = ["experiment=schedules", "task=digits", "optimizer=adam", "ruleset=tuned"]
    write_run("adam", protocol=PROTOCOL, origin=origin(command=typed))

    (command,) = group_runs(load_results(runs_dir).runs)["command"]

    start = ["python", "-m", "experiments.train"]
    assert shlex.split(command) == [*start, *typed, grids.NONE, "seed=0"]
    grids.check_single([*typed, grids.NONE])


def test_the_command_of_an_older_record_is_not_made_up(write_run: Any, runs_dir: Path) -> None:
    write_run("adam")

    assert group_runs(load_results(runs_dir).runs)["command"].tolist() == [""]


def test_tokenizations_are_blocks_of_their_own(write_run: Any, runs_dir: Path) -> None:
    # A perplexity a token says nothing about another tokenisation's tokens.
    for name in ("word", "bpe vocab_size=300 min_frequency=2"):
        write_run("sgd", task="ptb", tokenization=name, group_id=f"sgd-{name}")
    write_run("sgd")

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["block"].nunique() == 3
    assert groups["label"].tolist() == ["sgd"] * 3
