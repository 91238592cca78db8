"""How a run executes: device, precision, compiler, memory format and processes.

Everything that cannot go together is refused here, by name and before anything starts.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine import parallel
from experiments.engine.precision import PRECISIONS
from experiments.errors import UserError
from experiments.system import ranks

DEVICES = ("auto", "cpu", "cuda", "mps")
AUTO = "auto"
_AVAILABLE = {
    "cpu": lambda: True,
    "cuda": lambda: torch.cuda.is_available(),  # looked up late: tests replace it
    "mps": lambda: torch.backends.mps.is_available(),
}


@dataclass(frozen=True)
class Compute:
    """The choices of a config, made for this machine and launch.

    Attributes:
        device: Where this process trains.
        precision: One of ``PRECISIONS``.
        compiled: Whether the model goes through ``torch.compile``.
        channels_last: Whether images lie so in memory; None where the device decides.
        strategy: How several processes share the model; None for one process.
        loss_scale: What a scaler of the loss begins with that the method does not know of; None
            for none.
    """

    device: torch.device
    precision: str
    compiled: bool
    channels_last: bool | None
    strategy: str | None
    loss_scale: float | None

    def lays_channels_last(self, *, images: bool) -> bool:
        """Tell whether a task's inputs and the model are laid out with the channels last.

        Raises:
            UserError: If it is asked for where there are no images.
        """
        if self.channels_last and not images:
            raise UserError(
                "Invalid channels_last: true. The task has no images: must be auto or false."
            )
        wanted = self.device.type == "cuda" if self.channels_last is None else self.channels_last
        return images and wanted


def resolve(config: RunConfig) -> Compute:
    """Read the config's choices.

    Raises:
        UserError: If one is unknown, or not possible on this machine or with this optimizer.
    """
    device = pick_device(config.device)
    precision, compiled = config.precision, config.compile
    loss_scale = config.loss_scale
    channels_last, strategy = config.channels_last, config.distributed
    _one_of("precision", precision, PRECISIONS)
    _one_of("compile", compiled, (True, False))
    _one_of("channels_last", channels_last, (AUTO, True, False))
    _one_of("distributed", strategy, parallel.STRATEGIES)
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"Invalid precision: tf32. It needs device=cuda, not {device.type}.")
    if precision == "fp16" and device.type == "mps":
        raise UserError("Invalid precision: fp16. It needs device=cuda or cpu, not mps.")
    if loss_scale is not None:
        _check_loss_scale(loss_scale, precision, device)
    if ranks.count() > 1 and device.type == "mps":
        raise UserError("Invalid device: mps. Several processes need cuda or cpu.")
    compute = Compute(
        device=device,
        precision=precision,
        compiled=compiled,
        channels_last=None if isinstance(channels_last, str) else channels_last,
        strategy=strategy if ranks.count() > 1 else None,
        loss_scale=loss_scale,
    )
    _check_optimizer(config.optimizer, compute)
    if compute.strategy == "fsdp":
        for key, value in (
            ("precision=fp16", precision == "fp16"),
            ("compile=true", compiled),
            (f"loss_scale={loss_scale}", loss_scale is not None),
        ):
            if value:
                raise UserError(f"{key}: not with distributed=fsdp. Use distributed=ddp.")
    return compute


def pick_device(name: str) -> torch.device:
    """Pick the device called ``name``; ``auto`` is the accelerator if there is one."""
    _one_of("device", name, DEVICES)
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    # Only what was asked for: a look at CUDA initialises it, which a run on the CPU need not pay.
    if not _AVAILABLE[name]():
        here = ", ".join([AUTO, *(device for device, is_there in _AVAILABLE.items() if is_there())])
        raise UserError(f"Invalid device: {name}. Must be one of those on this machine: {here}.")
    if name == "cuda" and ranks.count() > 1:
        if torch.cuda.device_count() < ranks.local_count():
            raise UserError(
                f"Invalid device: cuda. This machine has {torch.cuda.device_count()} for "
                f"{ranks.local_count()} processes. Must be one each, or device=cpu."
            )
        return torch.device("cuda", ranks.local_rank())
    return torch.device(name)


def _check_loss_scale(value: Any, precision: str, device: torch.device) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise UserError(f"Invalid loss_scale: {value!r}. Must be a finite number > 0, or null.")
    if precision == "fp16":
        raise UserError("loss_scale: not with precision=fp16, which has a scale of its own.")
    if device.type == "mps":
        raise UserError("Invalid loss_scale: it needs device=cuda or cpu, not mps.")


def _check_optimizer(section: MethodSection, compute: Compute) -> None:
    """Refuse what the method cannot do, by its flags under ``needs``."""
    needs = section.needs
    differentiates, looks = needs.create_graph, needs.logits
    fp16, several = compute.precision == "fp16", compute.strategy is not None
    keeps, kept = needs.keep_gradients, "optimizer.suite.needs.keep_gradients=true"
    refusals = (
        (keeps and differentiates, kept, "its gradients hold the graph that they were made by"),
        (keeps and needs.closure, kept, "it clears them itself"),
        (keeps and fp16, f"precision=fp16 and {kept}", "what is kept is unscaled already"),
        (
            keeps and compute.loss_scale is not None,
            f"loss_scale and {kept}",
            "what is kept is unscaled already",
        ),
        (keeps and compute.strategy == "fsdp", f"distributed=fsdp and {kept}", "they are split"),
        (differentiates and fp16, "precision=fp16", "the loss scale would stay in its curvature"),
        (differentiates and compute.compiled, "compile=true", "it differentiates twice"),
        (differentiates and several, "several processes", "only first gradients are averaged"),
        (looks and fp16, "precision=fp16", "its own backward pass is not scaled"),
        (looks and compute.compiled, "compile=true", "it reads the graph of the forward pass"),
        (needs.closure and fp16, "precision=fp16", "its closure is not scaled"),
        (
            needs.closure and compute.loss_scale is not None,
            "loss_scale",
            "a scaler takes no closure",
        ),
        (
            compute.strategy == "fsdp" and not section.is_shardable,
            "distributed=fsdp",
            "it needs whole parameters",
        ),
    )
    for applies, what, reason in refusals:
        if applies:
            raise UserError(f"optimizer={section.name}: not with {what}, as {reason}.")


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    # `1 == True` in Python; a number is no switch.
    if not any(value == known and type(value) is type(known) for known in allowed):
        names = ", ".join(str(known).lower() for known in allowed)
        raise UserError(f"Invalid {key}: {value!r}. Must be one of: {names}.")
