"""The process that measures the methods of a setting: what it is asked, and what it answers."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.outcome import PreparationError, judge
from experiments.system import memory
from experiments.system.cores import library_variables, threads_of
from experiments.timing.calibration_key import reference_section

REFUSED = "refused"
"""In the place of a status: the user's input stands in the way."""

Failure = PreparationError | UserError
_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def measure(configs: Sequence[RunConfig], runs_dir: Path) -> list[Failure | None]:
    """Measure in a child process, which reads the cache first and waits for its turn.

    Where that dies, the method that it was at is given up, and the others have another process.

    Args:
        configs: Resolved configs of one setting.
        runs_dir: Where the cache is, which gets the calibrations.

    Returns:
        For each config why it could not be measured; None if it could.
    """
    found: list[Failure | None] = []
    while len(found) < len(configs):
        answers, death = _ask(configs[len(found) :], runs_dir)
        found += answers
        if len(found) < len(configs):
            found.append(death)
    return found


def _ask(
    configs: Sequence[RunConfig], runs_dir: Path
) -> tuple[list[Failure | None], PreparationError]:
    """Ask a process; returns what it answered, and of what it died if that is not all."""
    count = threads_of(configs[0], 1)
    request = {
        "parent": os.getpid(),
        "runs_dir": str(runs_dir),
        "jobs": [config.having(threads=count).values for config in configs],
        "references": [reference_section(config).values for config in configs],
    }
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    environment |= library_variables(count, environment)
    kills = memory.kills()
    child = subprocess.run(
        [sys.executable, "-m", "experiments.timing.calibration_child"],
        cwd=Path(__file__).parents[2],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        check=False,
    )
    answers = [entry and _failure(*entry) for entry in map(json.loads, child.stdout.splitlines())]
    status, reason = judge(
        child.returncode, for_memory=memory.kills() > kills, process="its process"
    )
    return answers, PreparationError(f"calibration: {reason}", status=status)


def _failure(status: str, reason: str) -> Failure:
    text = f"calibration: {reason}"
    return UserError(text) if status == REFUSED else PreparationError(text, status=status)
