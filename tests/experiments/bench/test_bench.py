"""The benchmark's structure; times are never asserted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.bench import adafisher as bench
from experiments.bench.__main__ import main
from experiments.bench.interleaved import Problem, Seconds, measure
from experiments.errors import UserError


@pytest.fixture
def tiny() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return Problem("tiny", model, torch.randn(4, 6), torch.randint(3, (4,)))


def test_contenders_train_in_turn_from_the_same_start(tiny: Problem) -> None:
    order: list[str] = []

    def maker(name: str) -> Any:
        def make(model: nn.Module) -> torch.optim.Optimizer:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.register_step_post_hook(lambda *_: order.append(name))
            return optimizer

        return make

    contenders = measure(tiny, {"a": maker("a"), "b": maker("b")}, steps=2, calls=2)
    assert "".join(order) == "abbaabba" + "aabb" + "abbaabba"  # in turn but for the memory
    first, second = (list(c.model.parameters()) for c in contenders)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
    assert not torch.equal(first[0], next(tiny.model.parameters()))
    for contender in contenders:
        assert len(contender.whole) == len(contender.within) == len(contender.alone) == 2
        assert all(w.wall > s.wall for w, s in zip(contender.whole, contender.within, strict=True))


def test_memory_is_that_of_the_tensors(tiny: Problem) -> None:
    plain, adam = measure(
        tiny,
        {
            "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
            "adamw": lambda m: torch.optim.AdamW(m.parameters(), fused=True),
        },
        steps=2,
        calls=2,
    )
    parameters = 4 * (6 * 8 + 8 + 8 * 3 + 3)
    assert plain.state_bytes == 0
    assert adam.state_bytes == 2 * parameters + 4 * 4  # and a step number each
    assert adam.peak_bytes - plain.peak_bytes == adam.state_bytes
    assert plain.peak_bytes > 2 * parameters


def test_rare_refresh_is_charged_a_hundredth(tiny: Problem) -> None:
    contenders = measure(tiny, bench.makers(fused=False), steps=2, calls=2)
    for contender, seconds in zip(contenders, (1.0, 2.0, 3.0, 2.0), strict=True):
        contender.whole = [Seconds(seconds, seconds)] * 2
    table = bench.ratios(contenders, "wall")
    assert table[bench.EVERY]["whole"]["median"] == 3.0
    assert table[bench.RARELY]["whole"]["median"] == pytest.approx(2.01)
    assert table[bench.RARELY]["state_bytes"]["median"] < 1.0


def test_results_are_printed_and_written_with_their_environment(
    tiny: Problem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "problem", lambda name, batch, device: tiny)
    main(
        ["adafisher", "--models", "resnet18", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert "tiny, batch 4: ratios to adamw fused" in printed
    assert "refresh every 100" in printed
    written = json.loads((tmp_path / "bench" / "adafisher.json").read_text("utf-8"))
    assert written["environment"]["packages"]["torch"]
    (result,) = written["results"]
    assert set(result["ratios"]["cpu"]["refresh every step"]) == set(bench.HEADS)
    assert [len(c["whole"]) for c in result["measured"]] == [3] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "output"), [("resnet18", (2, 10)), ("gpt1_mini", (2, 256, 33278))]
)
def test_problems(model: str, output: tuple[int, ...]) -> None:
    contest = bench.problem(model, 2, torch.device("cpu"))
    assert contest.model(contest.inputs).shape == output
    assert contest.targets.shape == output[:-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "vgg"], "Invalid --models: 'vgg'. Must be of gpt1_mini, resnet18, vit_s16"),
        (["--batches", "8,x"], "Invalid --batches: '8,x'"),
        (["--steps", "1"], "Must be >= 2"),
        (["--threads", "0"], "Invalid --threads: 0. Must be >= 1"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["adafisher", *arguments, "--device", "cpu"])


def test_an_option_without_its_part_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"Unknown part: 'resnet18'\. .*options of a part follow"):
        main(["--models", "resnet18"])
