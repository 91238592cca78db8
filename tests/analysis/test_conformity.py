"""Runs of a published experiment with a value typed, as Hydra composes and records them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.published.verdict import verdicts
from analysis.results.load import load_results
from experiments.config import commandline, compose, compositions, identity, origin

ROW = ["experiment=table2_cifar10", "model=resnet18_released", "optimizer=adam"]
TASK = SimpleNamespace(
    metric="accuracy_percent",
    higher_is_better=True,
    unit="images",
    units={"accuracy_percent": "%"},
    validation=None,
)
VALUES = (94.9, 94.85, 94.8)  # the row has 94.85
TYPED = {
    "no Cutout": (["task.cutout_size=0"], "cutout_size 0, not 16"),
    "no augmentation": (
        ["task.cutout_size=0", "task.crop_padding=0", "task.flip=false"],
        "crop_padding 0, not 4, flip false, not true, cutout_size 0, not 16",
    ),
    "a schedule per step": (["schedule.per=step"], "per step, not epoch"),
    "a cosine that is cut off": (["schedule.horizon_epochs=400"], "horizon_epochs 400, not null"),
    "ImageNet's stem": (["model.stem=imagenet"], "stem imagenet, not cifar"),
    "eps": (["optimizer.eps=1e-3"], "eps 0.001, not 1e-08"),
}


def described(*typed: str) -> dict[str, Any]:
    job = [*typed, "seed=0"]
    config = compose.resolve(compositions.of(job))
    config = config.having(origin=origin.of(config, job))
    return identity.describe(config, TASK)


@pytest.fixture
def seeds(write_run: Any) -> Callable[[dict[str, Any]], None]:
    def write(facts: dict[str, Any]) -> None:
        facts = {key: value for key, value in facts.items() if key != "seed"}
        for seed, value in enumerate(VALUES):
            write_run(seed=seed, values=(value - 9, value, value - 1), **facts)

    return write


def verdict(runs_dir: Path) -> str:
    names = ("cifar10", "resnet18", "scratch", "adam")
    made = verdicts(load_results(runs_dir))
    (row,) = [r for r in made.itertuples() if (r.dataset, r.model, r.setting, r.optimizer) == names]
    return str(row.verdict)


@pytest.mark.parametrize(("typed", "said"), TYPED.values(), ids=list(TYPED.keys()))
def test_what_was_typed_is_named(seeds: Any, runs_dir: Path, typed: list[str], said: str) -> None:
    seeds(described(*ROW, *typed))
    assert verdict(runs_dir) == f"not comparable (protocol: {said})"


def test_a_row_is_judged_by_the_best_on_test_only_where_all_epochs_were_looked_at(
    seeds: Any, runs_dir: Path
) -> None:
    """As they were where no validation split tells which is the best."""
    facts = described(*ROW, "evaluate_test=best")
    seeds({**facts, "evaluate_test": "best", "validation": True, "group_id": "cut"})
    assert "test evaluated at the best epoch alone" in verdict(runs_dir)
    seeds(facts)
    assert verdict(runs_dir) == "reproduced"


def test_the_variant_that_fits_keeps_its_verdict_among_all_others(
    seeds: Any, runs_dir: Path
) -> None:
    for typed, _ in TYPED.values():
        seeds(described(*ROW, *typed))
    assert verdict(runs_dir) == "not comparable (protocol: cutout_size 0, not 16)"  # of the fewest
    seeds(described(*ROW))
    assert verdict(runs_dir) == "reproduced"


def test_it_need_not_be_run_as_the_experiment(seeds: Any, runs_dir: Path) -> None:
    seeds(
        described(
            "task=cifar10",
            "model=resnet18_released",
            "optimizer=adam",
            "ruleset=paper",
            "budget.epochs=210",
            "task.validation_fraction=0",
        )
    )
    assert verdict(runs_dir) == "reproduced"


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The experiment with lines of its file replaced."""
    conf = tmp_path / "conf"
    shutil.copytree(commandline.CONF, conf)
    monkeypatch.setattr(commandline, "CONF", conf)
    origin._reference.cache_clear()

    def edit(old: str, new: str) -> None:
        file = conf / "experiment" / "table2_cifar10.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    yield edit
    origin._reference.cache_clear()


def test_an_experiment_that_was_another_when_it_ran_is_named(
    edited: Any, seeds: Any, runs_dir: Path
) -> None:
    edited("task:\n", "task:\n  cutout_size: 0\n")
    seeds(described(*ROW, "task.flip=false"))
    assert verdict(runs_dir) == (
        "not comparable (protocol: flip false, not true; "
        "experiment table2_cifar10 as recorded: cutout_size 0, not 16)"
    )
    seeds(described(*ROW, "task.cutout_size=16"))  # then it is the published one
    assert verdict(runs_dir) == "reproduced"


@pytest.mark.parametrize("seed", ["range(0,5)", "[0, 1]"])
def test_a_report_of_an_experiment_in_any_form_is_made(
    edited: Any, seeds: Any, runs_dir: Path, seed: str
) -> None:
    edited("seed: 0,1,2,3,4", f"seed: {seed}")
    seeds(described(*ROW))
    assert verdict(runs_dir) == "reproduced"
