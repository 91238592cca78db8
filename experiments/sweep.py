"""A sweep: every run in a child process of its own, and a summary that forgets none.

Hydra's sweeper and launcher decide what runs when and where; this module is the job they run, and
the ledger through which jobs in other processes tell the parent how they ended.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import identity
from experiments.display import PLAIN_VARIABLE, Display
from experiments.outcome import EXIT_CODES, Outcome
from experiments.record import BrokenRecordError
from experiments.store import RunFolder, settled

LEDGER_VARIABLE = "ADAFISHER_SWEEP_LEDGER"
SIZE_VARIABLE = "ADAFISHER_SWEEP_SIZE"
FIRST_VARIABLE = "ADAFISHER_SWEEP_FIRST"
LEDGERS = ".sweeps"
_SHUTDOWN_SECONDS = 30.0
# Signals that say nothing about the run itself: it goes on where it was when asked again.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def execute_job(config: Mapping[str, Any], *, number: int, parallel: int) -> None:
    """Run one config of a sweep in a child process, unless nothing is left to do for it.

    Args:
        config: The resolved config.
        number: Index of the job in its grid, from 0.
        parallel: How many run at once and share the cores; negative as joblib counts it.
    """
    number += int(os.environ.get(FIRST_VARIABLE, "0"))
    position = f"run {number + 1}/{os.environ.get(SIZE_VARIABLE, '?')}"
    folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
    label = identity.label(config)
    display = Display(f"{position} {label}")
    earlier = (
        None if folder.is_locked() else settled(folder, retry=config["retry"], notify=display.line)
    )
    if earlier is not None:
        _note(Outcome(folder.run_id, label, *earlier, skipped=True))
        return
    cores = os.cpu_count() or 1
    jobs = parallel if parallel > 0 else max(1, cores + 1 + parallel)
    outcome, code = _run_child(dict(config), position, jobs)
    if outcome is None:
        outcome = _end_of_dead_child(folder, label, code)
    if code == EXIT_CODES["refused"]:
        display.line(f"error: {outcome.reason}")
    _note(outcome)


def run(launch: Callable[[], Any], first: Mapping[str, Any], *, size: int) -> int:
    """Launch a sweep through Hydra and tell how its runs ended.

    Args:
        launch: Hydra's entry point; it calls ``execute_job`` once a job, in any process.
        first: The config of one job; all have the same runs folder.
        size: How many jobs there are.

    Returns:
        The exit code: 0 if every run is done, 130 after Ctrl-C, 1 otherwise.
    """
    folder = Path(first["runs_dir"]) / LEDGERS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex[:12]}.jsonl"
    path.touch()
    os.environ[LEDGER_VARIABLE] = str(path)
    os.environ[SIZE_VARIABLE] = str(size)
    interrupted = False
    try:
        launch()
    except KeyboardInterrupt:
        interrupted = True
    outcomes = [Outcome.from_line(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    _print_summary(outcomes, size)
    if interrupted:
        return EXIT_CODES["interrupted"]
    return (
        0 if len(outcomes) == size and all(outcome.status == "done" for outcome in outcomes) else 1
    )


def number_from(first: int) -> None:
    """Number the jobs of the next grid from ``first``, in whatever process they run."""
    os.environ[FIRST_VARIABLE] = str(first)


def _print_summary(outcomes: list[Outcome], size: int) -> None:
    counts = Counter(outcome.status for outcome in outcomes)
    parts = [f"{count} {status}" for status, count in sorted(counts.items())]
    if size > len(outcomes):
        parts.append(f"{size - len(outcomes)} not finished")
    earlier = sum(outcome.skipped for outcome in outcomes)
    lines = [f"sweep of {size}: {', '.join(parts)} ({earlier} from before)"]
    lines += [
        f"  {outcome.status}: {outcome.label} (run {outcome.run_id}): {outcome.reason}"
        for outcome in outcomes
        if outcome.status != "done"
    ]
    if counts["failed"] or counts["out_of_memory"]:
        lines.append("  `retry=true` runs what failed again")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _run_child(config: dict[str, Any], position: str, jobs: int) -> tuple[Outcome | None, int]:
    """Execute the config in a child process; returns what it told of its end, and its exit code."""
    if config["threads"] is None:
        config["threads"] = max(1, (os.cpu_count() or 1) // jobs)
    # The libraries below torch read their thread counts when they are loaded.
    environment = os.environ | {"OMP_NUM_THREADS": str(config["threads"])}
    # On a busy machine a thread that spins for its siblings keeps them from running.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if jobs > 1:
        environment[PLAIN_VARIABLE] = "1"
    child = subprocess.Popen(
        [sys.executable, "-m", "experiments.child"],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        said, _ = child.communicate(json.dumps({"config": config, "position": position}))
    except KeyboardInterrupt:
        # A terminal has already sent it SIGINT, and a second one would kill it at once.
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_SHUTDOWN_SECONDS)
        child.kill()
        raise
    try:
        return Outcome.from_line(said.splitlines()[-1]), child.returncode
    except (IndexError, TypeError, ValueError):
        return None, child.returncode


def _end_of_dead_child(folder: RunFolder, label: str, code: int) -> Outcome:
    """Record the end of a child that could not do it itself."""
    if code >= 0:
        status, reason = "failed", f"the run's process ended with exit code {code}"
    else:
        status = "interrupted" if -code in _FROM_OUTSIDE else "failed"
        reason = f"the run's process was killed by {signal.Signals(-code).name}"
    with contextlib.suppress(BrokenRecordError), folder.lock():
        run = folder.read()
        if run is not None and run.status == "running":
            folder.end_as(status, reason)
    return Outcome(folder.run_id, label, status, reason)


def _note(outcome: Outcome) -> None:
    """Add an outcome to the ledger; a single small append is whole even from several processes."""
    with Path(os.environ[LEDGER_VARIABLE]).open("ab", buffering=0) as handle:
        handle.write(outcome.to_line().encode())
