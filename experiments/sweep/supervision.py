"""The process that executes one run of a sweep: started, asked to stop, and judged when it dies."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from experiments.config.run_config import RunConfig
from experiments.records.outcome import Outcome, judge
from experiments.records.schema import BrokenRecordError, is_to_run
from experiments.records.store import RunFolder
from experiments.sweep import forks
from experiments.sweep.forkserver import PATIENCE_SECONDS
from experiments.sweep.shared_folder import ANSWER_SUFFIX, SweepFolder
from experiments.system import memory

_POLL_SECONDS = 0.2
_LOCK_SECONDS = 1.0  # in which the processes that a dead one had started are gone too
_KNOWN_PACKAGES = {"adafisher", "experiments", "pytorch_optimizer", "schedulefree", "timm", "torch"}


def run_child(
    config: RunConfig,
    shared: SweepFolder,
    *,
    number: int,
    position: str,
    environment: Mapping[str, str],
    is_to_stop: Callable[[], bool],
) -> tuple[Outcome | None, int, bool]:
    """Execute a config in a child process, and ask it to stop when the sweep is to.

    Args:
        config: The resolved config.
        shared: The sweep's folder.
        number: Index of the job in the sweep.
        position: Place in the sweep, as ``"run 3/24"``, for the display.
        environment: Variables of the child.
        is_to_stop: Asked several times a second.

    Returns:
        What it told of its end, ``None`` if it could not; its exit code; and whether the system
        killed some process for memory meanwhile.
    """
    request = {"config": config.values, "position": position, "parent": os.getpid()}
    path = shared.request(number, json.dumps(request))
    answer = path.with_suffix(ANSWER_SUFFIX)
    answer.unlink(missing_ok=True)
    kills = memory.kills()
    is_forked = not config.fresh and config.processes == 1  # torchrun starts interpreters anyway
    child = forks.start(path, environment, modules=modules(config) if is_forked else None)
    try:
        _wait(child, is_to_stop)
    finally:
        child.kill()  # it has ended, unless a second Ctrl-C comes through
        child.wait()
    try:
        outcome = Outcome.from_line(answer.read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError):
        outcome = None
    return outcome, child.returncode, memory.kills() > kills


def modules(config: RunConfig) -> list[str]:
    """Name the modules that a run builds from, of those that are known to do nothing at import."""
    sections = (config.task, config.model, config.optimizer, config.schedule, config.tokenization)
    targets = [section.arguments["_target_"] for section in sections if section is not None]
    targets.append(config.tracking.get("_target_"))
    found = [str(target).rpartition(".")[0] for target in targets if target]
    return [name for name in found if name.partition(".")[0] in _KNOWN_PACKAGES]


def _wait(child: forks.Process, is_to_stop: Callable[[], bool]) -> None:
    deadline = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_SECONDS)
            return
        if deadline is None and is_to_stop():
            # Not SIGINT: a terminal has sent it already, and a second one kills at once.
            child.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            return


def end_of_dead_child(
    folder: RunFolder, label: str, code: int, *, for_memory: bool, retry: bool = False
) -> Outcome:
    """Record the end of a run whose process could not do it itself.

    A run that another process has by now is left to that one, which may train it for hours.

    Args:
        folder: The run's folder.
        label: The run in a few words.
        code: The exit code of its process.
        for_memory: Whether the system killed a process for memory meanwhile.
        retry: Whether a run that failed was to be tried again.

    Returns:
        How it ended: as its record says, where the process died after it had written that.
    """
    status, reason = judge(code, for_memory=for_memory, process="the run's process")
    with contextlib.suppress(BrokenRecordError), folder.lock(seconds=_LOCK_SECONDS) as is_held:
        run = folder.read() if is_held else None
        if run is not None and run.status == "running":
            folder.end_as(status, reason)
        elif run is not None and not is_to_run(run.status, retry=retry):
            return Outcome(folder.run_id, label, run.status, run.reason)
    return Outcome(folder.run_id, label, status, reason)
