"""A sweep: every run in a child process of its own, and a summary that forgets none.

Hydra's launcher decides what runs when and where; this module is the job that it runs, and what the
process that was asked for the sweep does around it.
"""

import contextlib
import os
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.outcome import EXIT_CODES, Outcome
from experiments.records.schema import FAULTS
from experiments.records.store import RunFolder, settled
from experiments.run.display import Display
from experiments.sweep import forks, live, reporting, supervision
from experiments.sweep.shared_folder import SweepFolder
from experiments.system import cores, log, signals
from experiments.system.output import say

SWEEPS = ".sweeps"
FAIL_FAST = "fail_fast"
_MOST_DEATHS = 2  # jobs that may die at a run, before it is left for whoever asks again

Jobs = Sequence[Sequence[int]]
"""Of a launcher: the numbers of the runs that each executes, one after another."""


@dataclass(frozen=True)
class Sweep:
    """What a job must know of its sweep; it travels with the job.

    Attributes:
        folder: The folder that the sweep's processes share.
        size: How many jobs there are.
        parallel: How many share this machine; None: a scheduler gives each job its own part.
        devices: CUDA devices to divide.
        leader: Number of the process that was asked for the sweep.
        cores_each: Of a run, where it has a part of a machine and no scheduler holds it to that.
    """

    folder: Path
    size: int
    parallel: int | None
    devices: tuple[str, ...]
    leader: int
    cores_each: int | None = None

    @classmethod
    def of(
        cls, first: RunConfig, *, size: int, parallel: int | None, cores_each: int | None = None
    ) -> "Sweep":
        """Describe a sweep that this process leads.

        Args:
            first: The config of one job; all have the same runs folder.
            size: How many jobs there are.
            parallel: As the attribute.
            cores_each: As the attribute.
        """
        folder = first.runs_dir / SWEEPS / uuid.uuid4().hex[:12]
        devices = cores.cuda_devices() if first.device in ("auto", "cuda") else ()
        return cls(folder, size, parallel, devices, os.getpid(), cores_each)


def execute_job(config: RunConfig, sweep: Sweep, *, number: int) -> bool:
    """Run one config of a sweep in a child process, unless nothing is left to do for it.

    Args:
        config: The resolved config.
        sweep: The sweep that it belongs to.
        number: Index of the run in the sweep, from 0.

    Returns:
        Whether this process may go on with another run: it, or the sweep, was not told to stop.
    """
    shared = SweepFolder(sweep.folder)
    if shared.stop_cause() is not None:
        return False
    position = f"run {number + 1}/{sweep.size}"
    folder = RunFolder(config.runs_dir, config.run_id)
    label = config.label
    display = Display(f"{position} {label}", progress=shared.progress_file(number))
    anew = config.debug is not None
    try:
        earlier = (
            None
            if folder.is_locked()
            else settled(folder, retry=config.retry, notify=display.line, anew=anew)
        )
    except UserError as error:
        display.line(f"error: {error}")
        _note(shared, config, number, Outcome(folder.run_id, label, "failed", str(error)))
        return True
    if earlier is not None:
        before = number not in shared.begun()  # else it ended although its job had died
        _note(shared, config, number, Outcome(folder.run_id, label, *earlier, skipped=before))
        return True
    with _place(shared, sweep) as place, _listening(shared, sweep) as received:
        if place is None:
            return False
        own, environment = share(config, sweep, place)
        environment[log.PROGRESS_VARIABLE] = str(shared.progress_file(number))

        def is_to_stop() -> bool:
            # A scheduler's jobs live on when the process that submitted them is gone.
            orphaned = sweep.parallel is not None and not shared.leader_lives()
            return bool(received) or orphaned or shared.stop_cause() is not None

        outcome, code, for_memory = supervision.run_child(
            own,
            shared,
            number=number,
            position=position,
            environment=environment,
            is_to_stop=is_to_stop,
        )
        if outcome is None:
            outcome = supervision.end_of_dead_child(
                folder, label, code, for_memory=for_memory, retry=config.retry
            )
            display.line(f"{outcome.told()}, see {folder.path}")
        elif code == EXIT_CODES["refused"]:
            display.line(f"error: {outcome.reason}")
        _note(shared, config, number, outcome)
    if sweep.parallel is not None and not shared.leader_lives():
        os._exit(1)  # nobody waits for this process, and a worker of joblib would stay for minutes
    return not received


def _note(shared: SweepFolder, config: RunConfig, number: int, outcome: Outcome) -> None:
    """Add a job's outcome; a failure ends a sweep that is to fail fast.

    One of an earlier sweep too: asked again, the sweep is to end where it ended, not to pass by.
    """
    shared.note(number, outcome)
    if config.fail_fast and outcome.status in FAULTS:
        shared.stop(FAIL_FAST)


@contextlib.contextmanager
def _place(shared: SweepFolder, sweep: Sweep) -> Iterator[int | None]:
    if sweep.parallel is None:
        yield 0
        return
    with shared.slot(sweep.parallel) as place:
        yield place


@contextlib.contextmanager
def _listening(shared: SweepFolder, sweep: Sweep) -> Iterator[list[int]]:
    """Collect signals to the process of a job, whose child has to save its state first.

    On one machine they stop the sweep. Under a scheduler each job is told by itself; then the
    handler that the launcher had set, as to queue the job again, has its turn when the run is over.
    """
    received: list[int] = []
    if os.getpid() == sweep.leader:  # `run` listens already
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if sweep.parallel is not None:
            shared.stop(signal.Signals(number).name)

    with signals.handled(note) as before:
        yield received
    earlier = before.get(received[-1]) if received and sweep.parallel is None else None
    if callable(earlier) and earlier is not signal.default_int_handler:
        earlier(received[-1], None)


def share(config: RunConfig, sweep: Sweep, place: int) -> tuple[RunConfig, dict[str, str]]:
    """Give a run's config and environment at a place, with its share of cores and devices."""
    environment = dict(os.environ)
    jobs = sweep.parallel or 1
    threads = cores.threads_of(config, jobs, given=sweep.cores_each)
    environment |= cores.library_variables(threads, environment)
    if sweep.parallel is not None and sweep.devices:
        # Some launchers hide the devices from their jobs, so the sweep's own knowledge counts.
        mine = (
            cores.devices_of(place, sweep.devices, config.processes) if jobs > 1 else sweep.devices
        )
        environment[cores.VISIBLE] = ",".join(mine)
    environment[log.SAID_VARIABLE] = str(sweep.folder)
    return config.having(threads=threads), environment


def run(
    sweep: Sweep,
    configs: Sequence[RunConfig],
    launch: Callable[[Jobs], Jobs],
    *,
    done: Collection[int] = (),
    shown: bool = True,
) -> int:
    """Launch the jobs of a sweep and tell how its runs ended.

    Args:
        sweep: The sweep.
        configs: The config of each run; all have the same runs folder.
        launch: Executes jobs, which call ``execute_job`` for their numbers in any process; gives
            those that died.
        done: The numbers of runs of which nothing is left to do.
        shown: Whether what the jobs print comes to this terminal.

    Returns:
        The exit code: 0 if every run is done, 130 after a request to stop, 1 otherwise.
    """
    shared, size = SweepFolder(sweep.folder), len(configs)
    whole = False
    with (
        shared.led(),
        signals.handled(_stopper(shared)),
        live.shown(shared, configs, sweep.parallel or 1, prints=shown),
    ):
        for number, config in enumerate(configs):
            if number in done:
                outcome = Outcome(config.run_id, config.label, "done", None, skipped=True)
                shared.note(number, outcome)
            else:
                shared.plan(number, config.values)
        try:
            if numbers := [number for number in range(size) if number not in done]:
                _launch(shared, numbers, configs[0].runs_per_job, launch)
            whole = True
        except KeyboardInterrupt:
            shared.stop(signal.SIGINT.name)
        except (Exception, SystemExit) as error:
            # Whatever a launcher raises, what is known of the runs is told.
            if shared.stop_cause() is None:
                text = " ".join(str(error).split())[:300]
                say(f"error: the launcher broke off: {text}", error=True)
    forks.end()
    outcomes, cause = shared.outcomes(), shared.stop_cause()
    reporting.summarise(outcomes, size, started=shared.started())
    if whole or sweep.parallel is not None:  # jobs of a scheduler may still need it
        shared.remove()
    if cause is not None and cause != FAIL_FAST:
        return EXIT_CODES["interrupted"]
    return 0 if len(outcomes) == size and all(o.status == "done" for o in outcomes.values()) else 1


def _launch(
    shared: SweepFolder, numbers: list[int], size: int, launch: Callable[[Jobs], Jobs]
) -> None:
    """Launch runs in jobs of ``size``, and again those that a job left when it died."""
    deaths: Counter[int] = Counter()
    while numbers and shared.stop_cause() is None:
        dead = launch([numbers[at : at + size] for at in range(0, len(numbers), size)])
        ended, numbers = shared.outcomes(), []
        for job in dead:
            left = [n for n in job if n not in ended or ended[n].status == "interrupted"]
            deaths.update(left[:1])  # the one that was under way
            numbers += [number for number in left if deaths[number] < _MOST_DEATHS]
        if numbers:
            say(f"note: {len(dead)} jobs died; {len(numbers)} runs are launched again", error=True)


def _stopper(shared: SweepFolder) -> signals.Handler:
    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and shared.stop_cause() == signal.SIGINT.name:
            raise KeyboardInterrupt
        shared.stop(signal.Signals(number).name)
        if log.on_terminal():  # the display says it: a line between its own would garble them
            return
        how = "; Ctrl-C again does not wait for them" if number == signal.SIGINT else ""
        with contextlib.suppress(OSError):  # a terminal that closed takes no more lines
            os.write(2, f"stopping: the runs save their state{how}\n".encode())

    return stop
