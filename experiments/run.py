"""One run, in one process or several: from a resolved config to a finished record."""

import contextlib
import json
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from experiments import (
    calibration,
    checkpoint,
    control,
    determinism,
    environment,
    faults,
    identity,
    rulesets,
    stopping,
)
from experiments.build import Built, build
from experiments.calibration_record import Calibration
from experiments.display import Display
from experiments.errors import UserError
from experiments.execution import pick_device
from experiments.loop import DivergedError, StoppedError, Trainer
from experiments.outcome import Outcome
from experiments.record import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    BrokenRecordError,
    final_and_best,
)
from experiments.store import RunFolder, settled
from experiments.tracking.mirror import Mirror, mirror_settled, open_mirror, subject_of_run
from experiments.world import LostProcessError, World, join


def execute(config: Mapping[str, Any], *, position: str = "") -> Outcome:
    """Run a config to its end, or go on where an earlier attempt stopped.

    Every process of a launch by ``torchrun`` calls it; the first one keeps the record.

    Args:
        config: The resolved config.
        position: Place in a sweep, as ``"run 3/24"``, for the display.

    Returns:
        The outcome; a finished run is skipped and returned as it ended.

    Raises:
        UserError: If something that the user can mend stands in the way.
    """
    with (
        determinism.strict(config.get("deterministic", False)),
        _all_present(),
        join(pick_device(config["device"])) as world,
    ):
        display = Display(f"{position} {identity.label(config)}".strip(), shown=world.leads)
        folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
        if not world.leads:
            settled_as: Outcome | None = world.tell(None)
            return settled_as or _attempt(config, folder, display, world, position)
        with folder.lock(on_wait=lambda: display.line("another process has this run; waiting")):
            earlier = settled(folder, retry=config["retry"], notify=display.line)
            outcome = earlier and Outcome(
                folder.run_id, identity.label(config), *earlier, skipped=True
            )
            world.tell(outcome)
            if outcome is not None:
                _mirror_settled(config, folder)
            return outcome or _attempt(config, folder, display, world, position)


@contextlib.contextmanager
def _all_present() -> Iterator[None]:
    try:
        yield
    except LostProcessError as error:  # outside of training, which records it
        raise UserError(f"{error}, before the training or after it") from error


def _mirror_settled(config: Mapping[str, Any], folder: RunFolder) -> None:
    run = folder.read()
    assert run is not None  # it was found settled, under the same lock
    subject = subject_of_run(
        run.run_id, identity=run.identity, config=config, folder=run.path, rows=run.rows
    )
    mirror_settled(config["tracking"], subject, run.summary)


def _attempt(
    config: Mapping[str, Any], folder: RunFolder, display: Display, world: World, position: str
) -> Outcome:
    """Build the run and train it, the lock being held."""
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    matched = calibration.of_run(config, folder, display.line)
    with warnings.catch_warnings(record=True) as caught:
        # A remark, as on parameters without curvature, belongs into the record of this run.
        warnings.simplefilter("always", UserWarning)
        scales = control.scales(config, folder.path, world, calibration=matched)
        built = build(config, world, calibration=matched, scales=scales)
    remarks = [str(warning.message) for warning in caught]
    if built.pretrained is not None:
        remarks.append(str(built.pretrained))
    if built.limits.target is not None and built.task.validation is None:
        remarks.append("budget.target is judged on test, as the task has no validation split")
    if not position:  # in a sweep every seed would repeat them
        for remark in remarks:
            display.line(remark)
    remarks += rulesets.remarks(config)  # the preflight has shown them
    return _Attempt(config, folder, built, display, remarks, matched).run()


class _Attempt:
    """One attempt at a run whose lock is held; only the first process writes."""

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: RunFolder,
        built: Built,
        display: Display,
        remarks: list[str],
        matched: Calibration | None,
    ) -> None:
        self.config, self.folder, self.built, self.display = config, folder, built, display
        self.remarks, self.leads, self.matched = remarks, built.world.leads, matched
        self.identity = identity.describe(config, built.task)
        self.stop = stopping.StopRequest()
        self.rows: list[dict[str, Any]] = []
        self.trainer = Trainer(
            built, seed=config["seed"], on_step=display.step, stop_requested=self.stop
        )

    def run(self) -> Outcome:
        self._resume()
        mirror = self._mirror()
        status, reason = "failed", None
        try:
            with self.stop.listen(), self.display.live(self.built):
                status, reason = self._train(mirror)
                # Here, where signals do not kill: a launcher stops all processes when one fails.
                self._write_status(status, reason)
        finally:
            # Also when something unforeseen passes through, the mirror must not hang at exit.
            mirror.finish(self._summary(), failed=status != "done")
        if status == "done" and self.leads:
            (self.folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)
        outcome = Outcome(self.folder.run_id, identity.label(self.config), status, reason)
        self.display.ended(outcome.status, outcome.reason, self._summary(), self.identity["metric"])
        if status in ("failed", "out_of_memory"):
            self.display.line(f"see {self.folder.path}")
        return outcome

    def _mirror(self) -> Mirror:
        if not self.leads:
            return Mirror()
        subject = subject_of_run(
            self.folder.run_id,
            identity=self.identity,
            config=self.config,
            folder=self.folder.path,
            rows=self.rows,
        )
        return open_mirror(self.config["tracking"], subject)

    def _resume(self) -> None:
        """Bring folder and trainer to one state: that of the checkpoint, or the beginning."""
        facts = environment.describe(self.built)
        # Only the first process needs to see the folder: machines may share no disk.
        state = self.built.world.tell(self._read_record() if self.leads else None)
        if state is not None:
            self.trainer.load_state_dict(state)
        if not self.leads:
            return
        folder = self.folder
        folder.create()
        faults.forget(folder)
        folder.write(CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(dict(self.config))).encode())
        environment.save(folder, facts | {"remarks": self.remarks}, resumed=state is not None)
        if self.matched is not None:
            folder.write(calibration.RUN_FILE, self.matched.to_json())
        self._write_status("running", None)
        if self.trainer.counters.step:
            self.display.line(f"resumed after step {self.trainer.counters.step}")

    def _read_record(self) -> dict[str, Any] | None:
        """The state to go on from, with the rows up to there."""
        folder = self.folder
        try:
            state = checkpoint.load(folder.path / CHECKPOINT_FILE, folder.run_id)
            known = folder.read() is not None
            step = state["counters"]["step"] if state is not None else 0
            self.rows = folder.cut_rows(step) if known else []
        except BrokenRecordError as error:
            self.display.line(
                f"broken record set aside as {folder.set_aside()}, starting anew ({error})"
            )
            return None
        if step:
            self._check_weights()
        return state

    def _check_weights(self) -> None:
        """Refuse to go on, and to record, under other weights than the run began from."""
        path = self.folder.path / ENVIRONMENT_FILE
        if self.built.pretrained is None or not path.exists():
            return
        began = json.loads(path.read_text()).get("pretrained") or {}
        found, wanted = self.built.pretrained.sha256, began.get("sha256")
        if wanted not in (None, found):
            raise UserError(
                f"pretrained.source={self.built.pretrained.source}: sha256 {found}, but run "
                f"{self.folder.run_id} began from {wanted}. Put that file back."
            )

    def _train(self, mirror: Mirror) -> tuple[str, str | None]:
        """Train to an end; returns its status and reason."""
        try:
            for row in self.trainer.run():
                self.rows.append(row)
                if self.leads:
                    self.folder.append_row(row)
                self._save()
                mirror.log(row)
                self.display.row(row)
        except StoppedError as stop:
            self._save()
            names = self.built.world.gather(self.stop.signal_name)
            return "interrupted", f"{next(name for name in names if name)}: {stop}"
        except DivergedError as error:
            return "diverged", str(error)
        except OSError:
            raise  # the disk, not the run: nothing more could be recorded
        except Exception as error:
            return faults.end_by(error, self.folder, self.built.world)
        return "done", None

    def _save(self) -> None:
        state = self.trainer.state_dict()
        if not self.leads:
            return
        self.folder.write(CHECKPOINT_FILE, checkpoint.dump(self.folder.run_id, state))
        self._write_status("running", None)

    def _write_status(self, status: str, reason: str | None) -> None:
        if not self.leads:
            return
        counters, built = self.trainer.counters, self.built
        progress = {
            "step": counters.step,
            "epoch": counters.step / built.steps_per_epoch,
            "train_seconds": counters.train_seconds,
            "total_steps": built.total_steps,
            "last_row_step": self.rows[-1]["step"] if self.rows else None,
        }
        self.folder.write_status(
            status, reason, identity=self.identity, progress=progress, summary=self._summary()
        )

    def _summary(self) -> dict[str, Any]:
        counters, task, device = self.trainer.counters, self.built.task, self.built.device
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        else:
            unit = (
                1 if sys.platform == "darwin" else 1024
            )  # ru_maxrss is bytes there, kibibytes elsewhere
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {
            "parameters": sum(p.numel() for p in self.built.model.parameters()),
            "state_bytes": _tensor_bytes(self.built.optimizer.state_dict()),
            "peak_memory_bytes": peak,
            f"{task.unit}_per_second": counters.total_count / max(counters.train_seconds, 1e-9),
            **self._budget_summary(),
            **final_and_best(self.rows, task.metric, task.higher_is_better),
        }

    def _budget_summary(self) -> dict[str, Any]:
        """What the budget gave, and what came of it."""
        limits, counters = self.built.limits, self.trainer.counters
        facts: dict[str, Any] = {}
        if limits.given_seconds is not None:
            facts["budget_train_seconds"] = limits.given_seconds
        if limits.target is not None:
            facts["target_metric"] = self.built.task.judged_on
            facts["steps_to_target"] = counters.steps_to_target
            facts["train_seconds_to_target"] = counters.train_seconds_to_target
        if self.matched is not None:
            facts["calibration"] = self.matched.summary()
        return facts


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_tensor_bytes(item) for item in value)
    return 0
