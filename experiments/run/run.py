"""One run, in one process or several: it is locked, skipped where it is over, else attempted."""

import contextlib
from collections.abc import Iterator

from experiments.config.essence import Values
from experiments.config.run_config import RunConfig
from experiments.engine import determinism
from experiments.engine.compute import pick_device
from experiments.engine.ranks import LostProcessError, join
from experiments.errors import UserError
from experiments.records.outcome import Outcome
from experiments.records.store import RunFolder, settled
from experiments.run.attempt import attempt
from experiments.run.display import Display
from experiments.system import log
from experiments.timing import calibration
from experiments.tracking.mirror import mirror_settled, subject_of_run


def execute(config: RunConfig | Values, *, position: str = "") -> Outcome:
    """Run a config to its end, or go on where an earlier attempt stopped.

    Every process of a launch by ``torchrun`` calls it; the first one keeps the record.

    Args:
        config: The resolved config, or its plain values.
        position: Place in a sweep, as ``"run 3/24"``, for the display.

    Returns:
        The outcome; a finished run is skipped and returned as it ended.

    Raises:
        UserError: If something that the user can mend stands in the way.
    """
    config = config if isinstance(config, RunConfig) else RunConfig.of(config)
    with (
        determinism.strict(config.deterministic),
        _all_present(),
        join(pick_device(config.device)) as world,
    ):
        title, progress = f"{position} {config.label}".strip(), log.progress_file()
        display = Display(title, shown=world.leads, progress=progress)
        folder = RunFolder(config.runs_dir, config.run_id)
        shows_remarks = not position  # in a sweep every seed would repeat them

        def attempted() -> Outcome:
            return attempt(
                config,
                folder,
                display,
                world,
                calibrate=calibration.of_run,
                shows_remarks=shows_remarks,
            )

        if not world.leads:
            settled_as: Outcome | None = world.tell(None)
            return settled_as or attempted()
        with folder.lock(on_wait=lambda: display.line("another process has this run; waiting")):
            anew = config.debug is not None
            earlier = settled(folder, retry=config.retry, notify=display.line, anew=anew)
            outcome = earlier and Outcome(folder.run_id, config.label, *earlier, skipped=True)
            world.tell(outcome)
            if outcome is not None:
                _mirror_settled(config, folder)
            return outcome or attempted()


@contextlib.contextmanager
def _all_present() -> Iterator[None]:
    try:
        yield
    except LostProcessError as error:  # outside of an attempt, which records it
        raise UserError(f"{error}, before the run or after it") from error


def _mirror_settled(config: RunConfig, folder: RunFolder) -> None:
    run = folder.read()
    assert run is not None  # it was found settled, under the same lock
    subject = subject_of_run(
        run.run_id, identity=run.identity, config=config.values, folder=run.path, rows=run.rows
    )
    mirror_settled(config.tracking, subject, run.summary)
