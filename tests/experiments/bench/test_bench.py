"""The benchmark's structure; times are never asserted."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adafisher
from experiments.bench import adafisher as bench
from experiments.bench import builds
from experiments.bench.bench import main
from experiments.bench.problem import Contender, Problem, peak_bytes
from experiments.config.sections import Needs
from experiments.errors import UserError
from experiments.timing import steady
from experiments.timing.steady import Cost, Seconds, Steps, UnsteadyError


@pytest.fixture
def tiny() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return Problem("tiny", model, torch.randn(4, 6), torch.randint(3, (4,)))


def test_each_contender_trains_a_model_of_its_own(tiny: Problem) -> None:
    one, other = (
        Contender(tiny, lambda model: torch.optim.SGD(model.parameters(), lr=0.1)) for _ in "ab"
    )
    for contender in (one, other):
        contender.step()
        contender.step()
    first, second = (list(contender.model.parameters()) for contender in (one, other))
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
    assert not torch.equal(first[0], next(tiny.model.parameters()))
    assert all(param.grad is None for param in first)


def test_a_method_that_evaluates_the_loss_itself_takes_a_closure(tiny: Problem) -> None:
    calls: list[int] = []

    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            calls.append(1)
            with torch.enable_grad():
                closure()
            return super().step(closure)

    def maker(model: nn.Module) -> torch.optim.Optimizer:
        return Twice(model.parameters(), lr=0.1)

    Contender(tiny, maker, Needs(closure=True)).step()
    assert len(calls) == 1


def test_memory_is_that_of_the_tensors(tiny: Problem) -> None:
    makers: list[Any] = [
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
        lambda m: torch.optim.AdamW(m.parameters(), fused=True),
    ]
    states = []
    for maker in makers:
        contender = Contender(tiny, maker)
        contender.step()
        states.append(contender.state_bytes)
    sgd, adamw = (peak_bytes(tiny, maker, steps=2) for maker in makers)
    parameters = 4 * (6 * 8 + 8 + 8 * 3 + 3)
    assert states == [0, 2 * parameters + 4 * 4]  # and a step number each
    assert adamw - sgd == states[1]
    assert sgd > 2 * parameters


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Steps]]:
    """What is asked of the clock, which says that a method costs its place in the list."""
    asked: list[dict[str, Steps]] = []

    def measure(methods: dict[str, Steps], *, reference: str, now: Any) -> dict[str, Cost]:
        asked.append(methods)
        for method in methods.values():
            method.plain()
        places = {name: float(place) for place, name in enumerate(methods, start=1)}
        return {
            name: Cost(
                (place,) * 6,
                (2 * place,) * 6,
                seconds=Seconds(place, place),
                mean=Seconds(place, 2 * place),
            )
            for name, place in {**places, steady.ITSELF: 1.0}.items()
        }

    monkeypatch.setattr(steady, "measure", measure)
    return asked


def test_a_rare_refresh_is_charged_a_hundredth(
    tiny: Problem, measured: list[dict[str, Steps]]
) -> None:
    result = bench.compare(tiny, fused=False)
    whole, alone = measured
    rarely, every = whole[bench.RARELY], whole[bench.EVERY]
    assert (rarely.period, rarely.refreshing) == (100, every.plain)
    assert every.refreshing is None
    assert {one.refreshing for one in alone.values()} == {None}
    assert result["ratios"][bench.FOREACH]["whole"]["wall"] == 2.0
    assert result["ratios"][bench.EVERY]["alone"]["cpu"] == 6.0
    assert result["ratios"][bench.RARELY]["state_bytes"] < 1.0


def test_an_earlier_build_stands_beside_this_one(
    tiny: Problem, measured: list[dict[str, Steps]]
) -> None:
    with builds.worktree("HEAD") as tree:
        before = builds.optimizer_of(tree)
        assert Path(before.__file__ or "").is_relative_to(tree)
    assert before.AdaFisherW is not adafisher.AdaFisherW
    assert sys.modules["adafisher"] is adafisher
    assert sys.modules["adafisher.optimizer"].AdaFisherW is adafisher.AdaFisherW
    result = bench.compare(tiny, fused=False, before=before)
    rarely = measured[0][bench.RARELY + bench.BEFORE]
    assert rarely.refreshing == measured[0][bench.EVERY + bench.BEFORE].plain
    assert {bench.EVERY, bench.EVERY + bench.BEFORE} <= result["ratios"].keys()


def test_an_unknown_commit_is_one_line() -> None:
    with (
        pytest.raises(UserError, match=r"^Invalid before: 'nowhere'\. fatal: .*$"),
        builds.worktree("nowhere"),
    ):
        pass


def test_a_machine_that_is_too_busy_is_one_line(
    tiny: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise UnsteadyError("the machine is too busy")

    monkeypatch.setattr(steady, "measure", refuse)
    with pytest.raises(UserError, match=r"^tiny: the machine is too busy\. Try again later\.$"):
        bench.compare(tiny, fused=False)


def test_results_are_printed_and_written_with_their_environment(
    tiny: Problem,
    measured: list[dict[str, Steps]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "problem", lambda name, batch, device: tiny)
    main(["part=adafisher", "models=resnet18", "quick=true", "device=cpu", f"out={tmp_path}"])
    printed = capsys.readouterr().out
    assert "tiny, batch 4: ratios to adamw fused" in printed
    assert "refresh every 100" in printed
    written = json.loads((tmp_path / "bench" / "adafisher.json").read_text("utf-8"))
    assert written["environment"]["packages"]["torch"]
    (result,) = written["results"]
    assert set(result["ratios"]["refresh every step"]) == {
        *("whole", "alone", "state_bytes", "peak_bytes", "form")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "output"),
    [("resnet18", (2, 10)), ("gpt1_mini", (2, 256, 33278)), ("gpt_char", (2, 128, 65))],
)
def test_problems(model: str, output: tuple[int, ...]) -> None:
    contest = bench.problem(model, 2, torch.device("cpu"))
    assert contest.model(contest.inputs).shape == output
    assert contest.targets.shape == output[:-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["models=vgg"],
            "Invalid models: 'vgg'. Must be of gpt1_mini, gpt_char, resnet18, vit_s16",
        ),
        (["batches=8,x"], "Invalid batches: '8,x'"),
        (["threads=0"], "Invalid threads: 0. Must be >= 1"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["part=adafisher", *arguments, "device=cpu"])


def test_an_option_without_its_part_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"Missing value: part\. 'models=resnet18' is of one of"):
        main(["models=resnet18"])
