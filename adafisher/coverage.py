"""Which parameters have curvature."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import NamedTuple


class Coverage(NamedTuple):
    """Which of an optimizer's parameters have curvature, by name.

    Attributes:
        curvature: Parameters of a supported layer.
        identity: All others; they take plain bias-corrected momentum.
        identity_steps: Steps that a parameter of a supported layer took without an estimate.
        dropped: Estimates that were dropped because they were not finite, by layer.
        partial: Weights that are also read outside of the calls of their layers, where no rows are
            seen, as far as the first forward pass of the whole model shows it.
    """

    curvature: tuple[str, ...]
    identity: tuple[str, ...]
    identity_steps: dict[str, int]
    dropped: dict[str, int]
    partial: tuple[str, ...] = ()


def warn_uncovered(optimizer: str, coverage: Coverage, trainable: Collection[str]) -> None:
    """Warn once, naming the trainable parameters without curvature; silent if there are none.

    Args:
        optimizer: Name for the message.
        coverage: Coverage at construction.
        trainable: Names of the parameters that are not frozen.
    """
    uncovered = [name for name in coverage.identity if name in trainable]
    if uncovered:
        warnings.warn(
            f"{optimizer}: {len(uncovered)} of {len(trainable)} trainable parameters are in no "
            f"supported layer and take plain momentum (curvature 1): {', '.join(uncovered)}",
            stacklevel=4,
        )


def warn_unseen(layers: Collection[str]) -> None:
    """Warn of layers whose parameters have gradients that no hook has seen.

    Args:
        layers: Their names.
    """
    warnings.warn(
        f"AdaFisher: no rows came with the gradients of {_quoted(layers)}, so these layers take "
        "plain momentum (curvature 1). Their weights are read without calling them, the model was "
        "compiled and run before the optimizer was built, or the gradients were set by hand "
        "(loss.backward(inputs=...) in place of torch.autograd.grad brings rows).",
        stacklevel=5,
    )


def warn_partial(layers: Collection[str]) -> None:
    """Warn of weights that have rows for a part of their gradients only.

    Args:
        layers: Names of their layers.
    """
    warnings.warn(
        f"AdaFisher: the weights of {_quoted(layers)} are also read outside of the calls of these "
        "layers, as by F.linear(x, layer.weight), where no rows are seen: their curvature is that "
        "of a part of the gradient. A layer of its own that shares the Parameter is seen.",
        stacklevel=5,
    )


def warn_dropped(layers: Collection[str]) -> None:
    """Warn of estimates that are not finite.

    Args:
        layers: Names of their layers.
    """
    warnings.warn(
        f"AdaFisher: dropped an estimate that is not finite, of {_quoted(layers)}. "
        "coverage().dropped counts these and later ones.",
        stacklevel=5,
    )


def _quoted(names: Collection[str]) -> str:
    return ", ".join(map(repr, names))
