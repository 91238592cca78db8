"""Checks before anything starts: a mistake is one line now, not a failed run an hour later."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import commandline, compose, compositions, origin, rulesets
from experiments.config.run_config import RunConfig
from experiments.errors import UserError
from experiments.records.schema import BrokenRecordError
from experiments.records.store import RunFolder
from experiments.sweep import forks, supervision
from experiments.sweep.inspection import ANSWER_SUFFIX, Inspection
from experiments.system.output import say


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        overrides: Those that make it.
        config: What they compose to.
        is_done: Whether its run is, so that its values have proved themselves.
    """

    overrides: Sequence[str]
    config: RunConfig
    is_done: bool


def check(overrides: list[str]) -> RunConfig:
    """Compose, type-check and try out every value that the overrides name.

    Args:
        overrides: Those of one run, or of a sweep.

    Returns:
        The config of the first job.

    Raises:
        UserError: At the first mistake.
    """
    jobs = composed(overrides)
    inspection = Inspection()
    for job in to_inspect(jobs):
        with compose.placed(job.overrides):
            inspection.of(job.config)
    return jobs[0].config


def composed(grid: list[str], *, meet: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Compose and type-check every job of a grid.

    Args:
        grid: The overrides of a sweep, or of one run.
        meet: Is told of each job, before the next is composed.

    Returns:
        The jobs, in the order in which they are launched; one at least.

    Raises:
        UserError: At the first mistake.
    """
    _check_rulesets(grid)
    jobs: list[Job] = []
    shown: set[str] = set()
    otherwise: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for overrides, config in compose.listed(grid):
        for remark in _remarks(config, overrides):
            if remark not in shown:
                shown.add(remark)
                say(f"warning: {remark}", error=True)
        if budgets := rulesets.budgets_apart(config):
            methods = otherwise.setdefault(config.task.name, {}).setdefault(budgets, {})
            methods[config.optimizer.name] = None
        jobs.append(Job(overrides, config, _is_done(config)))
        meet(jobs[-1])
    for task, found in otherwise.items():  # a line a task: they are those of most methods
        parts = [
            f"{', '.join(methods)} tuned for {tuned}, used for {used}"
            for (tuned, used), methods in found.items()
        ]
        say(f"warning: another budget on {task}: {'; '.join(parts)}", error=True)
    return jobs


def to_inspect(jobs: Sequence[Job]) -> list[Job]:
    """Choose of each config that is not done one of its seeds."""
    chosen = {job.config.having(seed=0).run_id: job for job in reversed(jobs) if not job.is_done}
    return list(reversed(chosen.values()))


def inspect(jobs: Sequence[Job], environment: Mapping[str, str]) -> None:
    """Try out the configs of jobs in a process like those of their runs.

    So the process that leads a sweep does without torch, which takes seconds to load.

    Args:
        jobs: The jobs.
        environment: The variables of that process.

    Raises:
        UserError: At the first mistake.
    """
    configs = [job.config for job in jobs]
    with tempfile.TemporaryDirectory(prefix="adafisher-") as folder:
        path = Path(folder) / "inspection.json"
        request = {"inspect": [config.values for config in configs], "parent": os.getpid()}
        path.write_text(json.dumps(request), encoding="utf-8")
        modules = None if configs[0].fresh else supervision.modules(configs[0])
        child = forks.start(path, environment, modules=modules)
        try:
            code = child.wait()
        finally:
            child.kill()
            child.wait()
        answer = path.with_suffix(ANSWER_SUFFIX)
        if not answer.exists():
            raise UserError(f"The process that was to try out the configs ended with code {code}.")
        mistake = json.loads(answer.read_text(encoding="utf-8"))
    if mistake:
        with compose.placed(jobs[mistake["number"]].overrides):
            raise UserError(mistake["line"])


def _check_rulesets(overrides: list[str]) -> None:
    if rulesets.asks(overrides):
        jobs = commandline.jobs(overrides)
        made = compositions.of(jobs[0])
        untuned, seed = made.config.untuned, made.config.seed
        for line in rulesets.check_tuned(made.choices, jobs, untuned=untuned, seed=seed):
            say(f"warning: {line}", error=True)


def _remarks(config: RunConfig, overrides: Sequence[str]) -> list[str]:
    if (config.tuning or {}).get("setting") is not None:
        config = config.having(origin=origin.of(config, overrides))
    return rulesets.remarks(config)


def _is_done(config: RunConfig) -> bool:
    folder = RunFolder(config.runs_dir, config.run_id)
    try:
        run = folder.read()
    except BrokenRecordError:
        return False
    return run is not None and run.status == "done"


def check_writable(folder: Path) -> None:
    """Make the folder of the runs, when everything else has passed.

    Raises:
        UserError: If nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise UserError(f"Cannot write to runs_dir {folder}: {error.strerror}.") from error
