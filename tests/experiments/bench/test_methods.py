"""The structure of the comparison of methods; times are never asserted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.bench import suite
from experiments.bench.bench import main
from experiments.bench.interleaved import Contender, Problem, Seconds, measure
from experiments.config import commandline
from experiments.config.sections import Needs
from experiments.errors import UserError


@pytest.fixture
def tiny() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return Problem("tiny", model, torch.randn(4, 6), torch.randint(3, (4,)))


def contender(*whole: float) -> Contender:
    model = nn.Linear(1, 1)
    made = Contender("any", model, torch.optim.SGD(model.parameters(), lr=0.1))
    made.whole = [Seconds(seconds, 10 * seconds) for seconds in whole]
    return made


def test_the_mean_counts_refreshes_and_the_median_hides_them() -> None:
    twin, method = contender(1, 1, 2, 1), contender(2, 2, 4, 8)
    expected = {"mean": 16 / 5, "median": 2.0, "slowest": 8.0}
    for clock in ("wall", "cpu"):
        assert suite.ratios([twin, method], clock, period=4) == expected


def test_a_refresh_beyond_the_measurement_is_charged_by_its_share() -> None:
    contenders = [contender(1, 1), contender(2, 2), contender(7, 7)]
    found = suite.ratios(contenders, "wall", period=100)
    assert found == {"mean": pytest.approx(2.05), "median": 2.0, "slowest": 7.0}


@pytest.mark.parametrize(
    ("name", "steps", "period", "measured", "entrants"),
    [
        ("sgd", 3, 1, 3, 2),
        ("shampoo", 12, 10, 20, 2),  # whole periods
        ("shampoo", 3, 10, 3, 3),  # with and without a refresh
        ("adafisher_released", 2, 100, 2, 3),
        ("adahessian", 2, 1, 2, 2),
        ("kfac", 2, 10, 2, 3),
    ],
)
def test_whole_periods_are_measured(
    tiny: Problem, name: str, steps: int, period: int, measured: int, entrants: int
) -> None:
    row = suite.compare(tiny, suite._method(name), suite._method("adamw"), steps=steps)
    assert (row["method"], row["period"], row["steps"]) == (name, period, measured)
    assert [len(entrant["whole"]) for entrant in row["measured"]] == [measured] * entrants
    json.dumps(row)  # plain data


def test_memory_is_that_of_the_tensors(tiny: Problem) -> None:
    """AdamW keeps two numbers a parameter and a step number a tensor, SGD one, AdaHessian two."""
    adamw = 4 * 2 * (6 * 8 + 8 + 8 * 3 + 3) + 4 * 4
    sgd, adahessian = (
        suite.compare(tiny, suite._method(name), suite._method("adamw"), steps=2)
        for name in ("sgd", "adahessian")
    )
    assert sgd["state_bytes"] == pytest.approx((adamw - 16) / 2 / adamw)
    assert adahessian["state_bytes"] == pytest.approx((adamw - 16) / adamw)
    assert sgd["peak_bytes"] < 1 < adahessian["peak_bytes"]


def test_every_refresh_period_is_known_to_the_benchmark() -> None:
    """A method that refreshes rarely, and says so under a new name, would look cheap."""
    words = ("interval", "frequency", "period", "every")
    for name in commandline.choices("optimizer"):
        keys = {key for key in suite._method(name).arguments if any(word in key for word in words)}
        assert keys <= set(suite.PERIODS), name


def test_a_method_that_evaluates_the_loss_itself_takes_a_closure(tiny: Problem) -> None:
    calls: list[int] = []

    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            calls.append(1)
            with torch.enable_grad():
                closure()
            return super().step(closure)

    (only,) = measure(
        tiny,
        {"twice": lambda model: Twice(model.parameters(), lr=0.1)},
        steps=2,
        calls=0,
        needs={"twice": Needs(closure=True)},
    )
    assert len(only.whole) == 2
    assert len(calls) == 4 + 2  # two rounds to warm up, and two steps for the memory


def test_the_table_has_a_row_for_each_method_and_says_who_is_missing(
    tiny: Problem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(suite, "problem", lambda name, batch, device: tiny)

    def first_step(contest: Problem, maker: Any, needs: Any) -> Seconds:
        model = nn.Linear(2, 2)
        return Seconds(50.0 if isinstance(maker(model), torch.optim.SGD) else 0.1, 0.1)

    monkeypatch.setattr(suite, "first_step", first_step)
    arguments = ["part=methods", "models=resnet18", "methods=sgd,adam,soap,muon"]
    main([*arguments, "skip=muon", "quick=true", "device=cpu", f"out={tmp_path}"])
    printed = capsys.readouterr().out
    assert "left out: its first step took 50 s, more than limit=20" in printed
    assert "muon" not in printed
    written = json.loads((tmp_path / "bench" / "methods.json").read_text("utf-8"))
    left_out, *measured = written["results"]
    assert left_out["method"] == "sgd"
    assert [row["method"] for row in measured] == ["adam", "soap"]
    assert set(measured[0]["ratios"]["cpu"]) == {"mean", "median", "slowest"}


def test_the_character_model_is_the_one_of_the_study() -> None:
    contest = suite.problem("gpt_char", 2, torch.device("cpu"))
    assert sum(p.numel() for p in contest.model.parameters()) == pytest.approx(0.81e6, rel=0.01)
    assert contest.model(contest.inputs).shape == (2, 64, 65)
    assert contest.targets.shape == (2, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=vgg"], "Invalid models: 'vgg'. Must be of resnet18, gpt_char"),
        (["methods=sgd,adm"], "Invalid methods: 'adm'. Must be of adafisher, "),
        (["skip=adm"], "Invalid skip: 'adm'"),
        (["steps=1"], "Invalid steps: 1. Must be >= 2"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["part=methods", *arguments, "device=cpu"])
