"""Checks before anything starts: a mistake is one line now, not a failed run an hour later."""

import importlib
import tempfile
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from experiments.config import commandline, compose, rulesets, values
from experiments.config.run_config import RunConfig, Section
from experiments.errors import UserError, first_line
from experiments.output import say
from experiments.records.schema import BrokenRecordError
from experiments.records.store import RunFolder


def check(overrides: list[str]) -> RunConfig:
    """Compose, type-check and try out every value that the overrides name.

    Args:
        overrides: Those of one run, or of a sweep.

    Returns:
        The config of the first job.

    Raises:
        UserError: At the first mistake.
    """
    checked: set[str] = set()
    first: RunConfig | None = None
    with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
        _check_rulesets(overrides)
        for job in _samples(overrides):
            config = compose.resolve(compose.compose_job(job))
            for remark in set(rulesets.remarks(config)) - checked:
                checked.add(remark)
                say(f"warning: {remark}", error=True)
            if first is None:
                first = config
                _check_writable(config.runs_dir)
            if _is_done(config):  # its values have proved themselves, and torch need not be loaded
                continue
            values.check(dict(values.leaves(config.values)), like=compose.defaults(job))
            inspect(config)
            for kind in ("task", "tokenization", "model"):
                section: Section | None = getattr(config, kind)
                key = repr((kind, section, config.data_dir))
                if section is not None and key not in checked:
                    checked.add(key)
                    find_data(section, config.data_dir)
    GlobalHydra.instance().clear()
    assert first is not None  # `samples` yields at least one job
    return first


def inspect(config: RunConfig) -> None:
    """Try out every section of a config, but for the data.

    The optimizer is made once, for a model of one layer, so that it refuses bad values now.

    Raises:
        UserError: At the first value that no run can have.
    """
    import torch

    from experiments.config import budget
    from experiments.engine import build, compute
    from experiments.run import control
    from experiments.timing import calibration
    from experiments.tracking import mirror

    mirror.check(config.tracking)
    _ = config.task.batching  # it refuses bad sizes
    budget.check(config.budget)
    calibration.check(config)
    compute.resolve(config)
    control.check(config)
    _check_pretrained(config)
    build.build_optimizer(config.optimizer, torch.nn.Linear(2, 2))
    _check_tokenization(config)


def find_data(section: Section, data_dir: Path) -> None:
    """Ask a section's module, if it has a ``check``, whether the files that it reads are there.

    Args:
        section: That of a task, a tokenization or a model.
        data_dir: Where the files should be.

    Raises:
        UserError: If one is missing.
    """
    module = importlib.import_module(section.arguments["_target_"].rpartition(".")[0])
    check = getattr(module, "check", None)
    if check is not None:
        accepted = signature(check).parameters
        known = {"data_dir": data_dir, **section.suite, **section.arguments}
        check(**{key: value for key, value in known.items() if key in accepted})


def _check_pretrained(config: RunConfig) -> None:
    """Find the pretrained weights, or download them, before the first run."""
    from experiments.models import transfer

    transfer.check_share(config.pretrained.minimum_percent)
    source = config.pretrained.source
    if source is not None:
        transfer.locate(
            source,
            model=config.model.name,
            weights=config.model.suite.get("weights"),
            data_dir=config.data_dir,
        )


def _check_tokenization(config: RunConfig) -> None:
    """Refuse a tokenisation of images, and text without one."""
    module, _, builder = config.task.arguments["_target_"].rpartition(".")
    wanted = signature(getattr(importlib.import_module(module), builder)).parameters
    task, chosen = config.task.name, config.tokenization
    if chosen and "tokenization" not in wanted:
        raise UserError(f"Invalid tokenization: {chosen.name!r}. task={task} has no text.")
    if not chosen and "tokenization" in wanted:
        known = ", ".join(commandline.choices("tokenization"))
        raise UserError(f"Invalid tokenization: None. task={task} must have one of: {known}.")


def _check_rulesets(overrides: list[str]) -> None:
    if rulesets.asks(overrides):
        first = next(_samples(overrides))
        config = compose.compose_job(first, hydra=True)
        choices, jobs = config.hydra.runtime.choices, commandline.jobs(overrides)
        for line in rulesets.check_tuned(choices, jobs, untuned=config.untuned, seed=config.seed):
            say(f"warning: {line}", error=True)


def _samples(overrides: list[str]) -> Iterator[list[str]]:
    try:
        yield from commandline.samples(overrides)
    except HydraException as error:
        raise UserError(first_line(error)) from error


def _is_done(config: RunConfig) -> bool:
    folder = RunFolder(config.runs_dir, config.run_id)
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
