"""When a run has diverged: a loss, a metric or a weight is no finite number any more."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from experiments.engine.ranks import Ranks


class DivergedError(Exception):
    """A run ends, as it computes with numbers that are none.

    Args:
        reason: One line: what is not finite, its value, and the step.
        row: The evaluation that shows it; None where it was seen without one.
    """

    def __init__(self, reason: str, *, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.row = row


def check(values: Mapping[str, float], step: int, *, cause: BaseException | None = None) -> None:
    """Refuse numbers that are not finite.

    Args:
        values: By their names.
        step: After which they were computed.
        cause: What this process alone may have met because of them.

    Raises:
        DivergedError: At the first that is not finite.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} at step {step}") from cause


def check_row(row: Mapping[str, float]) -> None:
    """Refuse an evaluation in which any number is not finite: a loss may be where it is not.

    Raises:
        DivergedError: With the row, at the first number that is not finite.
    """
    try:
        check(row, int(row["step"]))
    except DivergedError as error:
        raise DivergedError(str(error), row=row) from None


def check_tensor(name: str, value: Tensor, step: int) -> None:
    """Refuse a tensor in which any number is not finite.

    Raises:
        DivergedError: With the first that is not.
    """
    found = _first(value)
    if found is not None:
        raise DivergedError(f"{name} is {found} at step {step}")


def check_weights(model: nn.Module, step: int, *, world: Ranks) -> None:
    """Refuse weights that are not finite.

    An evaluation need not show them, as of the embedding of a token that it does not hold, and no
    evaluation need follow.

    Args:
        model: Plain, or split over the processes.
        step: The last update.
        world: The processes that train it; all have to call, and all get the same answer.

    Raises:
        DivergedError: At the first trained parameter with a number that is not finite.
    """
    trained = ((name, param) for name, param in model.named_parameters() if param.requires_grad)
    own = next((item for item in ((name, _first(p)) for name, p in trained) if item[1]), None)
    found = next((item for item in world.gather(own) if item is not None), None)
    if found is not None:
        raise DivergedError(f"weight {found[0]} is {found[1]} at step {step}")


def _first(value: Tensor) -> str | None:
    """Find the first number that is not finite, as Python writes it; None if all are."""
    # Of a split parameter this process looks at its own part.
    local: Tensor = value.to_local() if hasattr(value, "to_local") else value
    local = local.detach()
    finite = local.isfinite()
    return None if bool(finite.all()) else str(float(local[~finite][0]))
