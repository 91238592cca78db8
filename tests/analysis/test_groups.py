import shlex
from pathlib import Path
from typing import Any

from analysis.groups import group_runs
from analysis.load import load_results


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


def test_groups_of_one_optimizer_are_told_apart_by_what_differs(
    write_run: Any, runs_dir: Path
) -> None:
    for lr in (0.01, 0.001):
        write_run("adam", hyperparameters={"lr": lr, "betas": [0.9, 0.999]})
    write_run("sgd", hyperparameters={"lr": 0.5})

    assert labels(runs_dir) == ["adam (lr=0.001)", "adam (lr=0.01)", "sgd"]


def test_a_list_that_differs_is_written_out(write_run: Any, runs_dir: Path) -> None:
    for beta in (0.8, 0.9):
        write_run("adam", hyperparameters={"betas": [beta, 0.999], "amsgrad": False})

    assert labels(runs_dir) == ["adam (betas=[0.8,0.999])", "adam (betas=[0.9,0.999])"]


def test_batch_size_and_schedule_tell_groups_apart_too(write_run: Any, runs_dir: Path) -> None:
    for size in (32, 64):
        write_run("adam", group_id=f"g{size}", batch_size=size, schedule="cosine")

    groups = group_runs(load_results(runs_dir).runs)

    assert groups["label"].tolist() == ["adam (batch_size=32)", "adam (batch_size=64)"]
    for size, command in zip((32, 64), groups["command"], strict=True):
        assert f" schedule=cosine task.batch_size={size} " in command


def test_rulesets_are_no_hyperparameters(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", ruleset="default", hyperparameters={"lr": 0.1})
    write_run("adam", ruleset="tuned", hyperparameters={"lr": 0.2})

    assert labels(runs_dir) == ["adam", "adam"]


def test_what_differs_outside_the_optimizer_shows_by_id(write_run: Any, runs_dir: Path) -> None:
    write_run("adam", group_id="aaaaaaaaaaaa")
    write_run("adam", group_id="bbbbbbbbbbbb")

    assert labels(runs_dir) == ["adam [aaaaaa]", "adam [bbbbbb]"]


def test_model_and_budget_are_shown_where_a_task_has_several(
    write_run: Any, runs_dir: Path
) -> None:
    write_run(budget="2 epochs")
    write_run(budget="30 steps")
    write_run(task="mnist", model="small_cnn")
    write_run(task="mnist", model="resnet18")
    write_run(task="ptb")

    assert group_runs(load_results(runs_dir).runs)["title"].tolist() == [
        "digits, 2 epochs",
        "digits, 30 steps",
        "mnist, resnet18",
        "mnist, small_cnn",
        "ptb",
    ]


def test_seeds_of_another_budget_are_not_expected(write_run: Any, runs_dir: Path) -> None:
    for seed in range(3):
        write_run(seed=seed, budget="2 epochs")
    write_run(budget="30 steps")

    assert group_runs(load_results(runs_dir).runs)["expected"].tolist() == [3, 1]


def test_the_command_holds_every_choice_and_survives_a_shell(
    write_run: Any, runs_dir: Path
) -> None:
    for seed in (0, 1):
        write_run(
            "adam",
            seed,
            budget="30 steps",
            hyperparameters={"lr": 1e-05, "betas": [0.9, 0.999], "foreach": None, "amsgrad": False},
        )

    (command,) = group_runs(load_results(runs_dir).runs)["command"]

    assert shlex.split(command) == [
        "python",
        "-m",
        "experiments.train",
        "-m",
        "task=digits",
        "model=small_cnn",
        "optimizer=adam",
        "ruleset=tuned",
        "budget=steps",
        "budget.steps=30",
        "optimizer.amsgrad=false",
        "optimizer.betas=[0.9,0.999]",
        "optimizer.foreach=null",
        "optimizer.lr=1e-05",
        "seed=0,1",
    ]


def test_one_epoch_is_a_budget_in_epochs(write_run: Any, runs_dir: Path) -> None:
    write_run(budget="1 epoch")

    (command,) = group_runs(load_results(runs_dir).runs)["command"]

    assert {"budget=epochs", "budget.epochs=1"} <= set(shlex.split(command))


def test_tokenizations_are_blocks_of_their_own(write_run: Any, runs_dir: Path) -> None:
    # A perplexity a token says nothing about another tokenisation's tokens.
    for name in ("word", "bpe vocab_size=300 min_frequency=2"):
        write_run("sgd", task="ptb", tokenization=name, group_id=f"sgd-{name}")
    write_run("sgd")

    groups = group_runs(load_results(runs_dir).runs).set_index("title")

    bpe = "ptb, bpe vocab_size=300 min_frequency=2"
    assert set(groups.index) == {"digits", bpe, "ptb, word"}
    assert groups["label"].tolist() == ["sgd"] * 3
    settings = "tokenization=bpe tokenization.vocab_size=300 tokenization.min_frequency=2"
    assert settings in groups.loc[bpe, "command"]
    assert "tokenization" not in groups.loc["digits", "command"]
