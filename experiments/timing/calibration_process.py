"""The process that measures the methods of a setting: what it is asked, and what it answers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

    Args:
        configs: Resolved configs of one setting.
        runs_dir: Where the cache is, which gets the calibrations.

    Returns:
        For each config why it could not be measured; None if it could.

    Raises:
        PreparationError: If the process died.
    """
    count = threads_of(configs[0], 1)
    request = {
        "runs_dir": str(runs_dir),
        "jobs": [config.having(threads=count).values for config in configs],
        "references": [reference_section(config).values for config in configs],
    }
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    environment |= library_variables(count, environment)
    try:
        answer = ask("experiments.timing.calibration_child", request, environment)
    except PreparationError as death:
        raise PreparationError(f"calibration: {death}", status=death.status) from None
    return [entry and _failure(*entry) for entry in answer]


def ask(module: str, request: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Let a process answer: JSON on its standard input, and on the last line of its output.

    Args:
        module: What the process runs; it ends with this one, whose number it gets as ``parent``.
        request: What it is asked.
        environment: Its variables.

    Raises:
        PreparationError: If the process died.
    """
    kills = memory.kills()
    child = subprocess.run(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[2],
        input=json.dumps({"parent": os.getpid(), **request}),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        check=False,
    )
    if child.returncode:
        status, reason = judge(
            child.returncode, for_memory=memory.kills() > kills, process="its process"
        )
        raise PreparationError(reason, status=status)
    return json.loads(child.stdout.splitlines()[-1])


def _failure(status: str, reason: str) -> Failure:
    text = f"calibration: {reason}"
    return UserError(text) if status == REFUSED else PreparationError(text, status=status)
