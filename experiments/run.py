"""One run in this process: from a resolved config to a finished record."""

import json
import resource
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from experiments import checkpoint, environment, identity, stopping
from experiments.build import Built, build
from experiments.display import Display
from experiments.errors import UserError
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
from experiments.tracking import Mirror, open_mirror

TRACEBACK_FILE = "traceback.txt"


def execute(config: Mapping[str, Any], *, position: str = "") -> Outcome:
    """Run a config to its end, or go on where an earlier attempt stopped.

    Args:
        config: The resolved config.
        position: Place in a sweep, as ``"run 3/24"``, for the display.

    Returns:
        The outcome; a finished run is skipped and returned as it ended.

    Raises:
        UserError: If something that the user can mend stands in the way.
    """
    run_id, label = identity.run_id(config), identity.label(config)
    display = Display(f"{position} {label}".strip())
    folder = RunFolder(Path(config["runs_dir"]), run_id)
    with folder.lock(on_wait=lambda: display.line("another process has this run; waiting for it")):
        earlier = settled(folder, retry=config["retry"], notify=display.line)
        if earlier is not None:
            return Outcome(run_id, label, *earlier, skipped=True)
        if config["threads"] is not None:
            torch.set_num_threads(config["threads"])
        with warnings.catch_warnings(record=True) as caught:
            # A remark, as on parameters without curvature, belongs into the record of this run.
            warnings.simplefilter("always", UserWarning)
            built = build(config)
        remarks = [str(warning.message) for warning in caught]
        if built.pretrained is not None:
            remarks.append(str(built.pretrained))
        if not position:  # in a sweep every seed would repeat them
            for remark in remarks:
                display.line(remark)
        return _Attempt(config, folder, built, display, remarks).run()


class _Attempt:
    """One attempt at a run whose lock is held."""

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: RunFolder,
        built: Built,
        display: Display,
        remarks: list[str],
    ) -> None:
        self.config, self.folder, self.built, self.display = config, folder, built, display
        self.remarks = remarks
        self.identity = identity.describe(config, built.task)
        self.stop = stopping.StopRequest()
        self.rows: list[dict[str, Any]] = []
        self.trainer = Trainer(
            built, seed=config["seed"], on_step=display.step, stop_requested=self.stop
        )

    def run(self) -> Outcome:
        self._resume()
        mirror = open_mirror(
            self.config["tracking"],
            run_id=self.folder.run_id,
            identity=self.identity,
            config=self.config,
            folder=self.folder.path,
        )
        status, reason = "failed", None
        try:
            with self.stop.listen(), self.display.live(self.built):
                status, reason = self._train(mirror)
        finally:
            # Also when something unforeseen passes through, the mirror must not hang at exit.
            mirror.finish(self._summary(), failed=status != "done")
        self._write_status(status, reason)
        if status == "done":
            (self.folder.path / CHECKPOINT_FILE).unlink(missing_ok=True)
        outcome = Outcome(self.folder.run_id, identity.label(self.config), status, reason)
        self.display.ended(outcome.status, outcome.reason, self._summary(), self.identity["metric"])
        return outcome

    def _resume(self) -> None:
        """Bring folder and trainer to one state: that of the checkpoint, or the beginning."""
        folder = self.folder
        try:
            state = checkpoint.load(folder.path / CHECKPOINT_FILE, folder.run_id)
            if state is not None:
                self.trainer.load_state_dict(state)
            known = folder.read() is not None
            self.rows = folder.cut_rows(self.trainer.counters.step) if known else []
        except BrokenRecordError as error:
            self.display.line(
                f"broken record set aside as {folder.set_aside()}, starting anew ({error})"
            )
        if self.trainer.counters.step:
            self._check_weights()
        folder.create()
        folder.write(CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(dict(self.config))).encode())
        read = self.built.task.checksums | getattr(self.built.model, "checksums", {})
        facts = environment.describe(device=self.built.device, checksums=read)
        pretrained = self.built.pretrained and self.built.pretrained.facts()
        facts |= {"pretrained": pretrained, "remarks": self.remarks}
        folder.write_json(ENVIRONMENT_FILE, facts)
        self._write_status("running", None)
        if self.trainer.counters.step:
            self.display.line(f"resumed after step {self.trainer.counters.step}")

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
                self.folder.append_row(row)
                self.rows.append(row)
                self._save()
                mirror.log(row)
                self.display.row(row)
        except StoppedError as stop:
            self._save()
            return "interrupted", f"{self.stop.signal_name}: {stop}"
        except DivergedError as error:
            return "diverged", str(error)
        except (MemoryError, torch.OutOfMemoryError) as error:
            return "out_of_memory", _one_line(error)
        except OSError:
            raise  # the disk, not the run: nothing more could be recorded
        except Exception as error:
            if "can't allocate memory" in str(
                error
            ):  # torch's CPU allocator raises a plain RuntimeError
                return "out_of_memory", _one_line(error)
            self.folder.write(TRACEBACK_FILE, traceback.format_exc().encode())
            return "failed", f"{type(error).__name__}: {_one_line(error)}"
        return "done", None

    def _save(self) -> None:
        state = self.trainer.state_dict()
        self.folder.write(CHECKPOINT_FILE, checkpoint.dump(self.folder.run_id, state))
        self._write_status("running", None)

    def _write_status(self, status: str, reason: str | None) -> None:
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
            **final_and_best(self.rows, task.metric, task.higher_is_better),
        }


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_tensor_bytes(item) for item in value)
    return 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
