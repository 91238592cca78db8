r"""The scalar control: what is left of an adaptive method when its curvature loses its shape.

``control=scalar`` trains by SGD with the method's momentum, and a step size that follows the mean
of the method's preconditioner. The mean is measured while the method itself trains, from the same
seed on the same batches: with the momentum :math:`m_t` (without its bias) and the step
:math:`\Delta_t` that the method took at the learning rate :math:`\eta_t`, decoupled decay aside,

.. math:: s_t = - \langle \Delta_t, m_t \rangle / (\eta_t \langle m_t, m_t \rangle).

For a diagonal preconditioner that is its mean over the parameters, each weighted by the square of
its momentum; for any method it is the step size with which momentum comes closest to its step. (An
unweighted mean would be ruled by parameters that hardly get a gradient: in Adam's they count
:math:`1 / \epsilon`.) The difference that remains between the two runs is due to the shape.
"""

import io
import logging
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.config import budget, targets
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection
from experiments.engine import decay, divergence, failures
from experiments.engine.build import build
from experiments.engine.built import Built
from experiments.engine.divergence import DivergedError
from experiments.engine.loop import Trainer
from experiments.engine.ranks import LostProcessError, Ranks
from experiments.errors import UserError
from experiments.optimizers.scalar_control import momentum_direction
from experiments.records.calibration import Calibration
from experiments.records.outcome import PreparationError
from experiments.records.reading import read_bytes
from experiments.records.schema import ARRAYS_DIR
from experiments.records.store import write_atomic
from experiments.tasks.task import Task

logger = logging.getLogger(__name__)

SCALAR = "scalar"
KINDS = (None, SCALAR)
TRACE = Path(ARRAYS_DIR) / "preconditioner.npz"


def check(config: RunConfig) -> None:
    """Refuse what cannot be controlled.

    Raises:
        UserError: If the kind is unknown, or the method or the way it runs has no scalar control.
    """
    kind = config.control
    if kind not in KINDS:
        raise UserError(f"Invalid control: {kind!r}. Must be {SCALAR}, or null.")
    if kind is None:
        return
    name = config.optimizer.name
    if config.optimizer.control is None:
        raise UserError(f"optimizer={name}: control=scalar needs a method with a preconditioner.")
    if budget.check(config.budget) not in budget.COUNTED:
        raise UserError(
            f"Invalid budget: {budget.describe(config.budget)}. With control=scalar it must "
            f"give a number of steps: one of {', '.join(budget.COUNTED)}."
        )
    if config.optimizer.needs.closure:
        raise UserError(
            f"optimizer={name}: not with control=scalar, as it evaluates the loss itself."
        )
    if config.optimizer.needs.keep_gradients:
        raise UserError("control=scalar: not with suite.needs.keep_gradients, which it clears.")
    for key, applies in (
        ("precision=fp16", config.precision == "fp16"),
        ("loss_scale", config.loss_scale is not None),
    ):
        if applies:
            raise UserError(f"control=scalar: not with {key}, as gradients are scaled there.")
    if config.distributed == "fsdp":
        raise UserError("control=scalar: not with distributed=fsdp, as it needs whole parameters.")


def source_of(config: RunConfig) -> RunConfig:
    """Give the config of the run whose control this is."""
    return config.having(control=None)


def scales(
    config: RunConfig,
    folder: Path,
    world: Ranks,
    *,
    calibration: Calibration | None = None,
    task: Task | None = None,
) -> Tensor | None:
    """Give the step sizes of a control, measured once and kept in its folder; None for other runs.

    Args:
        config: The resolved config.
        folder: The run's folder.
        world: The processes that train it; all have to call.
        calibration: What a step costs, for a budget that matches a training time.
        task: The config's task, where it is built already.

    Returns:
        ``[steps]``, float64.

    Raises:
        PreparationError: If the method itself fails or diverges: there is nothing to follow.
    """
    check(config)
    if config.control is None:
        return None
    path = folder / TRACE
    # Only the first process needs to see the folder.
    known = world.tell(_read(path) if world.leads else None)
    if known is not None:
        return torch.from_numpy(known)
    label = config.label
    if world.leads:
        logger.info("%s: training the method itself first, to measure its step sizes", label)
    try:
        measured = measure(source_of(config), world, calibration=calibration, task=task)
    except (UserError, LostProcessError, OSError):
        raise
    except DivergedError as error:
        reason = f"control=scalar: the method itself diverges: {error}"
        raise PreparationError(reason, status="diverged") from None
    except Exception as error:
        status, reason = failures.judge(error)
        reason = f"control=scalar: the method itself fails: {reason}"
        raise PreparationError(reason, status=status) from error
    if world.leads:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, scale=measured.numpy(), step=np.arange(1, len(measured) + 1))
        write_atomic(path, buffer.getvalue())
    return measured


def measure(
    config: RunConfig,
    world: Ranks,
    *,
    calibration: Calibration | None = None,
    task: Task | None = None,
) -> Tensor:
    """Train a run without evaluations and record its scalar at each step.

    Args:
        config: The run that is controlled.
        world: The processes that train it; all have to call.
        calibration: As for ``scales``.
        task: As for ``scales``.

    Returns:
        ``[steps]``, float64.

    Raises:
        DivergedError: If it diverges.
    """
    built = build(config, world, calibration=calibration, task=task)
    assert built.total_steps is not None  # `check` refuses such a budget
    recorder = Recorder(built, config.optimizer)
    losses = Trainer(built, seed=config.seed).steps()
    for step, loss in enumerate(islice(losses, built.total_steps), start=1):
        divergence.check({"loss": loss}, step)
    # No evaluation sees the last update.
    divergence.check_weights(built.model, built.total_steps, world=world)
    for step, scale in enumerate(world.mean(recorder.found), start=1):
        divergence.check({"step size": scale}, step)
    return torch.tensor(recorder.found, dtype=torch.float64)


class Recorder:
    """Measures at each step of an optimizer the scalar that comes closest to it.

    Args:
        built: The run, whose optimizer is watched by hooks.
        method: The optimizer's section of the config.
    """

    def __init__(self, built: Built, method: MethodSection) -> None:
        self.found: list[float] = []
        weight_decay = targets.number(method.arguments, "weight_decay")
        self._group = {**(method.control or {}), "weight_decay": weight_decay}
        self._exempt = decay.exempt(method.arguments, built.model)
        self._moments: dict[Tensor, Tensor] = {}
        self._steps: dict[Tensor, int] = {}
        self._before: list[tuple[Tensor, Tensor, Tensor]] = []
        built.optimizer.register_step_pre_hook(self._note)
        built.optimizer.register_step_post_hook(self._compare)

    @torch.no_grad()
    def _note(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._before = []
        for members in optimizer.param_groups:
            for param in members["params"]:
                if param.grad is None:
                    continue
                average = self._moments.setdefault(param, torch.zeros_like(param))
                self._steps[param] = self._steps.get(param, 0) + 1
                grad = param.grad.detach()
                group = self._group | {"weight_decay": self._weight_decay(param)}
                direction = momentum_direction(average, param, grad, self._steps[param], group)
                self._before.append((param, param.detach().clone(), direction))

    @torch.no_grad()
    def _compare(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        lr = optimizer.param_groups[0]["lr"]
        decoupled = self._group["decay"] == "decoupled"
        along, squares = 0.0, 0.0
        for param, before, direction in self._before:
            moved = param.detach() - before
            if decoupled and (weight_decay := self._weight_decay(param)):
                moved += before * (lr * weight_decay)
            along -= (moved.double() * direction.double()).sum().item()
            squares += direction.double().square().sum().item()
        self._before = []
        self.found.append(0.0 if lr * squares == 0 else along / (lr * squares))

    def _weight_decay(self, param: Tensor) -> float:
        return 0.0 if param in self._exempt else self._group["weight_decay"]


def _read(path: Path) -> Any:
    """Read the step sizes in a file; None without one, or where not all of them are finite."""
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as file:
            return file["scale"] if np.isfinite(file["scale"]).all() else None
    except Exception:  # numpy raises what its readers meet: no closed list of types
        return None
