"""Runs of which is known whether they had learned: the values that they ended at."""

import math

import pytest

from experiments.records.collapse import is_collapsed

ACCURACY = {"higher_is_better": True, "unit": "%"}
ERROR = {"higher_is_better": False, "unit": ""}
NATS = {"higher_is_better": False, "unit": "nats"}


@pytest.mark.parametrize(
    ("final", "constant", "kind", "expected"),
    [
        (10.65, 11.35, ACCURACY, True),  # MNIST
        (10.2, 10.0, ACCURACY, True),  # CIFAR-10
        (4.776, 4.776, ERROR, True),  # autoencoder of digits
        (28.05, 28.0, ERROR, True),  # tinyshakespeare
        (345.0, 340.0, ERROR, True),  # Penn Treebank, 1,024 byte pairs
        (17.3, 10.0, ACCURACY, False),  # CIFAR-10 at a rate that is too large
        (2.23, 4.776, ERROR, False),
        (20.6, 28.0, ERROR, False),
        (281.0, 340.0, ERROR, False),
        (91.0, 90.0, ACCURACY, False),  # one class is nine of ten
        (90.4, 90.0, ACCURACY, True),
        (math.log(345.0), math.log(340.0), NATS, True),
        (math.log(281.0), math.log(340.0), NATS, False),
        (0.2, 0.0, {"higher_is_better": True, "unit": ""}, False),  # as an R^2
        (None, 10.0, ACCURACY, False),
        (10.0, None, ACCURACY, False),
    ],
)
def test_collapsed(final, constant, kind, expected):
    assert is_collapsed(final, constant, **kind) is expected
