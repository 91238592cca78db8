"""What of a step stays as it was at the last one, so that it need not be worked out again."""

from __future__ import annotations

from torch import Tensor

from adafisher.execution.step import Update


class Placement:
    """Where a parameter, its momentum and its terms lie; their values may change."""

    def __init__(self, update: Update) -> None:
        """Remember that of an update."""
        self._param, self._exp_avg, self._terms = update.param, update.exp_avg, update.terms
        self._layout = _layout(update.param, update.exp_avg)

    def is_of(self, update: Update) -> bool:
        """Tell whether another update has the same tensors, in the same places."""
        param, _, exp_avg, terms, _, _ = update
        return (
            param is self._param
            and exp_avg is self._exp_avg
            and terms is self._terms
            and self._layout == _layout(param, exp_avg)
        )


def _layout(param: Tensor, exp_avg: Tensor) -> tuple[object, ...]:
    """Give what changes when others put something else into the same tensors."""
    return param.data_ptr(), param.shape, param.stride(), exp_avg.data_ptr(), exp_avg.stride()
