"""Which parameters have curvature."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import NamedTuple

_NAMES_SHOWN = 8


class Coverage(NamedTuple):
    """Which of an optimizer's parameters have curvature, by name.

    Attributes:
        curvature: Parameters of a supported layer.
        identity: All others; they take plain bias-corrected momentum.
        identity_steps: Steps that a parameter of a supported layer took without an estimate.
        dropped: Estimates that were dropped because they were not finite, by layer.
        partial: Weights that are also read outside of the calls of their layers, where no rows are
            seen, as far as the first forward pass of the whole model shows it.
        reasons: Why, one of ``reasons.REASONS``, of each of ``identity``.
        elements: Elements of each parameter, 0 where a lazy layer has no shape yet.
        embeddings: Parameters that belong to embeddings alone, with curvature or without.
    """

    curvature: tuple[str, ...]
    identity: tuple[str, ...]
    identity_steps: dict[str, int]
    dropped: dict[str, int]
    partial: tuple[str, ...] = ()
    reasons: Mapping[str, str] = {}
    elements: Mapping[str, int] = {}
    embeddings: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the elements that have curvature, embeddings left out; 1 without any."""
        covered, plain = (
            sum(self.elements.get(name, 0) for name in names if name not in self.embeddings)
            for names in (self.curvature, self.identity)
        )
        return covered / (covered + plain) if plain else 1.0

    def summary(self) -> str:
        """Say in three lines the share, what takes plain momentum and why, and what went wrong."""
        apart = sum(self.elements.get(name, 0) for name in self.embeddings)
        rest = sum(self.elements.values()) - apart
        plain = [name for name in self.identity if name not in self.embeddings]
        counts = {reason: 0 for reason in sorted({self.reasons.get(name, "") for name in plain})}
        for name in plain:
            counts[self.reasons.get(name, "")] += self.elements.get(name, 0)
        without = any(name in self.identity for name in self.embeddings)
        return "\n".join(
            (
                f"curvature: {100 * self.share:.1f} % of {rest:,} elements, and "
                f"{'none' if without else 'all'} of the {apart:,} of embeddings",
                "plain momentum: "
                + (", ".join(f"{reason} {n:,}" for reason, n in counts.items()) or "none"),
                f"steps without an estimate: {sum(self.identity_steps.values())}, dropped "
                f"estimates: {sum(self.dropped.values())}, weights read elsewhere too: "
                f"{len(self.partial)}",
            )
        )


def warn_uncovered(optimizer: str, coverage: Coverage, trainable: Collection[str]) -> None:
    """Warn once of the trainable parameters without curvature; silent if there are none.

    Args:
        optimizer: Name for the message.
        coverage: Coverage at construction.
        trainable: Names of the parameters that are not frozen.
    """
    uncovered = [name for name in coverage.identity if name in trainable]
    if not uncovered:
        return
    elements = sum(coverage.elements.get(name, 0) for name in trainable)
    share = sum(coverage.elements.get(name, 0) for name in uncovered) / max(1, elements)
    by_reason: dict[str, list[str]] = {}
    for name in uncovered:
        by_reason.setdefault(coverage.reasons.get(name, ""), []).append(name)
    cures = {"embedding": "embeddings=True", "layer of an unknown form": "register_layer"}
    groups = [
        f"{reason}{f' ({cures[reason]} gives curvature)' if reason in cures else ''}: "
        + ", ".join(names[:_NAMES_SHOWN])
        + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
        for reason, names in by_reason.items()
    ]
    warnings.warn(
        f"{optimizer}: {len(uncovered)} of {len(trainable)} trainable parameters are in no "
        f"supported layer and take plain momentum (curvature 1), {100 * share:.1f} % of the "
        f"elements; {'; '.join(groups)}",
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
