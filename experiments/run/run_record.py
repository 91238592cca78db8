"""The record that an attempt at a run keeps, from before its model is built to its end."""

import contextlib
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from experiments.config import identity
from experiments.config.run_config import RunConfig
from experiments.records.schema import CONFIG_FILE, STATUS_FILE, Run
from experiments.records.store import RunFolder
from experiments.tasks.task import Task

_NO_PROGRESS = {
    "step": 0,
    "epoch": 0.0,
    "train_seconds": 0.0,
    "evaluation_seconds": 0.0,
    "validation_seconds": 0.0,
    "setup_seconds": None,
    "start_seconds": None,
    "total_steps": None,
    "last_row_step": None,
}


class RunRecord:
    """The record of a run whose lock is held.

    Args:
        folder: The run's folder.
        config: The resolved config.
        task: Its task, which says what the run is judged by.
        leads: Whether this process is the one that writes; in others every call does nothing.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, task: Task, *, leads: bool) -> None:
        self.folder, self.leads = folder, leads
        self.identity = identity.describe(config, task)
        self._config = config
        self._earlier: Run | None = None

    def begin(self) -> None:
        """Tell that the run is under way, with the progress of an earlier attempt if there was one.

        Whatever ends the process from here on, at building, calibrating or measuring already, is a
        row: somebody else can add the end to it.
        """
        if not self.leads:
            return
        self._earlier = self.folder.read()
        self.folder.create()
        # Without the files that were typed: a record never causes one to be run.
        values = {key: value for key, value in self._config.values.items() if key != "files"}
        text = OmegaConf.to_yaml(OmegaConf.create(values))
        self.folder.write(CONFIG_FILE, text.encode())
        self.end("running", None)

    def end(self, status: str, reason: str | None) -> None:
        """Write a status of a run that has not begun to train in this attempt."""
        earlier = self._earlier
        self.write(
            status,
            reason,
            progress=_NO_PROGRESS if earlier is None else earlier.progress,
            summary={} if earlier is None else earlier.summary,
        )

    def withdraw(self) -> None:
        """Leave the record as it was before ``begin``: the run is refused, and did not fail."""
        if not self.leads:
            return
        with contextlib.suppress(OSError):  # the refusal itself may be due to the disk
            if self._earlier is not None:
                self.end(self._earlier.status, self._earlier.reason)
                return
            for name in (STATUS_FILE, CONFIG_FILE):
                (self.folder.path / name).unlink(missing_ok=True)
            self.folder.path.rmdir()  # fails where something else is kept there

    def write(
        self,
        status: str,
        reason: str | None,
        *,
        progress: Mapping[str, Any],
        summary: Mapping[str, Any],
    ) -> None:
        """Replace the status."""
        if self.leads:
            self.folder.write_status(
                status, reason, identity=self.identity, progress=progress, summary=summary
            )
