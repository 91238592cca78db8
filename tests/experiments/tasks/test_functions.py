"""The diagnostic tasks: what is known of them is what runs on them find."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der

from experiments.engine.build import build
from experiments.engine.loop import Trainer
from experiments.errors import UserError
from experiments.tasks import noisy_quadratic, rosenbrock

QUADRATIC = ["task=noisy_quadratic", "task.dimensions=5", "task.condition=50", "schedule=constant"]


def course(make_config, optimizer, *overrides, steps):
    """The coordinates before the first step and after each."""
    config = make_config(
        f"optimizer={optimizer}", *overrides, "budget=steps", f"budget.steps={steps}"
    )
    trainer = Trainer(build(config), seed=0)
    weight = trainer.built.model.coordinates.weight
    found = [weight.detach().flatten().double().numpy().copy()]
    for _ in itertools.islice(trainer.steps(), steps):
        found.append(weight.detach().flatten().double().numpy().copy())
    return np.array(found)


def test_sgd_on_a_quadratic_without_noise_shrinks_each_coordinate_by_its_own_factor(make_config):
    found = course(
        make_config,
        "sgd",
        *QUADRATIC,
        "task.noise=0",
        *("optimizer.lr=0.5", "optimizer.momentum=0", "optimizer.weight_decay=0"),
        steps=30,
    )
    h = 50.0 ** -(np.arange(5) / 4)
    assert found == pytest.approx((1 - 0.5 * h) ** np.arange(31)[:, None], rel=1e-5)


def test_adam_on_a_quadratic_without_noise_follows_its_recursion(make_config):
    """Kingma and Ba, 2015, algorithm 1, in numpy."""
    found = course(
        make_config,
        "adam",
        *QUADRATIC,
        "task.noise=0",
        *("optimizer.lr=0.05", "optimizer.weight_decay=0", "optimizer.betas=[0.9,0.999]"),
        steps=60,
    )
    h, theta = 50.0 ** -(np.arange(5) / 4), np.ones(5)
    m = v = np.zeros(5)
    for t in range(1, 61):
        gradient = h * theta
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        theta = theta - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert found[t] == pytest.approx(theta, abs=2e-5)
    # Its first step is that of the signs, whatever the spectrum.
    assert found[1] == pytest.approx(np.full(5, 0.95), abs=1e-5)


@pytest.mark.parametrize(("lr", "batch"), [(0.5, 1), (1.0, 4)])
def test_the_stationary_loss_of_sgd_is_the_known_one(lr, batch):
    """The mean over a long course, within 4 of its standard errors by batches of the course."""
    task = noisy_quadratic.build(
        data_dir=None,  # type: ignore[arg-type]
        cache_dir=None,  # type: ignore[arg-type]
        dimensions=4,
        condition=8.0,
        noise=1.0,
        samples=40_000 * batch,
    )
    model = task.model_arguments["make"]()
    weight = model.coordinates.weight
    h = 8.0 ** -(np.arange(4) / 3)
    losses = []
    for ones, noise in task.train.batches(batch, seed=1):
        theta = weight.detach().flatten()
        losses.append(0.5 * float((torch.from_numpy(h) * theta.double() ** 2).sum()))
        loss = task.objective.total(model(ones), noise) / task.objective.count(noise)
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= lr * gradient
    parts = np.array(losses[4000:]).reshape(40, -1).mean(1)
    expected = 0.5 * sum(lr * h / (batch * (2 - lr * h)))
    assert abs(parts.mean() - expected) < 4 * parts.std(ddof=1) / math.sqrt(len(parts))
    assert parts.std(ddof=1) / math.sqrt(len(parts)) < 0.05 * expected


def test_noise_is_drawn_by_the_seed_and_absent_without_one():
    split = noisy_quadratic.Noise(7, torch.tensor([1.0, 2.0]))
    first, again, other = (
        torch.cat([noise for _, noise in split.batches(3, seed=seed)]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    rest = torch.cat([noise for _, noise in split.batches(3, seed=1, start=1)])
    assert torch.equal(rest, first[3:])
    assert not any(noise.any() for _, noise in split.batches(3))


def test_rosenbrock_is_scipys_and_has_its_minimum_at_one_one():
    points = torch.tensor([[-1.2, 1.0], [0.3, -0.7], [1.0, 1.0]]).double().requires_grad_()
    values = rosenbrock.value(points, points)
    values.sum().backward()
    for point, value, gradient in zip(
        points.detach().numpy(), values.tolist(), points.grad.numpy(), strict=True
    ):
        assert value == pytest.approx(rosen(point))
        assert gradient == pytest.approx(rosen_der(point))
    assert values[-1].item() == 0
    assert rosenbrock.distance(points, points).tolist()[-1] == 0
    assert rosenbrock.distance(points, points).tolist()[0] == pytest.approx(math.hypot(2.2, 0))


def test_adam_comes_down_the_valley(make_config):
    found = course(
        make_config,
        "adam",
        *("task=rosenbrock", "schedule=constant", "optimizer.lr=0.1", "optimizer.weight_decay=0"),
        steps=1500,
    )
    assert found[0] == pytest.approx([-1.2, 1.0])
    assert found[-1] == pytest.approx([1.0, 1.0], abs=1e-2)


@pytest.mark.parametrize(
    ("check", "values", "message"),
    [
        (noisy_quadratic.check, {"dimensions": 0}, "Invalid task.dimensions: 0. Must be a whole"),
        (noisy_quadratic.check, {"dimensions": 2.5}, "Invalid task.dimensions: 2.5. Must be a wh"),
        (noisy_quadratic.check, {"condition": 0.5}, "Invalid task.condition: 0.5. Must be a numb"),
        (noisy_quadratic.check, {"noise": -1}, "Invalid task.noise: -1. Must be a number >= 0."),
        (rosenbrock.check, {"samples": 0}, "Invalid task.samples: 0. Must be a whole number >= 1."),
    ],
)
def test_a_value_out_of_range_is_refused(check, values, message):
    with pytest.raises(UserError) as error:
        check(None, **values)
    assert str(error.value).startswith(message)


def test_what_samples_labels_is_refused_before_anything_runs(make_config):
    from experiments.sweep.inspection import inspect

    with pytest.raises(UserError, match=r"optimizer=kfac: Invalid fisher: 'mc'\. K-FAC samples"):
        inspect(make_config("optimizer=kfac", "task=rosenbrock"))
    inspect(make_config("optimizer=kfac", "optimizer.fisher=empirical", "task=rosenbrock"))
    inspect(make_config("optimizer=ekfac", "task=diabetes"))


def test_a_model_of_other_data_is_refused_with_those_that_fit(make_config):
    from experiments.sweep.inspection import inspect

    with pytest.raises(UserError) as error:
        inspect(make_config("task=diabetes", "model=small_cnn"))
    assert str(error.value) == (
        "Invalid model: 'small_cnn'. It is not for task=diabetes, which gives features, outputs. "
        "Must be one of: autoencoder, mlp."
    )
