"""The mirror to Weights & Biases: offline unless the user is logged in, one W&B run a run."""

import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.errors import UserError
from experiments.tracking import offline, server
from experiments.tracking.mirror import Mirror, Row, Subject, runs_dir_of

# By a run that is mirrored; before it, where a process is forked for it. `init` loads the others,
# the second for a second and more where torch is loaded, as each class of it looks through all
# modules.
LOADED_LATE = ("wandb", "wandb.sdk.launch", "requests")

MODES = ("auto", "online", "offline", "none")
SWEEP_VARIABLE = "WANDB_SWEEP_ID"
RUN_VARIABLE = "WANDB_RUN_ID"
_INIT_SECONDS = 10.0
_FINISH_SECONDS = 8.0  # W&B spends it twice where the server is gone: at the end and at the exit
_REPORT_SECONDS = 120.0  # a report has figures to upload, and no process waits for it
_WRITE_SECONDS = 5.0


class WandbMirror(Mirror):
    """Mirrors to one W&B run.

    Args:
        run: W&B's handle.
        metric: Name of the task's metric without the split; None: a report.
        higher_is_better: Whether larger values of it are better.
        next_step: The first step that the W&B run does not have.
        folder: What W&B's own files lie under.
        offline_because: Why it is written there alone; None: it is online.
        earlier: Logs of earlier attempts, the rows of which are on the server when this one is.
    """

    def __init__(
        self,
        run: Any,
        *,
        metric: str | None,
        higher_is_better: bool,
        next_step: int,
        folder: Path,
        offline_because: str | None,
        earlier: Sequence[offline.Log] = (),
    ) -> None:
        self._earlier = earlier
        self._run, self._folder, self._offline_because = run, folder, offline_because
        self._metric, self._best = metric, max if higher_is_better else min
        self._next_step = next_step
        self._media: dict[str, Any] = {}
        self._validated: list[float] = []

    def log(self, row: Row) -> None:
        """Mirror one row at its own step, once."""
        value = row.get(f"validation_{self._metric}")
        if value is not None and math.isfinite(value):
            self._validated.append(value)
        step = int(row["step"])
        if step >= self._next_step:
            self._run.log(dict(row), step=step)
            self._next_step = step + 1

    def table(self, name: str, path: Path) -> None:
        """Add a table to what ``finish`` logs."""
        import pandas
        import wandb

        frame = pandas.read_csv(path)
        self._media[f"tables/{name}"] = wandb.Table(dataframe=frame, allow_mixed_types=True)

    def figure(self, name: str, path: Path) -> None:
        """Add a figure to what ``finish`` logs."""
        import wandb

        self._media[f"figures/{name}"] = wandb.Image(str(path))

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write the summary and close the W&B run.

        Raises:
            TimeoutError: If the server has not taken all of it in time.
        """
        try:
            if self._media:
                self._run.log(self._media, step=self._next_step)
            # What a W&B sweep optimises: never a value on test, and none of a run that diverged.
            best = {}
            if self._validated and not failed:
                best = {"best_validation": self._best(self._validated)}
            self._run.summary.update({**summary, **best})
        finally:
            self._close(failed=failed)

    def _close(self, *, failed: bool) -> None:
        try:
            self._run.finish(exit_code=int(failed))
        except TimeoutError as error:
            raise TimeoutError(
                f"W&B has not taken all of it in time, and {self._upload} uploads it"
            ) from error
        # Next the run's lock is given up: by then the log must be whole.
        if self._offline_because is not None:
            offline.await_end(self._folder, seconds=_WRITE_SECONDS)
        else:
            offline.mark_arrived(Path(self._run.dir).parent)
            for log in self._earlier:
                offline.mark_uploaded(log)

    @property
    def remark(self) -> str | None:
        """Say why it is offline, if it is."""
        because = self._offline_because
        return because and f"W&B: offline ({because}); {self._upload} uploads it"

    def outcome(self, what: str) -> str:
        """Say where it went."""
        if self._offline_because is None:
            return f"published {what} at {self._run.url}"
        return (
            f"logged {what} offline under {self._folder} ({self._offline_because}); "
            f"{self._upload} uploads it"
        )

    @property
    def _upload(self) -> str:
        runs_dir = runs_dir_of(self._folder)
        if runs_dir.resolve() == Path("runs").resolve():  # the Makefile's own
            return "`make wandb-sync`"
        inside = runs_dir.is_relative_to(Path.cwd())
        shown = runs_dir.relative_to(Path.cwd()) if inside else runs_dir
        return f"`make wandb-sync {shlex.quote(f'RUNS={shown}')}`"


def start(*, subject: Subject, mode: str, project: str, entity: str | None) -> Mirror:
    """Start the mirror of a run or of a report.

    Args:
        subject: What is mirrored.
        mode: One of ``MODES``.
        project: Of W&B; a W&B agent has its own.
        entity: Of W&B, None: the user's; a W&B agent has its own.

    Returns:
        The mirror; an inert one where W&B is off.
    """
    resolved, reason = resolve(mode)
    if resolved == "none":
        return Mirror()
    if resolved == "online":
        try:
            return _open(subject, project, entity, offline_because=None)
        except Exception as error:
            reason = f"W&B does not take it: {' '.join(str(error).split())}"
            _forget_session()
    return _open(subject, project, entity, offline_because=reason)


def _open(
    subject: Subject, project: str, entity: str | None, *, offline_because: str | None
) -> Mirror:
    wandb = server.library()
    # An agent has made the W&B run, in the project of its sweep: W&B takes it from the environment.
    place: dict[str, Any] = {"project": project, "entity": entity, "id": subject.id}
    earlier = [log for log in offline.logs(subject.folder) if log.run_id == wandb_id(subject)]
    _await_own_second(subject.folder)
    run = wandb.init(
        **({} if under_agent() else place),
        resume="allow",  # offline too: tells `wandb sync` to append
        name=subject.name,
        group=subject.group,
        job_type=subject.job_type,
        tags=list(subject.tags),
        config=dict(subject.config),
        dir=str(subject.folder),
        mode="online" if offline_because is None else "offline",
        settings=wandb.Settings(
            silent=True,
            init_timeout=_INIT_SECONDS,
            finish_timeout=_REPORT_SECONDS if subject.job_type == "report" else _FINISH_SECONDS,
            finish_timeout_raises=True,
            console="off",
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,  # would look at every installed package, in every run
        ),
    )
    for axis in ("step", "epoch", "train_seconds"):
        run.define_metric(axis)
    run.define_metric("*", step_metric="step")
    if offline_because is None:
        next_step = int(run.step)
        offline.mark_pending(Path(run.dir).parent)
    else:
        next_step = max((step + 1 for log in earlier for step in log.steps), default=0)
    return WandbMirror(
        run,
        metric=subject.identity.get("metric"),
        higher_is_better=bool(subject.identity.get("higher_is_better")),
        next_step=next_step,
        folder=subject.folder,
        offline_because=offline_because,
        earlier=earlier,  # this attempt mirrors their rows anew, from the record
    )


def _forget_session() -> None:
    """End W&B's service, which keeps the id of a run that failed to start as one in use."""
    server.library().teardown(exit_code=1)


def _await_own_second(folder: Path) -> None:
    """Wait for the next second: W&B names folders by it, and would overwrite a log of this one."""
    while any(folder.glob(f"wandb/*run-{time.strftime('%Y%m%d_%H%M%S')}-*")):
        time.sleep(0.05)


def check(*, mode: str, **_: Any) -> None:
    """Refuse a mode that is none of ``MODES``.

    Raises:
        UserError: Names the value and what is allowed.
    """
    if mode not in MODES:
        raise UserError(f"Invalid tracking.mode: {mode!r}. Must be one of: {', '.join(MODES)}.")


def awaits_settled() -> bool:
    """Tell whether a settled run must be mirrored: an agent's sweep waits for its value."""
    return under_agent()


def under_agent() -> bool:
    """Tell whether a W&B agent started this process, and so made its W&B run."""
    return bool(os.environ.get(SWEEP_VARIABLE))


def wandb_id(subject: Subject) -> str | None:
    """Id of the W&B run: the run's own, or the one that a W&B agent gave."""
    return os.environ.get(RUN_VARIABLE) if under_agent() else subject.id


def resolve(mode: str) -> tuple[Literal["none", "offline", "online"], str | None]:
    """Decide between online and offline without asking the user, or long for the network.

    Returns:
        The mode, and of ``offline`` the reason.
    """
    if mode == "none":
        return "none", None
    own = server.mode()
    if own == "disabled":
        return "none", None
    if mode == "offline":
        return "offline", "tracking.mode=offline"
    if own in ("offline", "dryrun"):
        return "offline", "W&B's own mode, by WANDB_MODE or `wandb offline`"
    reason = server.obstacle()
    return ("online", None) if reason is None else ("offline", reason)
