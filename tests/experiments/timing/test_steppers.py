"""What the paper's epochs say of the cost of a step, where they say something."""

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from experiments.config import commandline
from experiments.config.compose import composed
from experiments.timing.steppers import published_ratio


def test_only_the_families_of_the_paper_have_a_published_cost():
    table = yaml.safe_load((commandline.CONF / "paper" / "seconds_per_step.yaml").read_text())
    assert published_ratio(composed(["optimizer=kfac", "model=small_cnn"])) == table["cnn"]["kfac"]
    assert published_ratio(composed(["optimizer=kfac", "task=diabetes"])) is None


@pytest.mark.parametrize("defaults", ["", "defaults:\n", "defaults: [_self_]\n"])
def test_a_model_without_a_family_has_no_published_cost(
    defaults: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(f"{defaults}_target_: torch.nn.Linear\n")
    shutil.copytree(commandline.CONF / "paper", tmp_path / "paper")
    monkeypatch.setattr(commandline, "CONF", tmp_path)
    section = SimpleNamespace(name="mine", published_as="kfac")
    config: Any = SimpleNamespace(model=section, optimizer=section)
    assert published_ratio(config) is None
