"""The structure of the comparison of forms; times are never asserted."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.bench import forms, suite
from experiments.bench.adafisher import method_of
from experiments.bench.bench import main
from experiments.bench.problem import Problem
from experiments.errors import UserError
from experiments.timing import steady
from experiments.timing.steady import Cost, Seconds, Steps


@pytest.fixture
def tiny() -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return Problem("tiny", model, torch.randn(4, 6), torch.randint(3, (4,)))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("adamw", {"plain", "fused", "foreach"}),
        ("shampoo", {"plain", "fused"}),
        ("muon", {"plain", "foreach"}),
        ("soap", set()),  # its YAML has nothing to choose
    ],
)
def test_the_forms_of_a_method_are_those_that_its_class_takes(name: str, found: set[str]) -> None:
    made = forms.forms_of(method_of(name))
    assert set(made) == found
    for form, method in made.items():
        chosen = {flag for flag in ("fused", "foreach") if method.arguments.get(flag)}
        assert chosen == {form} - {"plain"}


def test_each_form_is_measured_beside_the_one_that_runs(
    tiny: Problem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[set[str], str]] = []

    def measure(
        methods: Mapping[str, Steps], *, reference: str, now: Callable[[], Seconds]
    ) -> dict[str, Cost]:
        for steps in methods.values():
            steps.plain()
        asked.append((set(methods), reference))
        halves, ratios = Seconds(0.5, 0.5), (2.0,) * 6
        cost = Cost(wall=ratios, cpu=ratios, seconds=halves, mean=Seconds(2.0, 2.0))
        return dict.fromkeys([*methods, steady.ITSELF], cost)

    monkeypatch.setattr(suite, "problem_of", lambda config, device: tiny)
    monkeypatch.setattr(steady, "measure", measure)
    arguments = ["part=forms", "models=gpt_char", "methods=sgd,soap,kfac", "quick=true"]
    main([*arguments, "device=cpu", f"out={tmp_path}"])
    # The step alone too where it takes gradients as they are; SOAP has no other form.
    assert asked == [({"plain", "foreach", "fused"}, "fused")] * 2 + [({"plain", "fused"}, "fused")]
    printed = capsys.readouterr().out
    assert "tiny, batch 4, sgd: ratios to its form, fused, in the same round" in printed
    assert "  plain                   whole 2.000 +- 0.0 % (500.00 ms)  alone 2.000" in printed
    sgd, kfac = json.loads((tmp_path / "bench" / "forms.json").read_text("utf-8"))["results"]
    assert (sgd["method"], sgd["form"], kfac["method"]) == ("sgd", "fused", "kfac")
    assert sgd["ratios"]["plain"]["alone"]["wall"] == 2.0
    assert set(kfac["ratios"]["plain"]) == {"whole"}


def test_a_method_is_left_out_where_the_machine_is_too_busy(
    tiny: Problem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object, **__: object) -> None:
        raise steady.UnsteadyError("the machine is too busy")

    monkeypatch.setattr(steady, "measure", measure)
    method = method_of("sgd")
    row = forms.compare(tiny, method, forms.forms_of(method))
    assert row == {"method": "sgd", "form": "fused", "left_out": "the machine is too busy"}
    assert "tiny, sgd: left out: the machine is too busy" in capsys.readouterr().out


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match=r"Invalid methods: 'adm'\. Must be of adafisher, "):
        main(["part=forms", "methods=adm", "device=cpu"])
