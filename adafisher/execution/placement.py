"""What of a step stays as it was at the last one, so that it need not be worked out again."""

from __future__ import annotations

from adafisher.execution.step import Update


class Placement:
    """Where a parameter, its momentum and its terms lie; their values may change."""

    def __init__(self, update: Update) -> None:
        """Remember that of an update."""
        self._param, self._exp_avg, self._terms = update.param, update.exp_avg, update.terms
        self._layout = _layout(update)

    def is_of(self, update: Update) -> bool:
        """Tell whether another update has the same tensors, in the same places."""
        return (
            update.param is self._param
            and update.exp_avg is self._exp_avg
            and update.terms is self._terms
            and self._layout == _layout(update)
        )


def _layout(update: Update) -> tuple[object, ...]:
    """Give what changes when others put something else into the same tensors."""
    param, exp_avg = update.param, update.exp_avg
    return param.data_ptr(), param.shape, param.stride(), exp_avg.data_ptr(), exp_avg.stride()
