"""Weights that are read outside of the calls of their layers, such as by ``F.linear(x, e.weight)``.

Their gradient has a part that no rows belong to. No hook sees such a read, but the graph of the
model's output does: each read is an edge to the weight's ``AccumulateGrad``. One forward pass of
the whole model is looked at, and its edges are compared with the calls that were watched in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from adafisher.layers.layer import Layer


class FirstPass:
    """The first forward pass of the whole model with anything to watch.

    Attributes:
        partial: Weights that were also read outside of watched calls; None before the pass.
    """

    def __init__(self, *, embeddings: bool) -> None:
        """Wait for it.

        Args:
            embeddings: Whether looking a token up is a read that counts.
        """
        self.partial: list[Tensor] | None = None
        self._embeddings = embeddings
        self._watched: Counter[Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the count of a pass under way."""
        return vars(self) | {"_watched": None}

    def begin(self) -> None:
        """Begin to count."""
        if self.partial is None:
            self._watched = Counter()

    def count(self, weight: Tensor) -> None:
        """Count a watched call."""
        if self._watched is not None:
            self._watched[weight] += 1

    def end(self, output: Any, layers: Iterable[Layer]) -> None:
        """Compare the calls with the reads, if there were any.

        Args:
            output: What the model returned.
            layers: The watched layers.
        """
        watched, self._watched = self._watched, None
        if watched:
            own = {layer.holders[0]: layer.roles()[0][1] for layer in layers}
            found = read_elsewhere(output, watched, embeddings=self._embeddings)
            self.partial = [own[weight] for weight in found if weight in own]


def read_elsewhere(output: Any, watched: Counter[Tensor], *, embeddings: bool) -> list[Tensor]:
    """Find watched weights with more edges in a graph than watched calls.

    Args:
        output: What the model returned.
        watched: How many calls were watched, by weight.
        embeddings: Whether looking a token up is a read that counts.

    Returns:
        The weights, in the order in which they were watched.
    """
    edges: Counter[Tensor] = Counter()
    nodes = [tensor.grad_fn for tensor in _tensors(output)]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None or (not embeddings and node.name().startswith("Embedding")):
            continue
        for following, _ in node.next_functions:
            leaf: Tensor | None = getattr(following, "variable", None)
            if leaf is not None:
                edges[leaf] += 1
            elif following not in seen:
                seen.add(following)
                nodes.append(following)
    return [weight for weight, calls in watched.items() if edges[weight] > calls]


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested containers, dataclasses included."""
    if isinstance(output, Tensor):
        yield output
        return
    parts: Iterable[Any] = ()
    if isinstance(output, dict):
        parts = output.values()
    elif isinstance(output, list | tuple):
        parts = output
    elif hasattr(output, "__dataclass_fields__"):
        parts = vars(output).values()
    for part in parts:
        yield from _tensors(part)
