"""What is evaluated in place of the weights in training, and that training does not notice."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from experiments import seeding
from experiments.engine.build import build
from experiments.engine.evaluated import set_training
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.sweep import inspection

EMA = "+optimizer.suite.ema=0.8"


def trained(built, steps, *, every=None):
    """Train, and evaluate every so many steps; gives the trainer."""
    trainer = Trainer(built, seed=0)
    for step, _ in enumerate(itertools.islice(trainer.steps(), steps), start=1):
        if every and step % every == 0:
            trainer._row()
    return trainer


@pytest.mark.parametrize("override", [EMA, "optimizer=pytorch_optimizer.ScheduleFreeAdamW"])
def test_evaluations_change_no_bit_of_the_training(make_config, override):
    built = [build(make_config("budget.steps=12", override)) for _ in range(2)]
    often = trained(built[0], 12, every=2)
    stream = torch.get_rng_state()
    never = trained(built[1], 12)
    assert torch.equal(stream, torch.get_rng_state())
    for one, other in zip(
        built[0].model.state_dict().values(), built[1].model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert str(often.state_dict()["optimizer"]) == str(never.state_dict()["optimizer"])


def test_the_average_is_torchs(make_config):
    built = build(make_config("budget.steps=12", EMA))
    oracle = AveragedModel(copy.deepcopy(built.model), multi_avg_fn=get_ema_multi_avg_fn(0.8))
    trainer = Trainer(built, seed=0)
    for _ in itertools.islice(trainer.steps(), 9):
        oracle.update_parameters(built.model)
    training = [param.detach().clone() for param in built.model.parameters()]
    with trainer.weights.in_place():
        for param, expected in zip(built.model.parameters(), oracle.parameters(), strict=True):
            assert torch.equal(param, expected)
    for param, expected in zip(built.model.parameters(), training, strict=True):
        assert torch.equal(param, expected)


def test_the_statistics_are_torchs_for_the_averaged_weights(make_config):
    built = build(make_config("budget.steps=12", EMA))
    trainer = trained(built, 5)
    before = {key: value.clone() for key, value in built.model.state_dict().items()}
    with trainer.weights.in_place():
        twin = copy.deepcopy(built.model)
        batches = built.task.train.batches(built.batch_size, seed=seeding.derive(0, "batch_norm"))
        full = len(built.task.train) // built.batch_size
        update_bn((inputs for inputs, _ in itertools.islice(batches, full)), twin)
        norms = [name for name, m in twin.named_modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms  # the model has some: else this test shows nothing
        for name in norms:
            ours, theirs = built.model.get_submodule(name), twin.get_submodule(name)
            assert torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-6)
            assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-5)
            assert not torch.allclose(ours.running_mean, before[f"{name}.running_mean"])
            assert ours.momentum == 0.1
    for key, value in built.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_an_optimizer_is_evaluated_in_its_own_mode(make_config):
    built = build(make_config("optimizer=pytorch_optimizer.ScheduleFreeSGD", "budget.steps=6"))
    trainer = trained(built, 4)
    expected = copy.deepcopy(built.model)
    built.optimizer.eval()
    averaged = [param.detach().clone() for param in built.model.parameters()]
    built.optimizer.train()
    with torch.no_grad():
        for param, value in zip(built.model.parameters(), expected.parameters(), strict=True):
            param.copy_(value)
    with trainer.weights.in_place():
        for param, value in zip(built.model.parameters(), averaged, strict=True):
            assert torch.equal(param, value)


def test_a_method_without_modes_is_left_alone():
    set_training(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), False)


@pytest.mark.parametrize("value", ["0", "1.5", "true", "high"])
def test_a_decay_that_is_none_is_refused(make_config, value):
    with pytest.raises(UserError, match=r"Invalid optimizer\.suite\.ema: .*Must be (> 0|a number)"):
        make_config(f"+optimizer.suite.ema={value}")


def test_an_average_is_of_whole_weights(make_config):
    config = make_config(EMA, "distributed=fsdp", "processes=2")
    with pytest.raises(UserError, match=r"Must be null with distributed=fsdp"):
        inspection.inspect(config)


def test_an_average_makes_a_run_of_its_own_and_none_leaves_the_id(make_config):
    plain = make_config()
    assert make_config("+optimizer.suite.ema=null").run_id == plain.run_id
    averaged = make_config(EMA)
    assert averaged.run_id != plain.run_id
    assert averaged.optimizer.hyperparameters["ema"] == 0.8
