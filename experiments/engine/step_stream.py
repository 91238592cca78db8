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

from experiments.config import code_files

State = dict[str, Any]

_DRAWN_FROM = {"random", "numpy"}
# What draws from torch's streams alone, and need not be looked through.
_QUIET = {*sys.stdlib_module_names, "torch", "adafisher", "experiments"} - _DRAWN_FROM


class StepStream:
    """Puts the streams of the step in place of those of the process, and back.

    These are torch's; and Python's and numpy's global ones where the code of the optimizer may draw
    from them, as they cost a quarter of a millisecond.

    Args:
        optimizer: Whose step it is.
        seed: Seed of the streams.
        device: Where the model is.
    """

    def __init__(self, optimizer: Optimizer, *, seed: int, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._python = _may_draw(optimizer)
        numpy = sys.modules.get("numpy")
        self._numpy: Any = numpy.random if numpy is not None and self._python else None
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


def _may_draw(optimizer: Optimizer) -> bool:
    """Tell whether the code of an optimizer has Python's or numpy's generators within reach.

    A file that was typed has whatever it names anywhere. A class of a library has what its module
    names, or a module that this one names, and so on, in whatever form; not what a function
    imports.
    """
    left = [kind.__module__ for kind in type(optimizer).__mro__]
    seen: set[str] = set()
    while left:
        name = left.pop()
        package = name.partition(".")[0]
        if package in _DRAWN_FROM or code_files.names_generators(name):
            return True
        if package not in _QUIET and name not in seen and name in sys.modules:
            seen.add(name)
            left += map(_origin, vars(sys.modules[name]).values())
    return False


def _origin(value: Any) -> str:
    """Name the module of a value, that of its object where it is a method of one."""
    if isinstance(value, ModuleType):
        return value.__name__
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else type(getattr(value, "__self__", None)).__module__
