"""The dense reference, trained once for whoever only reads what came of it."""

from collections.abc import Callable

import pytest

from tests.support.cases import Case
from tests.support.side_by_side import SideBySide

STEPS = 8


@pytest.fixture(scope="session")
def followed() -> Callable[[Case], SideBySide]:
    """Train a case with the defaults beside the reference, compared after every step."""
    kept: dict[str, SideBySide] = {}

    def follow(case: Case) -> SideBySide:
        if case.id not in kept:
            side = SideBySide(case)
            before = [param.clone() for param in side.model.parameters()]
            side.train(range(STEPS))
            trained = list(side.model.parameters())
            trainable = [param.requires_grad for param in trained]
            moved = [not p.equal(old) for p, old in zip(trained, before, strict=True)]
            assert moved == trainable
            kept[case.id] = side
        return kept[case.id]

    return follow
