"""Checks before anything starts: a mistake is one line now, not a failed run an hour later."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from experiments.config import commandline, compose, identity, rulesets, values
from experiments.errors import UserError, first_line
from experiments.records.schema import BrokenRecordError
from experiments.records.store import RunFolder
from experiments.sweep import inspection

Config = dict[str, Any]


def check(overrides: list[str]) -> Config:
    """Compose, type-check and try out every value that the overrides name.

    Args:
        overrides: Those of one run, or of a sweep.

    Returns:
        The config of the first job.

    Raises:
        UserError: At the first mistake.
    """
    checked: set[str] = set()
    first: Config | None = None
    with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
        _check_rulesets(overrides)
        for job in _samples(overrides):
            config = compose.resolve(compose.compose_job(job))
            for remark in set(rulesets.remarks(config)) - checked:
                checked.add(remark)
                print(f"warning: {remark}", file=sys.stderr, flush=True)
            if first is None:
                first = config
                _check_writable(Path(config["runs_dir"]))
            if _is_done(config):  # its values have proved themselves, and torch need not be loaded
                continue
            values.check(dict(values.leaves(config)), like=compose.defaults(job))
            inspection.inspect(config)
            for kind in ("task", "tokenization", "model"):
                key = repr((kind, config.get(kind), config["data_dir"]))
                if config.get(kind) and key not in checked:
                    checked.add(key)
                    inspection.find_data(config[kind], Path(config["data_dir"]))
    GlobalHydra.instance().clear()
    assert first is not None  # `samples` yields at least one job
    return first


def _check_rulesets(overrides: list[str]) -> None:
    if rulesets.asks(overrides):
        first = next(_samples(overrides))
        config = compose.compose_job(first, hydra=True)
        choices, jobs = config.hydra.runtime.choices, commandline.jobs(overrides)
        for line in rulesets.check_tuned(choices, jobs, untuned=config.untuned, seed=config.seed):
            print(f"warning: {line}", file=sys.stderr, flush=True)


def _samples(overrides: list[str]) -> Iterator[list[str]]:
    try:
        yield from commandline.samples(overrides)
    except HydraException as error:
        raise UserError(first_line(error)) from error


def _is_done(config: Config) -> bool:
    folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
    try:
        run = folder.read()
    except BrokenRecordError:
        return False
    return run is not None and run.status == "done"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise UserError(f"Cannot write to runs_dir {folder}: {error.strerror}.") from error
