"""Which weights are evaluated: those in training, or others in their place.

Others are what an optimizer's ``eval()`` makes of them, or their exponential moving average.
Training goes on bit for bit from where it was, however often it is evaluated: going to an average
and back by the optimizer's own ``eval()`` and ``train()`` costs a rounding each time.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from experiments.engine.built import Built

BATCHES = 50
"""Batches that the statistics of BatchNorm are estimated from, as in the examples of Schedule-Free
(Defazio et al. 2024, arXiv 2405.15682, https://github.com/facebookresearch/schedule_free)."""


def set_training(optimizer: Optimizer, training: bool) -> None:
    """Tell an optimizer that has ``train()`` and ``eval()`` which of them follows."""
    change = getattr(optimizer, "train" if training else "eval", None)
    if callable(change):
        change()


class EvaluatedWeights:
    """Puts the weights that are evaluated in place of those in training, and back.

    Args:
        built: The run.
        pass_over: Runs the model on so many batches of the training data, always the same, for the
            statistics of BatchNorm: those that were kept in training are of other weights.
    """

    def __init__(self, built: Built, *, pass_over: Callable[[int], None]) -> None:
        self._built, self._pass_over = built, pass_over
        self._params = list(built.model.parameters())
        self._norms = [
            module
            for module in built.model.modules()
            if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]
        self._average: list[Tensor] | None = None
        self._ema = None if built.ema is None else get_ema_multi_avg_fn(built.ema)
        switches = all(callable(getattr(built.optimizer, name, None)) for name in ("train", "eval"))
        self._are_others = switches or self._ema is not None

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average, which begins with the first ones."""
        if self._ema is None:
            return
        if self._average is None:
            self._average = [param.detach().clone() for param in self._params]
        else:
            self._ema(self._average, [param.detach() for param in self._params], 1)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model with the weights that are evaluated, and with their statistics."""
        if not self._are_others:
            yield
            return
        buffers = [buffer for norm in self._norms for buffer in norm.buffers()]
        kept = _copied([*self._params, *buffers])
        set_training(self._built.optimizer, False)
        try:
            if self._average is not None:
                _copy(self._average, self._params)
            self._estimate()
            yield
        finally:
            set_training(self._built.optimizer, True)
            _copy(kept, [*self._params, *buffers])

    def state_dict(self) -> dict[str, Any]:
        """Give the average, if there is one."""
        return {} if self._average is None else {"average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        if "average" in state:
            pairs = zip(state["average"], self._params, strict=True)
            self._average = [kept.to(param.device, copy=True) for kept, param in pairs]

    @torch.no_grad()
    def _estimate(self) -> None:
        """Estimate the statistics of every BatchNorm anew, each batch with the same weight."""
        if not self._norms:
            return
        model, moments = self._built.model, [norm.momentum for norm in self._norms]
        model.eval()  # but for these layers: a dropout would draw from the stream of the training
        for norm in self._norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a mean of all batches
        self._pass_over(BATCHES)
        for norm, momentum in zip(self._norms, moments, strict=True):
            norm.momentum = momentum
        model.train()


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for one, other in zip(source, target, strict=True):
        other.copy_(one)
