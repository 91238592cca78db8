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


STEPS, EPOCH = 40, 8
LINEAR = torch.optim.lr_scheduler.LinearLR
REFERENCES = {
    "constant": (schedule.constant, lambda optimizer, left: LINEAR(optimizer, 1.0, 1.0, left)),
    "cosine": (
        lambda **given: schedule.cosine(per="step", **given),
        lambda optimizer, left: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=left),
    ),
    "linear": (schedule.linear, lambda optimizer, left: LINEAR(optimizer, 1.0, 0.0, left)),
    "warmup_stable_decay": (
        lambda **given: schedule.warmup_stable_decay(decay_fraction=0.25, **given),
        lambda optimizer, left: torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [LINEAR(optimizer, 1.0, 1.0, 1), LINEAR(optimizer, 1.0, 0.0, STEPS // 4)],
            milestones=[left - STEPS // 4],
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # of SequentialLR's own
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("warm_up", [0, 5, 20])
def test_every_step_is_that_of_torch_with_a_linear_warm_up_in_front(name, warm_up):
    make, reference = REFERENCES[name]
    factor = make(horizon=STEPS, epoch=EPOCH, warmup_fraction=warm_up / STEPS)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    chain = reference(optimizer, STEPS - warm_up)
    if warm_up:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
        rise = LINEAR(optimizer, 1 / warm_up, 1.0, warm_up - 1)
        rates = []
        for _ in range(warm_up):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            rise.step()
        assert [factor(step) for step in range(warm_up)] == pytest.approx(rates)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
        chain = reference(optimizer, STEPS - warm_up)
    for step in range(warm_up, STEPS):
        assert factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12), step
        optimizer.step()
        chain.step()


def test_the_inverse_square_root_is_the_papers():
    """Vaswani et al. 2017, eq. (3): min(t^-0.5, t w^-1.5) with t from 1, over its peak w^-0.5."""
    factor = schedule.inverse_sqrt(horizon=40, epoch=8, warmup_fraction=0.25)
    expected = [min(t**-0.5, t * 10**-1.5) * 10**0.5 for t in range(1, 41)]
    found = [factor(step) for step in range(40)]
    assert found[:10] == pytest.approx(expected[:10])
    assert found[11:] == pytest.approx(expected[10:-1])  # the peak stays for one step more


def test_the_square_root_form_of_the_decay():
    factor = schedule.warmup_stable_decay(
        horizon=10, epoch=5, decay_fraction=0.4, decay="one_minus_sqrt"
    )
    found = [factor(step) for step in (0, 5, 6, 7, 8, 9, 10)]
    assert found == pytest.approx([1, 1, 1, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75), 0])


@pytest.mark.parametrize("make", [schedule.linear, schedule.warmup_stable_decay, schedule.cosine])
def test_by_a_clock_the_rate_rises_and_ends_with_the_budget(make):
    factor = make(horizon=8.0, epoch=None, warmup_fraction=0.5)
    assert factor(0.0) == pytest.approx(0.001)
    assert factor(2.0) == pytest.approx(0.501)
    assert factor(4.0) == 1.0
    assert factor(8.0) == pytest.approx(0, abs=1e-12)
    assert factor(8.5) == pytest.approx(0, abs=1e-12)  # a last step may take longer


def test_after_a_warm_up_annealing_by_epochs_begins_with_a_whole_one():
    factor = schedule.cosine(horizon=40, epoch=10, warmup_fraction=0.25)
    plain = schedule.cosine(horizon=30, epoch=10)
    assert [factor(step) for step in range(10, 40)] == [plain(step) for step in range(30)]


@pytest.mark.parametrize(
    ("make", "arguments", "line"),
    [
        (schedule.linear, {"warmup_fraction": 1}, r"Invalid warmup_fraction: 1\. Must be >= 0 and"),
        (schedule.constant, {"warmup_fraction": -0.1}, r"Invalid warmup_fraction: -0\.1\. Must"),
        (schedule.cosine, {"warmup_fraction": "5"}, r"Invalid warmup_fraction: 5\. Must be"),
        (schedule.inverse_sqrt, {"warmup_fraction": 0.0}, r"Invalid warmup_fraction: 0\.0\. Must"),
        (
            schedule.warmup_stable_decay,
            {"warmup_fraction": 0.5, "decay_fraction": 0.6},
            r"Invalid decay_fraction: 0\.6\. Must be > 0 and, with the warm-up, <= 1\.",
        ),
        (schedule.warmup_stable_decay, {"decay_fraction": 0}, r"Invalid decay_fraction: 0\."),
        (
            schedule.warmup_stable_decay,
            {"decay": "cubic"},
            r"Invalid decay: 'cubic'\. Must be one of: linear, one_minus_sqrt\.",
        ),
    ],
)
def test_refuses_parts_that_are_none(make, arguments, line):
    with pytest.raises(ValueError, match=line):
        make(horizon=10, epoch=5, **arguments)
