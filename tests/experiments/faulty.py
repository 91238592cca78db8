"""An optimizer that goes wrong on purpose, for tests of sweeps."""

from typing import Any

import torch

FAULTS = ("none", "diverges", "raises", "takes_memory", "waits")


class FaultySGD(torch.optim.SGD):
    """SGD that goes wrong in its first step.

    Args:
        fault: What goes wrong; the rest after a colon tells runs apart.
    """

    def __init__(self, params: Any, fault: str, **settings: Any) -> None:
        self.fault = fault.partition(":")[0]
        if self.fault not in FAULTS:
            raise ValueError(f"Invalid fault: {fault}. Must be one of {FAULTS}.")
        settings["lr"] = 1e30 if self.fault == "diverges" else settings["lr"]
        super().__init__(params, **settings)

    def step(self, closure: Any = None) -> Any:
        if self.fault == "raises":
            raise ArithmeticError("the fault of this test")
        if self.fault == "takes_memory":
            torch.empty(64 * 10**9, dtype=torch.uint8)
        return super().step(closure)
