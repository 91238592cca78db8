import math

import pytest
import torch

from experiments import schedule


def test_cosine_per_epoch_is_that_of_torch():
    epochs, length = 6, 5
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    factor = schedule.cosine(horizon=epochs * length, epoch=length)
    for epoch in range(epochs):
        for step in range(length):
            assert factor(epoch * length + step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_cosine_within_the_first_epoch_is_stepped():
    factor = schedule.cosine(horizon=4, epoch=100)
    expected = [1.0, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2]
    assert [factor(step) for step in range(4)] == pytest.approx(expected)


def test_constant():
    assert {schedule.constant(horizon=9, epoch=3)(step) for step in range(9)} == {1.0}


def test_refuses_an_unknown_stride():
    with pytest.raises(ValueError, match="Invalid per: 'day'"):
        schedule.cosine(horizon=2, epoch=1, per="day")


def test_annealing_beyond_the_budget_is_that_of_torch_cut_off():
    """The released Shampoo configuration for transformers: T_max 200, and 36 epochs."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
    factor = schedule.cosine(horizon=36 * 5, epoch=5, horizon_epochs=200)
    for epoch in range(36):
        for step in range(5):
            assert factor(epoch * 5 + step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factor(36 * 5 - 1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 35 / 200)))


def test_a_horizon_that_is_the_budget_changes_nothing():
    plain = schedule.cosine(horizon=36 * 5, epoch=5)
    stated = schedule.cosine(horizon=36 * 5, epoch=5, horizon_epochs=36)
    assert [plain(step) for step in range(180)] == [stated(step) for step in range(180)]


def test_a_budget_within_the_first_epoch_of_a_longer_horizon_stays_at_the_first_rate():
    factor = schedule.cosine(horizon=3, epoch=5, horizon_epochs=4)
    assert [factor(step) for step in range(3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("horizon_epochs", [35, 0, -1, True, "200"])
def test_a_horizon_before_the_end_of_the_budget_is_refused(horizon_epochs):
    """Annealed to zero, the rest of the training would do nothing."""
    with pytest.raises(
        ValueError, match=r"Invalid horizon_epochs: .*\. Must be at least .* 36 epochs"
    ):
        schedule.cosine(horizon=36 * 5, epoch=5, horizon_epochs=horizon_epochs)


def test_the_end_of_the_budget_is_the_end_of_the_annealing():
    factor = schedule.cosine(horizon=40, epoch=10, per="step")
    assert factor(40) == pytest.approx(0)
    assert factor(39) > 0


def test_annealing_over_a_training_time_follows_the_clock():
    factor = schedule.cosine(horizon=8.0, epoch=None)
    assert [factor(seconds) for seconds in (0.0, 2.0, 4.0, 8.0)] == pytest.approx(
        [1.0, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.0]
    )
    assert factor(9.0) == 0.0  # a last step may take longer than what was left


def test_a_training_time_has_no_horizon_in_epochs():
    with pytest.raises(ValueError, match=r"Invalid horizon_epochs: 8\. A budget in seconds has no"):
        schedule.cosine(horizon=8.0, epoch=None, horizon_epochs=8)
