"""Three steps of one architecture beside the oracle.

``python -m tests.zoo.check > tests/zoo/table.txt`` writes the table that the test holds.
"""

from __future__ import annotations

import copy
import statistics
import sys
import warnings
from collections import Counter
from importlib.util import find_spec
from typing import NamedTuple

import torch

from adafisher import AdaFisher
from tests.zoo.architectures import ZOO, Architecture
from tests.zoo.build import build, loss
from tests.zoo.oracle import Oracle

STEPS = 3
NO_ESTIMATE, NO_GRADIENT = "no estimate", "no gradient"


class Line(NamedTuple):
    """What came out of an architecture.

    Attributes:
        name: Its name.
        share: Elements with curvature as stepped, over all that are trained but for embeddings.
        elements: Those elements.
        embeddings: Elements of embeddings.
        reasons: Elements without curvature, by reason.
        error: Largest difference of ``F`` from the oracle's.
        unknown: Parameters with curvature that the oracle has none of.
        stuck: Parameters that had a gradient and did not move.
    """

    name: str
    share: float
    elements: int
    embeddings: int
    reasons: dict[str, int]
    error: float
    unknown: list[str]
    stuck: list[str]


def check(architecture: Architecture) -> Line:
    """Train, and compare after each step; the copy takes over the parameters, nothing else."""
    model = build(architecture)
    twin = copy.deepcopy(model)
    oracle, optimizer = Oracle(twin), AdaFisher(model, damping=1e-3)
    pairs = list(zip(model.named_parameters(), twin.parameters(), strict=True))
    before = {name: param.clone() for (name, param), _ in pairs}
    reached: set[str] = set()
    error, unknown = 0.0, set()
    for step in range(STEPS):
        with oracle:
            expected = loss(architecture, twin, step)
        expected.backward()
        oracle.average()
        actual = loss(architecture, model, step)
        actual.backward()
        assert torch.equal(actual, expected)
        optimizer.step()
        for (name, param), other in pairs:
            if param.grad is not None:
                reached.add(name)
            ours, theirs = optimizer.fisher_diag(param), oracle.fisher_diag(other)
            if ours is not None and theirs is None:
                unknown.add(name)
            elif ours is not None and theirs is not None:
                error = max(error, (ours - theirs).abs().max().item())
            with torch.no_grad():
                other.copy_(param)
            other.grad = None
        optimizer.zero_grad()
    coverage = optimizer.coverage()
    trained = {name: param for (name, param), _ in pairs if param.requires_grad}
    counted = {name: p for name, p in trained.items() if name not in coverage.embeddings}
    reasons: Counter[str] = Counter()
    for name, param in counted.items():
        if name not in reached:
            reasons[NO_GRADIENT] += param.numel()
        elif optimizer.fisher_diag(param) is None:
            reasons[coverage.reasons.get(name, NO_ESTIMATE)] += param.numel()
    elements = sum(param.numel() for param in counted.values())
    return Line(
        architecture.name,
        1 - sum(reasons.values()) / elements,
        elements,
        sum(trained[name].numel() for name in coverage.embeddings if name in trained),
        dict(reasons),
        error,
        sorted(unknown),
        [name for name in trained if name in reached and torch.equal(trained[name], before[name])],
    )


def table(lines: list[Line]) -> str:
    """The lines as text, and below them the median and the minimum of the share."""
    rows = [f"{'name':16} {'share':>7} {'elements':>10} {'embeddings':>10}  identity"]
    for line in lines:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(line.reasons.items()))
        rows.append(
            f"{line.name:16} {100 * line.share:6.2f}% {line.elements:10,} {line.embeddings:10,}  "
            f"{reasons}"
        )
    shares = {line.name: 100 * line.share for line in lines}
    lowest = min(shares, key=shares.__getitem__)
    median = statistics.median(shares.values())
    rows.append(f"median {median:.2f} %, minimum {shares[lowest]:.2f} % ({lowest})")
    return "\n".join(row.rstrip() for row in rows)


def absent(architecture: Architecture) -> bool:
    """Whether its library is not installed."""
    return find_spec(architecture.library) is None


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = [check(entry) for entry in ZOO if not absent(entry)]
    print(table(found))
    print(f"largest error of F: {max(line.error for line in found):.0e}", file=sys.stderr)
    sys.exit(any(map(absent, ZOO)))
