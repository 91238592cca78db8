"""Of which distribution of the targets a loss is the negative log: what samples labels asks it."""

from dataclasses import dataclass

CATEGORICAL, BERNOULLI, GAUSSIAN = "categorical", "bernoulli", "gaussian"


@dataclass(frozen=True)
class Likelihood:
    """A distribution of the targets given a model's output, whose negative log a loss adds up.

    Attributes:
        name: ``categorical``: logits ``[rows, classes]``, the cross-entropy. ``bernoulli``: a logit
            each, the binary cross-entropy. ``gaussian``: means of any shape, the squared error.
        precision: Of a Gaussian, whose terms are ``precision / 2 * (output - target)^2``: 2 where
            the loss is the plain squared error, 1 where it is half of it.
    """

    name: str
    precision: float = 1.0


LOGITS = Likelihood(CATEGORICAL)
"""That of logits under cross-entropy."""
