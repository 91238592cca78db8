"""A task of one's own, tried out before anything is recorded: what is wrong with it is one line."""

import math
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.parameter import is_lazy

from experiments import seeding
from experiments.config.run_config import RunConfig
from experiments.engine.build import build_model, build_task
from experiments.engine.evaluation import passed
from experiments.errors import UserError, one_line
from experiments.likelihood import BERNOULLI, CATEGORICAL, GAUSSIAN
from experiments.tasks.batches import leaves, mapped, rows
from experiments.tasks.objective import LOSS
from experiments.tasks.task import Split, Task

FEW = 8  # samples of the training batch
NEARLY_ZERO = 1e-6  # sums of which nothing is told by how they grow


def check(config: RunConfig) -> Task:
    """Build the config's task and its model, and take a step and an evaluation of each kind apart.

    Args:
        config: One whose task is a file that was typed.

    Returns:
        The task.

    Raises:
        UserError: If something of the file raises, the loss does not depend on the model or is no
            number, or a metric is none.
    """
    name = config.task.name
    with torch.random.fork_rng(devices=[]):
        task = _tried(config, "build", lambda: build_task(config))
        seeding.seed_global(config.seed, "init")
        model = _tried(config, "making the model", lambda: build_model(config.model, task))
        if not isinstance(model, nn.Module):
            raise UserError(f"Invalid task: {name!r}. Its model is a {type(model).__name__}.")
        untouched = {name: buffer._version for name, buffer in model.named_buffers()}
        size = min(FEW, config.task.batching.batch_size)
        batch = _tried(config, "reading train", lambda: next(task.train.batches(size, seed=0)))
        _check_loss(config, task, model, batch)
        _check_made_anew(config, task, model, untouched)
        with torch.no_grad():
            outputs, targets = _passed(config, model.eval(), batch)
        _check_sums(config, task, outputs, targets)
        _check_likelihood(config, task, outputs, targets)
        for part, split in (("validation", task.validation), ("test", task.test)):
            if split is not None:
                _check_metrics(config, task, model, part, split)
    return task


def _check_loss(config: RunConfig, task: Task, model: nn.Module, batch: Any) -> None:
    outputs, targets = _passed(config, model.train(), batch)
    count = _tried(config, "count", lambda: task.objective.count(targets))
    total = _tried(config, "the loss", lambda: task.objective.total(outputs, targets))
    name = config.task.name
    if not isinstance(count, int) or count < 1:
        raise UserError(f"Invalid task: {name!r}. The count of a batch is {count!r}: must be >= 1.")
    trained = [param for param in model.parameters() if param.requires_grad]
    grads: Any = ()
    if total.requires_grad and trained:
        grads = torch.autograd.grad(total, trained, allow_unused=True)
    if all(grad is None for grad in grads):
        raise UserError(
            f"Invalid task: {name!r}. Its loss does not depend on the parameters of the model."
        )
    if not math.isfinite(total.item()):
        raise UserError(
            f"Invalid task: {name!r}. Its loss is {total.item()} before the first step."
        )


def _check_made_anew(
    config: RunConfig, task: Task, model: nn.Module, untouched: dict[str, int]
) -> None:
    """Refuse a model that shares what training changes with the next: a run would not start anew.

    Buffers that no forward pass changes, as a constant of the file, may be shared.
    """
    again = _tried(config, "making the model", lambda: build_model(config.model, task))
    own: dict[str, Tensor] = {
        name: one for name, one in model.named_buffers() if one._version != untouched.get(name)
    }
    own |= {name: param for name, param in model.named_parameters() if param.requires_grad}
    others = {_memory(one) for one in (*again.parameters(), *again.buffers()) if not is_lazy(one)}
    shared = [name for name, one in own.items() if one.numel() and _memory(one) in others]
    if shared:
        raise UserError(
            f"Invalid task: {config.task.name!r}. Its model has the same {shared[0]} each time, so "
            "that a run would go on from what another trained. Must be made anew: model=Net or "
            "model=lambda: Net(), not model=lambda: net."
        )


@torch.no_grad()
def _check_sums(config: RunConfig, task: Task, outputs: Any, targets: Any) -> None:
    """Refuse a loss or metric that is a mean already, which would be divided by a count again.

    For a batch twice a sum grows as the count does, and a mean stays; terms that hang together, as
    those of a contrastive loss, may grow more. What has axes is taken for terms.
    """
    objective = task.objective
    terms: dict[str, Any] = {LOSS: objective.loss}
    terms |= {metric.name: metric.terms for metric in objective.metrics}
    for name, function in terms.items():
        try:
            twice = _twice(outputs), _twice(targets)
            growth = objective.count(twice[1]) / objective.count(targets)
            sums = function(outputs, targets), function(*twice)
            if not isinstance(sums[0], Tensor) or sums[0].dim():
                continue
            once, again = map(float, sums)
            if float(function(outputs, targets)) != once:  # it draws
                continue
        except Exception:  # no such batch; or a fault of the metric, which is told below
            continue
        if abs(once) > NEARLY_ZERO and 0 < again / once < 0.75 * growth:
            what = "loss" if name == LOSS else f"metric {name!r}"
            raise UserError(
                f"Invalid {what} of task {config.task.name!r}: {once:.4g} for a batch, and "
                f"{again:.4g} for that batch twice: a mean. Must be a sum, which is divided by the "
                'count, or a term a sample: reduction="sum" or reduction="none".'
            )


def _check_likelihood(config: RunConfig, task: Task, outputs: Any, targets: Any) -> None:
    r"""Refuse a likelihood of which the loss is not the negative log: its labels would be wrong.

    Of the output z the negative log is :math:`A(z) - z^T t` with a t of the target alone. So from
    one z to another the gradient of the loss changes as that of A does, whatever the targets are:
    softmax(z), sigmoid(z), or precision z.
    """
    objective, likelihood = task.objective, task.objective.likelihood
    if likelihood is None or likelihood.name not in _PARTITIONS:
        return
    predicted = _tried(config, "predicted", partial(objective.predicted, outputs, targets))
    tensors = [part for part in leaves(outputs) if isinstance(part, Tensor)]
    if not isinstance(predicted, Tensor) or not any(map(Tensor.is_floating_point, tensors)):
        return
    partition = partial(_PARTITIONS[likelihood.name], likelihood.precision)

    def at(moved: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give the predicted rows, and both gradients at outputs that are moved by noise."""
        torch.manual_seed(0)  # of a loss that draws as well
        z = mapped(partial(_moved, moved=moved), outputs)
        free = [part for part in leaves(z) if isinstance(part, Tensor) and part.requires_grad]
        z = mapped(Tensor.clone, z)  # a loss may change outputs in place, as those of a model
        total = objective.total(z, targets)
        rows = objective.predicted(z, targets)
        loss = torch.autograd.grad(
            total, free, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        formula = torch.autograd.grad(partition(rows), free, allow_unused=True)
        # Of outputs that are not predicted, as the mean and variance of a code, it says nothing.
        pairs = [pair for pair in zip(loss, formula, strict=True) if pair[1] is not None]
        first, second = (torch.cat([pair[which].flatten() for pair in pairs]) for which in (0, 1))
        return rows.detach(), first, second

    before, here, after = (
        _tried(config, f"the loss at outputs that are {likelihood.name}", partial(at, moved))
        for moved in (-1, 0, 1)
    )
    is_linear = torch.allclose(before[0] + after[0], 2 * here[0], rtol=1e-3, atol=1e-3)
    # Of log-probabilities A is 0, and its gradient ends at the logits before them.
    is_normalised = likelihood.name == CATEGORICAL and here[0].logsumexp(-1).abs().max() < 1e-4
    if not is_linear or is_normalised:
        return
    found, expected = after[1] - before[1], after[2] - before[2]
    rounding = 1e-5 * max(here[1].abs().max().item(), here[2].abs().max().item())
    apart = (found - expected).abs()
    if not apart.max() <= 0.02 * expected.abs().max() + rounding:
        worst = apart.argmax()
        raise UserError(
            f"Invalid likelihood of task {config.task.name!r}: {likelihood}. Where outputs move, "
            f"the gradient of the loss moves by {found[worst]:.4g}, and that of the likelihood by "
            f"{expected[worst]:.4g}. Must be that of which the loss is the negative log, or None."
        )


def _moved(part: Tensor, *, moved: int) -> Tensor:
    """Give an output that one can differentiate by, with noise added."""
    if not part.is_floating_point():
        return part
    return (part.detach() + moved * torch.randn_like(part)).requires_grad_()


_PARTITIONS: dict[str, Callable[[float, Tensor], Tensor]] = {
    CATEGORICAL: lambda precision, z: z.logsumexp(-1).sum(),
    BERNOULLI: lambda precision, z: softplus(z).sum(),
    GAUSSIAN: lambda precision, z: precision / 2 * z.square().sum(),
}


def _twice(batch: Any) -> Any:
    """Repeat a batch.

    Raises:
        ValueError: If it is not of tensors with common rows alone.
    """
    parts = list(leaves(batch))
    if not all(isinstance(part, Tensor) and part.dim() for part in parts):
        raise ValueError("Invalid batch: something else than tensors.")
    if len(set(map(len, parts))) != 1:
        raise ValueError("Invalid batch: tensors of different length.")
    return mapped(lambda part: torch.cat([part, part]), batch)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@torch.no_grad()
def _check_metrics(
    config: RunConfig, task: Task, model: nn.Module, part: str, split: Split
) -> None:
    """Measure the first batch; the whole split where that gives a number that is none."""
    model.eval()
    found: dict[str, float] = {}
    sums: dict[str, tuple[float, float]] = {}
    for batch in split.batches(config.task.batching.eval_batch_size):
        outputs, targets = _passed(config, model, batch)
        pairs = _tried(config, "a metric", partial(task.objective.sums, outputs, targets))
        for key, (total, count) in pairs.items():
            before = sums.get(key, (0.0, 0.0))
            sums[key] = (before[0] + total, before[1] + count)
        found = task.objective.measured(sums, split.facts)
        if all(map(math.isfinite, found.values())):
            break
    missing = [metric.name for metric in task.objective.metrics if metric.name not in found]
    if missing:
        raise UserError(
            f"Invalid metric: {missing[0]!r} of task {config.task.name!r}. It has no terms."
        )
    for key, value in found.items():
        if not math.isfinite(value):
            what = "loss" if key == LOSS else f"metric {key!r}"
            raise UserError(
                f"Invalid {what} of task {config.task.name!r}: it is {value} on {part} before the "
                f"first step ({rows(targets)} samples in the last batch). Must be a finite number."
            )


def _passed(config: RunConfig, model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Give outputs and targets of a batch as the run has them."""
    inputs, targets = batch
    call = partial(passed, model, inputs, targets, torch.device("cpu"))
    found: tuple[Any, Any] = _tried(config, "the model", call)
    return found


def _tried(config: RunConfig, what: str, call: Callable[[], Any]) -> Any:
    """Call something of the user's; what it raises is a line with its place in the file."""
    try:
        return call()
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, Exception) and _place(config, cause):
            raise refused(config, what, cause) from error
        if config.task.name in str(error):
            raise
        raise UserError(f"task={config.task.name}: {error}") from error
    except Exception as error:
        raise refused(config, what, error) from error


def refused(config: RunConfig, what: str, error: Exception) -> UserError:
    """Say where in the file of a task something was raised."""
    return UserError(
        f"task={config.task.name}: {what} raised {type(error).__name__}{_place(config, error)}: "
        f"{one_line(error)}"
    )


def _place(config: RunConfig, error: Exception) -> str:
    """Say in which line of a file that was typed; empty where it is in none."""
    paths = {file["path"] for file in (config.files or {}).values()}
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if frame.filename in paths]
    return f" (line {found[-1].lineno} of {Path(found[-1].filename).name})" if found else ""
