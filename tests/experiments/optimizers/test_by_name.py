"""Twelve optimizers of three packages, by their names alone: nothing in ``conf/`` knows them."""

import io
import itertools
import math
from functools import cache
from pathlib import Path

import pytest
import torch

from experiments.config import commandline, named
from experiments.config.compose import composed
from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.sweep import inspection
from experiments.tuning import space

NAMES = (
    *("schedulefree.AdamWScheduleFree", "schedulefree.RAdamScheduleFree"),
    *("schedulefree.SGDScheduleFree", "pytorch_optimizer.AdaHessian"),
    *("pytorch_optimizer.Adan", "pytorch_optimizer.Lion", "pytorch_optimizer.MARS"),
    *("pytorch_optimizer.SophiaH", "timm.optim.Adopt", "timm.optim.Lamb"),
    *("timm.optim.LaProp", "timm.optim.NAdamW"),
)
NEEDS_GRAPH = ("pytorch_optimizer.AdaHessian", "pytorch_optimizer.SophiaH")


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    yield
    named.forget()


@cache
def config_of(name: str, folder: Path):
    overrides = (
        *("tracking=none", "task=digits", "budget=steps", "budget.steps=24", "threads=1"),
        *(f"cache_dir={folder}", f"runs_dir={folder}"),
    )
    return composed(commandline.normalise([f"optimizer={name}", *overrides]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by_name")


def numbers(trainer: Trainer, count: int) -> list[float]:
    """Train and evaluate; gives losses and what evaluations measured."""
    found = []
    for step, loss in enumerate(itertools.islice(trainer.steps(), count)):
        found.append(loss)
        if step % 3 == 0:
            found += [x for key, x in trainer._row().items() if key != "train_seconds"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str, folder: Path) -> None:
    config = config_of(name, folder)
    assert config.optimizer.name == name
    assert config.optimizer.needs.create_graph == (name in NEEDS_GRAPH)
    trainer = Trainer(build(config), seed=0)
    losses = list(itertools.islice(trainer.steps(), 24))
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_bit_for_bit(name: str, folder: Path) -> None:
    """Through a file that `weights_only` loads, in the middle of evaluations."""
    config = config_of(name, folder)
    unbroken = Trainer(build(config), seed=0)
    numbers(unbroken, 7)
    buffer = io.BytesIO()
    torch.save(unbroken.state_dict(), buffer)
    buffer.seek(0)
    expected = numbers(unbroken, 5)
    restored = Trainer(build(config), seed=0)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    assert numbers(restored, 5) == expected
    for key, value in unbroken.built.model.state_dict().items():
        assert torch.equal(value, restored.built.model.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_its_lr_is_searched_around_its_default(name: str, folder: Path) -> None:
    method = config_of(name, folder).optimizer
    (dimension,) = space.parse(method)
    assert dimension.key == "lr"
    assert math.log10(dimension.high / dimension.low) == pytest.approx(3, abs=0.01)
    assert dimension.position(method.arguments["lr"]) == pytest.approx(0.5, abs=0.04)


def test_a_method_may_be_told_the_steps_of_its_run(folder: Path) -> None:
    """As AdEMAMix, whose slow average and its weight grow over the whole run."""
    key = "t_alpha_beta3"
    common = ["optimizer=pytorch_optimizer.AdEMAMix", f"+optimizer.suite.steps={key}"]
    common += ["tracking=none", "task=digits", f"cache_dir={folder}", f"runs_dir={folder}"]
    counted = composed(commandline.normalise([*common, "budget=steps", "budget.steps=7"]))
    assert build(counted).optimizer.param_groups[0][key] == 7
    typed = counted.having(optimizer=counted.optimizer.having(**{key: 5}).values)
    assert build(typed).optimizer.param_groups[0][key] == 5
    by_clock = ["budget=train_seconds", "budget.train_seconds=1"]
    with pytest.raises(UserError, match="must know its number of steps: one of epochs, steps"):
        inspection.inspect(composed(commandline.normalise([*common, *by_clock])))
