"""Optimizers that go wrong on purpose, for tests of sweeps."""

import os
import signal
import time
from typing import Any

import torch

FAULTS = ("none", "diverges", "raises", "takes_memory", "dies", "compiles")
COMPILING_SECONDS = 0.8
_compiled: list[bool] = []


class _Faulty(torch.optim.Optimizer):
    """An optimizer that goes wrong in its first step.

    Args:
        fault: What goes wrong; the rest after a colon tells runs apart.
    """

    goes_wrong = True

    def __init__(self, params: Any, fault: str, **settings: Any) -> None:
        self.fault = fault.partition(":")[0] if self.goes_wrong else "none"
        if self.fault not in FAULTS:
            raise ValueError(f"Invalid fault: {fault}. Must be one of {FAULTS}.")
        settings["lr"] = 1e30 if self.fault == "diverges" else settings["lr"]
        super().__init__(params, **settings)
        # A hook, as a `step` of its own that calls its parent's would run other hooks twice.
        self.register_step_pre_hook(_go_wrong)


def _go_wrong(optimizer: Any, args: Any, kwargs: Any) -> None:
    if optimizer.fault == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if optimizer.fault == "raises":
        raise ArithmeticError("the fault of this test")
    if optimizer.fault == "takes_memory":
        torch.empty(64 * 10**15, dtype=torch.uint8)
    if optimizer.fault == "compiles" and not _compiled:  # once a process, whoever comes first
        _compiled.append(True)
        time.sleep(COMPILING_SECONDS)


class FaultySGD(_Faulty, torch.optim.SGD):
    """SGD that goes wrong."""


class FaultyAdam(_Faulty, torch.optim.Adam):
    """Adam that goes wrong."""
