"""Gradients of a loss with labels that are drawn from the model, as the Fisher matrix has them."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.likelihood import BERNOULLI, CATEGORICAL, GAUSSIAN, LOGITS, Likelihood


def sampled_gradient(
    outputs: Tensor, generator: torch.Generator, likelihood: Likelihood = LOGITS
) -> Tensor:
    r"""Gradient of the summed loss with labels drawn from the model.

    .. math::
        \text{categorical:} \quad \mathrm{softmax}(z) - e_y, \quad y \sim \mathrm{softmax}(z) \\
        \text{bernoulli:} \quad \sigma(z) - y, \quad y \sim \sigma(z) \\
        \text{gaussian:} \quad p (z - y), \quad y \sim N(z, 1 / p)

    All labels come by inverse transform sampling from a generator on the CPU, row by row: the same
    labels on every device.

    Args:
        outputs: Model output; z, ``[rows, ...]``, of a categorical one ``[..., classes]``.
        generator: Source of the labels, on the CPU.
        likelihood: Of which the loss is the negative log; p is its precision.

    Returns:
        The gradient at the outputs, in their shape.
    """
    precise = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    uniform = torch.rand(_draws(outputs, likelihood), generator=generator, dtype=torch.float64)
    return _GRADIENTS[likelihood.name](precise, uniform, likelihood.precision).to(outputs.dtype)


def rows_and_draws(outputs: Tensor, likelihood: Likelihood | None) -> tuple[int, int]:
    """Count the rows of a model's output, and the random numbers that a label of one takes."""
    if likelihood is None or likelihood.name != CATEGORICAL:
        return len(outputs), outputs[:1].numel()
    return outputs[..., 0].numel(), 1


def check(method: str, likelihood: Likelihood | None) -> None:
    """Refuse a likelihood whose labels are not drawn here.

    Raises:
        ValueError: With the names of those that are.
    """
    if likelihood is None or likelihood.name not in _GRADIENTS:
        loss = "says none" if likelihood is None else f"says {likelihood.name!r}"
        raise ValueError(
            f"Invalid fisher: 'mc'. {method} samples labels, for which the task must say of which "
            f"likelihood its loss is ({', '.join(_GRADIENTS)}), and it {loss}. Must be 'empirical'."
        )


def _draws(outputs: Tensor, likelihood: Likelihood) -> torch.Size:
    return outputs.shape[:-1] if likelihood.name == CATEGORICAL else outputs.shape


def _categorical(logits: Tensor, uniform: Tensor, precision: float) -> Tensor:
    probabilities = logits.softmax(-1)
    cumulative = probabilities.cumsum(-1)
    threshold = uniform.to(cumulative).unsqueeze(-1) * cumulative[..., -1:]
    labels = torch.searchsorted(cumulative, threshold, right=True)
    labels.clamp_(max=logits.shape[-1] - 1)
    minus_one = torch.full_like(probabilities[..., :1], -1)
    return probabilities.scatter_add_(-1, labels, minus_one)


def _bernoulli(logits: Tensor, uniform: Tensor, precision: float) -> Tensor:
    probabilities = logits.sigmoid()
    return probabilities - (uniform.to(logits) < probabilities).to(logits)


def _gaussian(means: Tensor, uniform: Tensor, precision: float) -> Tensor:
    # The open interval: at 0 the quantile is infinite.
    normal = torch.special.ndtri(uniform.clamp_(min=torch.finfo(uniform.dtype).tiny))
    return normal.to(means) * -(precision**0.5)


_GRADIENTS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    CATEGORICAL: _categorical,
    BERNOULLI: _bernoulli,
    GAUSSIAN: _gaussian,
}
