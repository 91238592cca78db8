"""The fully connected networks, against the same thing in numpy."""

import numpy as np
import pytest
import torch

from experiments.errors import UserError
from experiments.models.mlp import mlp
from experiments.tasks.digits_autoencoder import OBJECTIVE

AUTOENCODER = {
    **{"widths": [128, 64, 32, 8, 32, 64, 128], "activation": "sigmoid"},
    **{"output": "sigmoid", "code": 4, "init_gain": 4.0},
}


def test_the_autoencoder_and_its_loss_are_those_of_a_plain_forward_pass():
    torch.manual_seed(0)
    model = mlp(features=64, outputs=64, **AUTOENCODER)
    pixels = torch.rand(5, 64)
    values = pixels.double().numpy()
    parameters = [parameter.detach().double().numpy() for parameter in model.parameters()]
    for number, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True), 1):
        values = values @ weight.T + bias
        values = values if number == 4 else 1 / (1 + np.exp(-values))  # the code is linear
        # Glorot and Bengio, 2010, equation 16: the bound is sqrt(6 / (fan_in + fan_out)), 4 times.
        bound = 4 * np.sqrt(6 / sum(weight.shape))
        assert 0.9 * bound < np.abs(weight).max() <= bound
        assert not bias.any()
    expected = np.mean(np.sum((values - pixels.double().numpy()) ** 2, axis=1))
    outputs = model(pixels)
    loss = OBJECTIVE.total(outputs, pixels) / OBJECTIVE.count(pixels)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    found = OBJECTIVE.measured(OBJECTIVE.sums(outputs.detach(), pixels), {})
    assert found == pytest.approx({"loss": expected, "squared_error": expected}, rel=1e-5)
    assert sum(parameter.size for parameter in parameters) == 37_896


PLAIN = {"widths": [4], "activation": "relu", "output": "none", "code": None, "init_gain": None}


def test_the_last_layer_has_an_activation_of_its_own():
    model = mlp(features=3, outputs=2, **PLAIN)
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Linear", "Identity"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [4, 0]}, r"Invalid widths: \[4, 0\]. Must be whole numbers >= 1."),
        ({"widths": [True]}, r"Invalid widths: \[True\]"),
        ({"activation": "sine"}, "Invalid activation: 'sine'. Must be one of: elu, gelu, relu"),
        ({"code": 2}, "Invalid code: 2. Must be null, or from 1 to 1."),
        ({"init_gain": 0.0}, "Invalid init_gain: 0.0. Must be > 0, or null."),
        ({"output": "softmax"}, "Invalid output: 'softmax'. Must be one of: "),
    ],
)
def test_what_is_no_network_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        mlp(features=3, outputs=2, **PLAIN | changes)
