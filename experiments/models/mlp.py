"""Fully connected networks."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from experiments.errors import UserError

ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}


def mlp(
    *,
    features: int,
    outputs: int,
    widths: Sequence[int],
    activation: str,
    output: str,
    code: int | None,
    init_gain: float | None,
) -> nn.Sequential:
    """Make linear layers with activations between, for rows ``[B, features]``.

    Args:
        features: Numbers that a row has.
        outputs: Numbers that are predicted of it.
        widths: Of the hidden layers, in order.
        activation: After each hidden layer, one of ``ACTIVATIONS``.
        output: After the last one, likewise.
        code: Number of the hidden layer, from 1, that has no activation; None: all have.
        init_gain: Of Glorot's uniform weights, with biases of 0; None: torch's own start. Sigmoids
            want 4 (Glorot and Bengio, 2010): from torch's a deep network of them does not leave the
            mean of its targets.

    Raises:
        UserError: If a width or the gain is not positive, an activation unknown, or the code is no
            hidden layer.
    """
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise UserError(f"Invalid widths: {list(widths)}. Must be whole numbers >= 1.")
    for name, chosen in (("activation", activation), ("output", output)):
        if chosen not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"Invalid {name}: {chosen!r}. Must be one of: {known}.")
    if code is not None and not (type(code) is int and 1 <= code <= len(widths)):
        raise UserError(f"Invalid code: {code}. Must be null, or from 1 to {len(widths)}.")
    if init_gain is not None and not init_gain > 0:
        raise UserError(f"Invalid init_gain: {init_gain}. Must be > 0, or null.")
    sizes = [features, *widths, outputs]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (d_in, d_out) in enumerate(pairwise(sizes), 1):
        layer = nn.Linear(d_in, d_out)
        if init_gain is not None:
            nn.init.xavier_uniform_(layer.weight, gain=init_gain)
            nn.init.zeros_(layer.bias)
        layers[f"layer{number}"] = layer
        if number != code:
            kind = ACTIVATIONS[activation if number <= len(widths) else output]
            layers[f"activation{number}"] = kind()
    return nn.Sequential(layers)
