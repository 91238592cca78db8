"""The landscape of the iris network against direct evaluation."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.engine.divergence import DivergedError
from experiments.errors import UserError
from experiments.studies import landscape
from experiments.studies.landscape import IrisNetwork, LandscapeOptions

METHODS: dict[str, dict[str, Any]] = {
    "adafisher": {"lr": 0.01},
    "adahessian": {"lr": 0.01, "weight_decay": 0.0},
    "kfac": {"lr": 0.01, "weight_decay": 0.0},
    "sgd": {"lr": 0.05},
}


def options(**changes: Any) -> LandscapeOptions:
    values: dict[str, Any] = {
        "seed": 0,
        "start": [0.2, 0.2],
        "epochs": 1,
        "batch_size": 50,
        "softmax_output": True,
        "held_at": "trained",
        "held_decay": 1e-3,
        "points": 6,
        "methods": METHODS,
    }
    return LandscapeOptions(**(values | changes))


@pytest.fixture(scope="module")
def measured():
    return landscape.plan(options(), [], {}).measure()


def held_network(facts: dict[str, Any]) -> IrisNetwork:
    network = IrisNetwork(softmax_output=True)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in facts["held"]:
                parameter.copy_(torch.tensor(facts["held"][name]).view_as(parameter))
    return network.double()


@pytest.mark.parametrize("softmax_output", [True, False])
def test_the_surface_is_the_loss_of_the_network(softmax_output):
    torch.manual_seed(3)
    network = IrisNetwork(softmax_output=softmax_output)
    x, y = torch.randn(20, 2), torch.arange(20) % 3
    w1, w2 = np.linspace(-2, 1, 4), np.linspace(0, 3, 3)
    found = landscape.surface(network, w1, w2, x, y)
    assert found.shape == (3, 4)
    direct = copy.deepcopy(network).double()
    for row, second in enumerate(w2):
        for column, first in enumerate(w1):
            landscape.place_start(direct, [first, second])
            wanted = F.cross_entropy(direct(x.double()), y).item()
            assert found[row, column] == pytest.approx(wanted, rel=1e-6)


def test_every_path_starts_at_the_start_and_takes_every_step(measured):
    for name in METHODS:
        for kind in ("slice", "projection"):
            path = measured.arrays[f"{kind}_path_{name}"]
            assert path[0] == pytest.approx([0.2, 0.2])
            assert path.shape == (3 + 1, 2)
            assert (path[0] != path[-1]).any()
    starts = {float(measured.arrays[f"projection_loss_{name}"][0]) for name in METHODS}
    assert len(starts) == 1  # all other parameters are the same there too


def test_on_the_exact_surface_every_path_lies_on_it(measured):
    x, y = landscape.iris()
    network = held_network(measured.facts)
    for name in METHODS:
        path = measured.arrays[f"slice_path_{name}"]
        for weights, loss in zip(path, measured.arrays[f"slice_loss_{name}"], strict=True):
            landscape.place_start(network, list(weights))
            assert F.cross_entropy(network(x.double()), y).item() == pytest.approx(loss, rel=1e-5)


def test_the_grid_holds_every_path(measured):
    for kind in ("slice", "projection"):
        paths = np.concatenate([measured.arrays[f"{kind}_path_{name}"] for name in METHODS])
        for axis, name in enumerate(("w1", "w2")):
            lines = measured.arrays[f"{kind}_{name}"]
            assert lines[0] < paths[:, axis].min()
            assert lines[-1] > paths[:, axis].max()
        assert measured.arrays[f"{kind}_surface"].shape == (6, 6)


def test_the_same_seed_gives_the_same_arrays(measured):
    again = landscape.plan(options(), [], {}).measure()
    for name, array in measured.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    other = landscape.plan(options(seed=1), [], {}).measure()
    assert (other.arrays["slice_loss_sgd"] != measured.arrays["slice_loss_sgd"]).any()


def test_full_batch_training_ends_where_the_gradient_vanishes():
    x, y = landscape.iris()
    network = landscape.trained(landscape.initial_network(options()), x, y, 1e-3).double()
    loss = F.cross_entropy(network(x.double()), y)
    loss = loss + 0.5e-3 * sum(p.square().sum() for p in network.parameters())
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4


def test_held_at_initial_keeps_the_initial_parameters():
    chosen = options(held_at="initial", methods={"sgd": {}})
    facts = landscape.plan(chosen, [], {}).measure().facts
    initial = landscape.initial_network(chosen)
    assert facts["held"]["fc2.bias"] == pytest.approx(initial.fc2.bias.tolist())


def test_interpolation_keeps_a_plane_and_says_nothing_outside():
    points = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    losses = 2 * points[:, 0] - points[:, 1] + 3
    w = np.array([-5.0, 0.0, 0.25])
    found = landscape.interpolated(points, losses, w, w)
    assert np.isnan(found[0]).all()
    assert found[1, 2] == pytest.approx(3.5)
    assert found[2, 1] == pytest.approx(2.75)


def test_the_data_are_standardised():
    x, y = landscape.iris()
    assert x.shape == (150, 2)
    assert torch.bincount(y).tolist() == [50, 50, 50]
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(2))
    assert abs(float((x[:, 0] * x[:, 1]).mean())) < 1e-5  # components are uncorrelated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "Invalid epochs: 0. Must be >= 1."),
        ({"held_at": "end"}, "Invalid held_at: 'end'. Must be trained or initial."),
        ({"held_decay": -1.0}, "Invalid held_decay: -1.0. Must be >= 0."),
        ({"start": [0.2]}, r"Invalid start: \[0.2\]. Must be two numbers."),
        ({"methods": {}}, "Invalid methods"),
        ({"methods": {"adma": {}}}, "Unknown optimizer: 'adma'. Did you mean: adam"),
        (
            {"methods": {"adam": {"lr": -1.0}}},
            "Invalid optimizer.lr: -1.0. Must be finite and >= 0.",
        ),
    ],
)
def test_a_wrong_value_is_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        landscape.plan(options(**changes), [], {})


def test_a_method_that_blows_up_ends_the_study():
    """Its path would seem to end where it was last seen."""
    x, y = landscape.iris()
    chosen = options(epochs=30, softmax_output=False)
    section = landscape._section("sgd", {"lr": 1e30, "weight_decay": 0.0})
    with pytest.raises(DivergedError, match=r"^(loss|weight \S+) is (nan|inf|-inf) at step \d+$"):
        landscape.train(chosen, section, landscape.initial_network(chosen), x, y)
    methods = {"adam": {}, "sgd": {"lr": 1e30, "weight_decay": 0.0}}
    with pytest.raises(DivergedError, match=r"^sgd, projection: loss is "):
        landscape.plan(options(softmax_output=False, methods=methods), [], {}).measure()
