"""One attempt at a run whose lock is held: it is built, resumed where it stopped, and trained."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from experiments.config import rulesets
from experiments.config.run_config import RunConfig
from experiments.engine import checkpoint, failures, profiling
from experiments.engine.build import build, build_task
from experiments.engine.built import Built
from experiments.engine.compute import pick_device
from experiments.engine.divergence import DivergedError
from experiments.engine.loop import StoppedError, Trainer
from experiments.engine.machine import describe_machine
from experiments.engine.ranks import Ranks
from experiments.engine.warm_up import warm_up
from experiments.errors import UserError, refusal
from experiments.optimizers import left_alone
from experiments.records.calibration import RUN_FILE, Calibration
from experiments.records.outcome import Outcome
from experiments.records.schema import (
    CHECKPOINT_FILE,
    ENVIRONMENT_FILE,
    FAULTS,
    BrokenRecordError,
    load_environment,
)
from experiments.records.store import RunFolder
from experiments.run import control, environment, run_summary
from experiments.run.display import Display
from experiments.run.run_record import RunRecord
from experiments.system import signals
from experiments.system.memory import Peak
from experiments.tasks.constant import constant_prediction
from experiments.tasks.task import Task
from experiments.tracking.mirror import Mirror, open_mirror, subject_of_run

Calibrate = Callable[[RunConfig, RunFolder, Callable[[str], None]], Calibration | None]


def attempt(
    config: RunConfig,
    folder: RunFolder,
    display: Display,
    world: Ranks,
    *,
    calibrate: Calibrate,
    shows_remarks: bool,
) -> Outcome:
    """Run a config to an end of some kind, and record it.

    Args:
        config: The resolved config.
        folder: The run's folder, whose lock the first process holds.
        display: Where the run is shown.
        world: The processes that train it; all have to call.
        calibrate: Gives the calibration that the run goes by, measured where there is none.
        shows_remarks: Whether remarks are shown besides being recorded.

    Raises:
        UserError: If something that the user can mend stands in the way; the record stays as it
            was.
    """
    peak, began = Peak(), time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if world.leads:
        failures.forget(folder)
    task = world.together(lambda: build_task(config))
    record = RunRecord(folder, config, task, leads=world.leads)
    record.begin()
    try:
        matched = calibrate(config, folder, display.line)
        built, remarks, setup_seconds = _build(config, task, folder, world, matched, peak)
        if shows_remarks:
            for remark in remarks:
                display.line(remark)
        remarks += rulesets.remarks(config)  # the preflight has shown them
        training = _Training(
            config, record, built, display, matched, peak, setup_seconds, began=began
        )
        training.resume(remarks)
    except Exception as error:
        if refusal(error) is not None:
            record.withdraw()
            raise
        status, reason = failures.end_by(error, folder, world)
        if world.leads and not (folder.path / ENVIRONMENT_FILE).exists():
            machine = describe_machine(pick_device(config.device))
            environment.save(folder, machine, resumed=False)
        record.end(status, reason)
        return _told(Outcome(folder.run_id, config.label, status, reason), record, display)
    return training.run()


def _build(
    config: RunConfig,
    task: Task,
    folder: RunFolder,
    world: Ranks,
    matched: Calibration | None,
    peak: Peak,
) -> tuple[Built, list[str], float]:
    """Warm up and build the run; collects what is to be remarked on it, and times the set-up."""
    with warnings.catch_warnings(record=True) as caught:
        # A remark, as on parameters without curvature, belongs into the record of this run.
        warnings.simplefilter("always", UserWarning)
        scales = control.scales(config, folder.path, world, calibration=matched, task=task)
        with peak.left_out():
            setup_seconds = warm_up(config, world, task=task, calibration=matched, scales=scales)
        built = build(config, world, calibration=matched, task=task, scales=scales)
    remarks = [str(warning.message) for warning in caught]
    remarks += left_alone.remarks(config.optimizer.name, built.optimizer, built.model)
    if built.pretrained is not None:
        remarks.append(str(built.pretrained))
    if built.limits.target is not None and built.task.validation is None:
        remarks.append("budget.target is judged on test, as the task has no validation split")
    return built, remarks, setup_seconds


def _told(
    outcome: Outcome,
    record: RunRecord,
    display: Display,
    summary: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> Outcome:
    """Show the outcome, and return it."""
    metric = record.identity["metric"]
    outcome = display.ended(outcome, summary or {}, metric, seconds=seconds)
    if outcome.status in FAULTS:
        display.line(f"see {record.folder.path}")
    return outcome


SECONDS_TO_LOSE = 1.0
"""What a kill may cost, beside what is left until the next evaluation: on a busy disk a checkpoint
takes as long as an epoch of a small run."""


class _Training:
    """A built run in training; only the first process writes."""

    def __init__(
        self,
        config: RunConfig,
        record: RunRecord,
        built: Built,
        display: Display,
        matched: Calibration | None,
        peak: Peak,
        setup_seconds: float,
        *,
        began: float,
    ) -> None:
        self.peak, self.setup_seconds, self.began = peak, setup_seconds, began
        self.start_seconds: float | None = None  # until the first step
        self.config, self.record, self.built, self.display = config, record, built, display
        self.folder, self.leads, self.matched = record.folder, built.world.leads, matched
        self.stop = signals.StopRequest()
        self.rows: list[dict[str, Any]] = []
        constant = constant_prediction(built.task, built.task.test) if self.leads else None
        self.constant = None if constant is None else constant[built.task.metric]
        self.trainer = Trainer(
            built,
            seed=config.seed,
            on_step=profiling.watch(
                config.debug,
                built,
                folder=record.folder.path,
                on_step=display.step,
                tell=display.line,
            ),
            stop_requested=self.stop,
        )

    def resume(self, remarks: list[str]) -> None:
        """Bring record and trainer to one state: that of the checkpoint, or the beginning."""
        facts = environment.describe(self.built)
        # Only the first process needs to see the folder: machines may share no disk.
        state = self.built.world.tell(self._read_record() if self.leads else None)
        if state is not None:
            self.trainer.load_state_dict(state)
        if not self.leads:
            return
        environment.save(self.folder, facts | {"remarks": remarks}, resumed=state is not None)
        if self.matched is not None:
            self.folder.write(RUN_FILE, self.matched.to_json())
        self._write_status("running", None)
        if self.trainer.counters.step:
            self.display.line(f"resumed after step {self.trainer.counters.step}")

    def run(self) -> Outcome:
        """Train to an end, and record it."""
        mirror = self._mirror()
        self.start_seconds = time.monotonic() - self.began
        status, reason = "failed", None
        with self.stop.listen():
            try:
                with self.display.live(self.built):
                    status, reason = self._train(mirror)
                    # Here, where signals do not kill: a launcher stops all processes when one
                    # fails.
                    if self.leads:
                        self.folder.sync_rows()
                    self._write_status(status, reason)
                if status == "done" and self.leads:
                    (self.folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)
            finally:
                # Also when something unforeseen passes through, the mirror must not hang at exit.
                # And here too: a run that is done is not mirrored again.
                mirror.finish(self._summary(), failed=status != "done")
        outcome = Outcome(self.folder.run_id, self.config.label, status, reason)
        seconds = self.trainer.counters.train_seconds
        return _told(outcome, self.record, self.display, self._summary(), seconds)

    def _mirror(self) -> Mirror:
        if not self.leads:
            return Mirror()
        subject = subject_of_run(
            self.folder.run_id,
            identity=self.record.identity,
            config=self.config.values,
            folder=self.folder.path,
            rows=self.rows,
        )
        return open_mirror(self.config.tracking, subject)

    def _read_record(self) -> dict[str, Any] | None:
        """Read the state to go on from, with the rows up to there."""
        folder = self.folder
        try:
            state = checkpoint.load(folder.path / CHECKPOINT_FILE, folder.run_id)
            step = state["counters"]["step"] if state is not None else 0
            self.rows = folder.cut_rows(step)
        except BrokenRecordError as error:
            self.display.line(
                f"broken record set aside as {folder.set_aside()}, starting anew ({error})"
            )
            self.record.begin()
            return None
        if step:
            self._check_weights()
        return state

    def _check_weights(self) -> None:
        """Refuse to go on, and to record, under other weights than the run began from."""
        if self.built.pretrained is None:
            return
        try:
            began = load_environment(self.folder.path).get("pretrained") or {}
        except BrokenRecordError:  # written anew with the next attempt
            return
        found, wanted = self.built.pretrained.sha256, began.get("sha256")
        if wanted not in (None, found):
            raise UserError(
                f"pretrained.source={self.built.pretrained.source}: sha256 {found}, but run "
                f"{self.folder.run_id} began from {wanted}. Put that file back."
            )

    def _train(self, mirror: Mirror) -> tuple[str, str | None]:
        """Train to an end; returns its status and reason."""
        try:
            saved = self._seconds()
            for row in self.trainer.run():
                self._append(row)
                if (now := self._seconds()) - saved >= SECONDS_TO_LOSE:
                    self._save()
                    saved = now
                self._show(row, mirror)
        except StoppedError as stop:
            self._save()
            names = self.built.world.gather(self.stop.signal_name)
            return "interrupted", f"{next(name for name in names if name)}: {stop}"
        except DivergedError as error:
            # Without a checkpoint of it: killed before its end is written, the run comes here again
            # from the one before.
            if error.row is not None:
                self._append(error.row)
                self._show(error.row, mirror)
            if error.__cause__ is not None:  # other processes may wait for this one
                return failures.end_by(error, self.folder, self.built.world)
            return "diverged", str(error)
        except OSError:
            raise  # the disk, not the run: nothing more could be recorded
        except Exception as error:
            return failures.end_by(error, self.folder, self.built.world)
        return "done", None

    def _seconds(self) -> float:
        """Tell how long the run has computed; all processes agree on it."""
        counters = self.trainer.counters
        return counters.train_seconds + counters.evaluation_seconds

    def _append(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        if self.leads:
            self.folder.append_row(row)

    def _show(self, row: Mapping[str, Any], mirror: Mirror) -> None:
        mirror.log(row)
        self.display.row(row)

    def _save(self) -> None:
        state = self.trainer.state_dict()
        if not self.leads:
            return
        self.folder.sync_rows()
        self.folder.write(CHECKPOINT_FILE, checkpoint.dump(self.folder.run_id, state))
        self._write_status("running", None)

    def _write_status(self, status: str, reason: str | None) -> None:
        if self.leads:
            counters = self.trainer.counters
            progress = run_summary.progress(
                self.built,
                counters,
                self.rows,
                setup_seconds=self.setup_seconds,
                start_seconds=self.start_seconds,
            )
            self.record.write(status, reason, progress=progress, summary=self._summary())

    def _summary(self) -> dict[str, Any]:
        return run_summary.summary(
            self.built,
            self.trainer.counters,
            self.rows,
            self.matched,
            self.peak,
            constant=self.constant,
        )
