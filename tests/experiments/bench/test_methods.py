"""The structure of the comparison of methods; times are never asserted."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.bench import suite
from experiments.bench.bench import main
from experiments.bench.problem import Problem
from experiments.config import commandline, compose, named
from experiments.config.run_config import RunConfig
from experiments.config.sections import REFRESH_KEYS, MethodSection
from experiments.errors import UserError
from experiments.records.calibration import Calibration
from experiments.records.outcome import PreparationError
from tests.support.calibrations import made_up

CPU = torch.device("cpu")


@pytest.fixture
def tiny() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return Problem("tiny", model, torch.randn(4, 6), torch.randint(3, (4,)))


def config(method: str, model: str = "gpt_char") -> RunConfig:
    return suite.config_of(model, method, batch=2, device=CPU, threads=1)


def test_memory_is_that_of_the_tensors(tiny: Problem) -> None:
    """AdamW keeps two numbers a parameter and a step number a tensor, SGD one, AdaHessian two."""
    sizes = 6 * 8 + 8 + 8 * 3 + 3
    found = {
        name: suite.memory_of(tiny, config(name).optimizer)
        for name in ("adamw", "sgd", "adahessian")
    }
    assert found["adamw"][0] == 4 * 2 * sizes + 4 * 4
    assert found["sgd"][0] == 4 * sizes
    assert found["adahessian"][0] == 4 * 2 * sizes
    assert found["sgd"][1] < found["adamw"][1] < found["adahessian"][1]


def test_the_memory_of_a_rare_refresh_is_seen(tiny: Problem) -> None:
    rare = config("adafisher_released").optimizer
    often = rare.having(update_interval=1)
    assert rare.refresh_period == 100
    assert suite.memory_of(tiny, rare)[1] == suite.memory_of(tiny, often)[1]


def test_every_refresh_period_is_known() -> None:
    """A method that refreshes rarely, and says so under a new name, would look cheap."""
    words = ("interval", "frequency", "period", "every")
    for name in commandline.choices("optimizer"):
        keys = {key for key in config(name).optimizer.arguments if any(w in key for w in words)}
        assert keys <= set(REFRESH_KEYS), name


@pytest.mark.parametrize(
    ("name", "period"), [("kfac", 10), ("adafisher_released", 100), ("soap", 10), ("adam", 1)]
)
def test_the_period_of_a_method_is_its_interval(name: str, period: int) -> None:
    assert config(name).optimizer.refresh_period == period


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("SOAP", 10),
        ("ScalableShampoo", 1000),
        ("SophiaH", 10),
        ("SPlus", 100),
        ("Conda", 2000),
        ("Alice", 200),
        ("AdamP", 1),
    ],
)
def test_the_period_of_a_librarys_method_is_found(name: str, period: int) -> None:
    pytest.importorskip("pytorch_optimizer")
    words = commandline.normalise([f"optimizer=pytorch_optimizer.{name}"])
    try:
        assert compose.composed(words).optimizer.refresh_period == period
    finally:
        named.forget()


def test_a_method_may_name_its_interval_or_say_that_there_is_none() -> None:
    method = config("kfac").optimizer
    assert dataclasses.replace(method, suite={"refresh": None}).refresh_period == 1
    other = {"rarity": 7, "interval": 10}
    assert MethodSection(other, {"refresh": "rarity"}).refresh_period == 7
    assert MethodSection({"update_proj_gap": 0}, {}).refresh_period == 1
    with pytest.raises(UserError, match=r"suite\.refresh: 'rarty'\. .* Did you mean: rarity\?"):
        _ = MethodSection(other, {"refresh": "rarty"}).refresh_key


def test_the_table_has_a_row_for_each_method_and_says_who_is_missing(
    tiny: Problem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure(configs: Sequence[RunConfig], runs_dir: Path) -> list[Any]:
        assert runs_dir == tmp_path
        assert {one.budget["match_seconds"] for one in configs} == {"adamw"}
        names = [one.optimizer.name for one in configs]
        return [
            PreparationError("calibration: why") if name == "sgd" else made_up(method=name)
            for name in names
        ]

    monkeypatch.setattr(suite, "problem_of", lambda config, device: tiny)
    monkeypatch.setattr(suite.calibration, "measure", measure)
    arguments = ["part=methods", "models=gpt_char", "methods=sgd,adam,soap,muon", "skip=muon"]
    main([*arguments, "quick=true", "device=cpu", f"out={tmp_path}", f"runs_dir={tmp_path}"])
    printed = capsys.readouterr().out
    assert "sgd                   left out: calibration: why" in printed
    assert "muon" not in printed
    written = json.loads((tmp_path / "bench" / "methods.json").read_text("utf-8"))
    left_out, *measured = written["results"]
    assert (left_out["method"], left_out["left_out"]) == ("sgd", "calibration: why")
    assert [(row["method"], row["period"]) for row in measured] == [("adam", 1), ("soap", 10)]
    assert Calibration(**measured[0]["step"]) == made_up()


def test_the_character_model_is_the_one_of_the_study() -> None:
    contest = suite.problem_of(config("adamw"), CPU)
    assert sum(p.numel() for p in contest.model.parameters()) == pytest.approx(0.81e6, rel=0.01)
    assert contest.model(contest.inputs).shape == (2, 64, 65)
    assert contest.targets.shape == (2, 64)


@pytest.mark.slow
def test_the_image_model_is_resnet18_on_cifar_shapes() -> None:
    contest = suite.problem_of(config("adamw", "resnet18"), CPU)
    assert contest.inputs.shape == (2, 3, 32, 32)
    assert sum(p.numel() for p in contest.model.parameters()) == pytest.approx(11.17e6, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=vgg"], "Invalid models: 'vgg'. Must be of resnet18, gpt_char"),
        (["methods=sgd,adm"], "Invalid methods: 'adm'. Must be of adafisher, "),
        (["skip=adm"], "Invalid skip: 'adm'"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["part=methods", *arguments, "device=cpu"])
