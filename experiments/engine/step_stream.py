"""The random streams that an optimizer draws from in its step: none that anything else draws from.

Without them a method that draws would give other dropout masks than one that does not, at the same
seed. In several processes they are the same, so that the copies of a model stay equal.
"""

import contextlib
import random
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer

State = dict[str, Any]


class StepStream:
    """Puts the streams of the step in place of those of the process, and back.

    These are torch's; and Python's and numpy's global ones where the code of the optimizer has the
    module, as they cost a quarter of a millisecond.

    Args:
        optimizer: Whose step it is.
        seed: Seed of the streams.
        device: Where the model is.
    """

    def __init__(self, optimizer: Optimizer, *, seed: int, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        used = _modules_of(optimizer)
        self._python = random in used
        numpy = sys.modules.get("numpy")
        self._numpy: Any = numpy.random if numpy is not None and numpy in used else None
        outer = self._state()
        torch.default_generator.manual_seed(seed)
        if self._device is not None:
            with torch.cuda.device(self._device):
                torch.cuda.manual_seed(seed)
        if self._python:
            random.seed(seed)
        if self._numpy is not None:
            self._numpy.seed(seed % 2**32)
        self._other = self._state()
        self._set(outer)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Draw from the streams of the step."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    outside = inside
    """Draw from those of the process again, as in the closure that a step calls."""

    def state_dict(self) -> State:
        """Give where the streams of the step stand, as tensors and plain numbers."""
        kept = dict(self._other)
        if "numpy" in kept:
            name, keys, *rest = kept["numpy"]
            kept["numpy"] = (name, torch.from_numpy(keys.astype("int64")), *rest)
        return kept

    def load_state_dict(self, state: State) -> None:
        """Go on from ``state_dict()``; what it does not have stays as it is."""
        kept = {key: value for key, value in state.items() if key in self._other}
        if "numpy" in kept:
            name, keys, *rest = kept["numpy"]
            kept["numpy"] = (name, keys.numpy().astype("uint32"), *rest)
        self._other = {**self._other, **kept}

    def _swap(self) -> None:
        here = self._state()
        self._set(self._other)
        self._other = here

    def _state(self) -> State:
        state: State = {"cpu": torch.default_generator.get_state()}
        if self._device is not None:
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        if self._python:
            state["python"] = random.getstate()
        if self._numpy is not None:
            state["numpy"] = self._numpy.get_state()
        return state

    def _set(self, state: State) -> None:
        torch.default_generator.set_state(state["cpu"])
        if self._device is not None:
            torch.cuda.set_rng_state(state["cuda"], self._device)
        if self._python:
            random.setstate(state["python"])
        if self._numpy is not None:
            self._numpy.set_state(state["numpy"])


def _modules_of(optimizer: Optimizer) -> list[ModuleType]:
    """List the modules that the code of an optimizer has by name; torch's own draws from torch."""
    found: list[ModuleType] = []
    for kind in type(optimizer).__mro__:
        if kind.__module__.partition(".")[0] not in ("builtins", "torch"):
            own = vars(sys.modules.get(kind.__module__)) if kind.__module__ in sys.modules else {}
            found += [value for value in own.values() if isinstance(value, ModuleType)]
    return found
