"""How long a run trains: the budget of its configuration, as a number of optimizer steps."""

from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError

KINDS = ("epochs", "steps")
TABLE = "by_optimizer"
"""Key of a table of amounts, from which a budget of ``conf/budget/`` has taken its own."""


def describe(budget: Mapping[str, Any]) -> str:
    """The budget in words, as tables print it.

    Example:
        >>> describe({"epochs": 5})
        '5 epochs'
    """
    kind, amount = _only(budget)
    return f"{amount} {kind if amount > 1 else kind.removesuffix('s')}"


def total_steps(budget: Mapping[str, Any], *, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run.

    Args:
        budget: ``{"epochs": n}`` or ``{"steps": n}``.
        steps_per_epoch: Steps in one pass over the training data.

    Returns:
        The number of steps, at least 1.

    Raises:
        UserError: If the kind is unknown or the amount is not a positive whole number.
    """
    kind, amount = _only(budget)
    return amount * steps_per_epoch if kind == "epochs" else amount


def _only(budget: Mapping[str, Any]) -> tuple[str, int]:
    given = {kind: amount for kind, amount in budget.items() if kind != TABLE}
    if len(given) != 1 or next(iter(given)) not in KINDS:
        raise UserError(f"Invalid budget: {given}. Must be exactly one of: {', '.join(KINDS)}.")
    kind, amount = next(iter(given.items()))
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
        raise UserError(f"Invalid budget.{kind}: {amount}. Must be a whole number >= 1.")
    return kind, amount
