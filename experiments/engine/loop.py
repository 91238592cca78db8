"""The training loop: steps, evaluations, and a state that resumes bit for bit."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments import seeding
from experiments.engine import divergence, parallel
from experiments.engine.built import Built
from experiments.engine.evaluated import EvaluatedWeights
from experiments.engine.evaluation import curvature_columns, evaluate, forward
from experiments.engine.step import backward, differentiable_forward, take_step
from experiments.engine.step_stream import StepStream
from experiments.tasks.objective import CrossEntropy, Objective

Row = dict[str, Any]


class StoppedError(Exception):
    """Somebody asked the run to stop; its state is that after the last whole step."""


@dataclass
class Counters:
    """Where a run stands; plain numbers, part of every checkpoint."""

    step: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0  # of passes over the test split, which others count as training
    validation_seconds: float = 0.0  # likewise
    loss_sum: float = 0.0  # since the last evaluation, weighted by `count`
    count: int = 0  # terms of the loss since the last evaluation, as images or tokens
    total_count: int = 0
    best_validation: float | None = None  # of the metric that the task is judged by
    steps_to_target: int | None = None  # of a budget with a target: where it was reached
    train_seconds_to_target: float | None = None


def _beside(objective: Objective, targets: Any) -> dict[str, Any]:
    """Tell a method that samples labels of which likelihood; of plain logits it knows that."""
    if isinstance(objective, CrossEntropy):
        return {}
    return {"likelihood": objective.likelihood, "terms": objective.count(targets)}


class Trainer:
    """Trains one built run, a generator of one row an evaluation."""

    def __init__(
        self,
        built: Built,
        *,
        seed: int,
        on_step: Callable[["Trainer", float], None] = lambda trainer, loss: None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self.built = built
        self.seed = seed
        self.counters = Counters()
        self._on_step = on_step
        self._stop_requested = stop_requested
        self.weights = EvaluatedWeights(built, pass_over=self._pass_over)
        self._stream = StepStream(
            built.optimizer, seed=seeding.derive(seed, "step"), device=built.device
        )
        self._base_lrs = [group["lr"] for group in built.optimizer.param_groups]
        # Dropout in one process is not to repeat that of another.
        rank = built.world.rank
        seeding.seed_global(seed, "training" if rank == 0 else f"training/{rank}")

    def run(self) -> Iterator[Row]:
        """Train to the end of the budget.

        Yields:
            One row an evaluation, with the metrics of every split there is.

        Raises:
            DivergedError: At the first loss or metric that is not finite, or at the end for weights
                that are not. An evaluation that shows it is with the error, and not yielded.
            StoppedError: After the first step at whose end a stop was requested.
        """
        if self._has_ended():
            return
        for loss in self.steps():
            step = self.counters.step
            divergence.check({"loss": loss}, step)
            if self._evaluates_after(step):
                row = self._row()
                divergence.check_row(row)
                self._note_target(row)
                yield row
            self._on_step(self, loss)
            if self.built.world.any(self._stop_requested()):
                raise StoppedError(f"stopped after step {step}")
            if self._has_ended():
                return

    def steps(self) -> Iterator[float]:
        """Train without end, one epoch after another, and without evaluations.

        The clock of ``counters.train_seconds`` stands still between a step and the next.

        Yields:
            The loss of each step, after it.
        """
        built, counters = self.built, self.counters
        while True:
            epoch, start = divmod(counters.step, built.steps_per_epoch)
            batches = built.task.train.batches(
                built.batch_size, seed=seeding.derive(self.seed, "data", epoch), start=start
            )
            clock = self._now()
            # All of them, but for a ragged last one that is left out.
            for inputs, targets in itertools.islice(batches, built.steps_per_epoch - start):
                loss, count = self._step(inputs, targets)
                # Every decision falls alike in all processes, as they agree on these two.
                loss, seconds = built.world.mean([loss, self._now() - clock])
                counters.step += 1
                counters.loss_sum += loss * count
                counters.count += count
                counters.total_count += count
                counters.train_seconds += seconds
                yield loss
                clock = self._now()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain numbers.

        It is that of one process, with a random state for each; all processes have to call.
        """
        rng = {"cpu": torch.get_rng_state()}
        if self.built.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.built.device)
        kept = {"gradients": self._gradients()} if self.built.keeps_gradients else {}
        return {
            **kept,
            **self.weights.state_dict(),
            "step_stream": self._stream.state_dict(),
            "model": parallel.whole(self.built.model.state_dict()),
            "optimizer": parallel.whole(self.built.optimizer.state_dict()),
            "precision": self.built.precision.state_dict(),
            "counters": dict(vars(self.counters)),
            "rng": self.built.world.gather(rng),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()`` of an equal run, of however many processes."""
        built = self.built
        parallel.load_model(built.model, state["model"])
        parallel.load_optimizer(built.optimizer, state["optimizer"])
        for name, grad in state.get("gradients", {}).items():
            param = built.model.get_parameter(name)
            param.grad = grad.to(param.device, copy=True)
        built.precision.load_state_dict(state["precision"])
        self.weights.load_state_dict(state)
        self._stream.load_state_dict(state.get("step_stream", {}))
        self.counters = Counters(**state["counters"])
        if len(state["rng"]) == built.world.size:
            rng = state["rng"][built.world.rank]
            torch.set_rng_state(rng["cpu"])
            if "cuda" in rng and built.device.type == "cuda":
                torch.cuda.set_rng_state(rng["cuda"], built.device)
        else:  # other processes: other streams, which must not begin again where they began
            stream = f"training/{built.world.rank}/{built.world.size}/{self.counters.step}"
            seeding.seed_global(self.seed, stream)

    def _gradients(self) -> dict[str, Tensor]:
        """Those that the next step adds to, the same in all processes."""
        named = self.built.model.named_parameters()
        return {name: param.grad for name, param in named if param.grad is not None}

    def _step(self, inputs: Any, targets: Any) -> tuple[float, int]:
        """Take the step that is next, at its learning rate; see ``train_on``."""
        built = self.built
        counters = self.counters
        factor = built.schedule(built.limits.progress(counters.step, counters.train_seconds))
        for group, base in zip(built.optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = base * factor
        return self.train_on(inputs, targets)

    def train_on(self, inputs: Any, targets: Any) -> tuple[float, int]:
        """Train on a batch of all processes, whose step nobody counts here.

        Returns:
            The loss of this process, and how many terms that of all has.
        """
        built = self.built
        count = built.task.objective.count(targets)
        share = built.world.share(inputs, targets)
        losses: list[Tensor] = []

        def compute_loss() -> Tensor:
            loss = self._backward(*share, count=count)
            losses.append(loss.detach())
            return loss

        try:
            loss = take_step(
                built.optimizer,
                compute_loss,
                takes_closure=built.takes_closure,
                step=built.precision.step,
                keeps_gradients=built.keeps_gradients,
                stream=self._stream,
            )
            self.weights.update()
        except Exception as error:
            # A method may refuse gradients that are not finite before anyone has seen the loss.
            for found in losses:
                divergence.check({"loss": found.item()}, self.counters.step + 1, cause=error)
            raise
        return loss.item(), count

    def _backward(self, inputs: Any, targets: Any, *, count: int) -> Tensor:
        """Compute the loss of this process's rows, and leave the gradients at the parameters.

        Args:
            inputs: Rows of this process.
            targets: Theirs.
            count: Terms of the loss, of all processes.
        """
        built = self.built
        with differentiable_forward(built.creates_graph):
            outputs, targets = forward(built, inputs, targets)
        objective, size = built.task.objective, built.world.size
        total = objective.total(outputs, targets)
        # The mean over all terms; in several processes the part whose mean over them it is.
        loss = total / count if size == 1 else total * (size / count)
        if built.observes_logits:  # the flag says that the method is there
            built.optimizer.observe(  # type: ignore[attr-defined]
                objective.predicted(outputs, targets), **_beside(objective, targets)
            )
        backward(built.precision.scaled(loss), create_graph=built.creates_graph)
        return loss

    def _evaluates_after(self, step: int) -> bool:
        """Tell whether to evaluate: evenly over each epoch, at its end and at that of the run."""
        every = self.built.evaluate_every
        if every is not None:
            return step % every == 0 or self._is_used_up()
        within = (step - 1) % self.built.steps_per_epoch + 1
        times, length = self.built.evaluations_per_epoch, self.built.steps_per_epoch
        passed = within * times // length > (within - 1) * times // length
        return passed or self._is_used_up()

    def _is_used_up(self) -> bool:
        return self.built.limits.is_met(self.counters.step, self.counters.train_seconds)

    def _has_ended(self) -> bool:
        """Tell whether the budget is met; the last weights are then those of a run that is done."""
        if not self._is_used_up() and self.counters.steps_to_target is None:
            return False
        divergence.check_weights(self.built.model, self.counters.step, world=self.built.world)
        return True

    def _row(self) -> Row:
        built, counters = self.built, self.counters
        row: Row = {
            "step": counters.step,
            "epoch": counters.step / built.steps_per_epoch,
            "train_seconds": counters.train_seconds,
            "lr": built.optimizer.param_groups[0]["lr"],
            "train_loss": counters.loss_sum / counters.count,
        }
        counters.loss_sum, counters.count = 0.0, 0
        with self.weights.in_place():
            if (validation := built.task.validation) is not None:
                clock = self._now()
                row |= {f"validation_{k}": v for k, v in evaluate(built, validation).items()}
                counters.validation_seconds += built.world.mean([self._now() - clock])[0]
                is_best = self._is_best(row)
            if (test := built.task.test) is not None and (
                not built.tests_at_best or is_best or self._is_used_up()
            ):
                clock = self._now()
                row |= {f"test_{key}": value for key, value in evaluate(built, test).items()}
                counters.evaluation_seconds += built.world.mean([self._now() - clock])[0]
        return row | curvature_columns(built, by_layer=built.curvature_by_layer)

    def _is_best(self, row: Row) -> bool:
        """Tell whether the metric on validation is better than it ever was, and keep it."""
        task, counters = self.built.task, self.counters
        value, best = row[task.judged_on], counters.best_validation
        is_best = best is None or (value > best if task.higher_is_better else value < best)
        if is_best:
            counters.best_validation = value
        return is_best

    def _pass_over(self, most: int) -> None:
        """Run the model on whole batches of the training data, the same at every call."""
        built = self.built
        batches = built.task.train.batches(
            built.batch_size, seed=seeding.derive(self.seed, "batch_norm")
        )
        whole = max(1, len(built.task.train) // built.batch_size)
        for inputs, targets in itertools.islice(batches, min(most, whole)):
            forward(built, *built.world.share(inputs, targets))

    def _note_target(self, row: Row) -> None:
        """Keep where the metric first reached the target, if the budget has one."""
        target, task, counters = self.built.limits.target, self.built.task, self.counters
        if target is None or counters.steps_to_target is not None:
            return
        value = row[task.judged_on]
        if value >= target if task.higher_is_better else value <= target:
            counters.steps_to_target = counters.step
            counters.train_seconds_to_target = counters.train_seconds

    def _now(self) -> float:
        """Seconds of a monotonic clock, once the device has done what it was given."""
        if self.built.device.type == "cuda":
            torch.cuda.synchronize(self.built.device)
        return time.perf_counter()
