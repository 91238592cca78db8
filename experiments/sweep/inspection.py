"""Trying out the configs of a sweep: in the process of a run, which has loaded what that takes.

A mistake is one line now, not a failed run an hour later.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.config import code_files, commandline, refusals, targets
from experiments.config.run_config import RunConfig
from experiments.config.sections import Section
from experiments.errors import UserError, refusal
from experiments.likelihood import LOGITS, Likelihood
from experiments.records.store import write_atomic

ANSWER_SUFFIX = ".answer"


class Inspection:
    """Tries out configs, and looks for data once."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._likelihoods: dict[str, Likelihood | None] = {}

    def of(self, config: RunConfig) -> None:
        """Try out every section of a config, and look for what it reads.

        Raises:
            UserError: If no run can have a value, or a file is not there.
        """
        inspect(config)
        if _is_typed(config):
            self._try_task(config)
        for kind in ("task", "tokenization", "model"):
            section: Section | None = getattr(config, kind)
            key = repr((kind, section, config.data_dir))
            if section is not None and key not in self._found:
                self._found.add(key)
                find_data(section, config.data_dir)
        if config.judged_by is not None:
            self._try_judge(config)

    def _try_judge(self, config: RunConfig) -> None:
        """Look for the metric that was typed, once a task: which it has is known when it is built.

        Raises:
            UserError: If it has none of that name.
        """
        from experiments.engine import build

        key = repr((config.judged_by, config.task, config.tokenization, config.data_dir))
        if key not in self._found:
            self._found.add(key)
            build.build_task(config)

    def _try_task(self, config: RunConfig) -> None:
        """Try out a task that was typed once, and whether the method can sample its labels."""
        import torch

        from experiments.engine import build, trial

        key = repr((config.task, config.model, config.data_dir))
        if key not in self._likelihoods:
            self._likelihoods[key] = trial.check(config).objective.likelihood
        optimizer = build.build_optimizer(config.optimizer, torch.nn.Linear(2, 2))
        build.check_likelihood(config.optimizer, optimizer, self._likelihoods[key])


def answer(path: Path, configs: Sequence[Mapping[str, Any]]) -> int:
    """Try out configs for who waits for it; the first mistake goes into a file beside ``path``.

    Args:
        path: The request.
        configs: Values of each config.

    Returns:
        The exit code: 0, as there is an answer.
    """
    inspection = Inspection()
    mistake: dict[str, Any] = {}
    for number, values in enumerate(configs):
        try:
            inspection.of(RunConfig.of(values))
        except (UserError, OSError) as error:
            line = refusal(error)
            if line is None:
                raise
            mistake = {"number": number, "line": line}
            break
    write_atomic(path.with_suffix(ANSWER_SUFFIX), json.dumps(mistake).encode())
    return 0


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
    from experiments.timing import calibration, listed_steps
    from experiments.tracking import mirror

    code_files.load(config.files)
    mirror.check(config.tracking)
    _ = config.task.batching  # it refuses bad sizes
    _check_targets(config)
    budget.check(config.budget)
    calibration.check(config)
    listed_steps.check(config)
    compute.resolve(config)
    control.check(config)
    kind = budget.check(config.budget)
    if config.optimizer.steps_key is not None and kind not in budget.COUNTED:
        raise UserError(
            f"Invalid budget: {budget.describe(config.budget)}. optimizer={config.optimizer.name} "
            f"must know its number of steps: one of {', '.join(budget.COUNTED)}."
        )
    if config.optimizer.ema is not None and config.distributed == "fsdp":
        raise UserError(
            f"Invalid optimizer.suite.ema: {config.optimizer.ema}. Must be null with "
            "distributed=fsdp: the average is of whole weights."
        )
    _check_pretrained(config)
    optimizer = build.build_optimizer(config.optimizer, torch.nn.Linear(2, 2))
    likelihood = getattr(_module(config.task), "LIKELIHOOD", LOGITS)
    if not _is_typed(config):
        build.check_likelihood(config.optimizer, optimizer, likelihood)
    _check_tokenization(config)


def find_data(section: Section, data_dir: Path) -> None:
    """Ask a section's module, if it has a ``check``, whether the files that it reads are there.

    Args:
        section: That of a task, a tokenization or a model.
        data_dir: Where the files should be.

    Raises:
        UserError: If one is missing.
    """
    check = getattr(_module(section), "check", None)
    if check is not None:
        accepted = signature(check).parameters
        known = {"data_dir": data_dir, **section.suite, **section.arguments}
        check(**{key: value for key, value in known.items() if key in accepted})


def _module(section: Section) -> ModuleType:
    return importlib.import_module(section.arguments["_target_"].rpartition(".")[0])


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
    task, chosen, is_text = config.task.name, config.tokenization, _is_text(config)
    if chosen and not is_text:
        raise UserError(f"Invalid tokenization: {chosen.name!r}. task={task} has no text.")
    if not chosen and is_text:
        known = ", ".join(commandline.choices("tokenization"))
        raise UserError(f"Invalid tokenization: None. task={task} must have one of: {known}.")


def _is_text(config: RunConfig) -> bool:
    maker = targets.find("task", config.task.arguments["_target_"])
    return "tokenization" in signature(maker).parameters


def _check_targets(config: RunConfig) -> None:
    """Refuse a ``_target_`` that is none, arguments that it lacks, and a model of other data."""
    from experiments.engine import decay
    from experiments.tasks import task

    stated = config.optimizer.schedule
    sections = {
        "task": config.task.data_arguments,
        "tokenization": config.tokenization.arguments if config.tokenization else None,
        "model": config.model.arguments,
        "schedule": config.schedule.arguments,
        "optimizer.suite.schedule": stated.arguments if stated else None,
        "optimizer": config.optimizer.arguments,
    }
    for name, arguments in sections.items():
        if arguments is not None:
            maker = targets.find(name, arguments["_target_"])
            also = () if name != "optimizer" or config.optimizer.needs.model else (decay.KEY,)
            targets.check_arguments(name, arguments, maker, also=also)
    usual = task.TEXT_ARGUMENTS if _is_text(config) else task.IMAGE_ARGUMENTS
    own: tuple[str, ...] = getattr(_module(config.task), "GIVES", usual)
    kinds = task.IMAGE_ARGUMENTS, task.TEXT_ARGUMENTS, task.VECTOR_ARGUMENTS, task.OWN_ARGUMENTS
    other = {name for kind in kinds for name in kind} - set(own)
    if not _is_typed(config) and _unmet(config.model.arguments, other):
        named = (name for name in commandline.choices("model"))
        files = {name: refusals.load(commandline.CONF / "model" / f"{name}.yaml") for name in named}
        fitting = [name for name, arguments in files.items() if not _unmet(arguments, other)]
        raise UserError(
            f"Invalid model: {config.model.name!r}. It is not for task={config.task.name}, which "
            f"gives {', '.join(own)}. Must be one of: {', '.join(fitting)}."
        )


def _is_typed(config: RunConfig) -> bool:
    """Tell whether the task is a file that was typed: what it gives is known once it is built."""
    return config.task.suite.get("sha256") is not None


def _unmet(arguments: Mapping[str, Any], other: set[str]) -> set[str]:
    """Name what a model must be told that only tasks of another kind tell."""
    wanted = targets.required(targets.find("model", arguments.get("_target_")))
    return (wanted - set(arguments)) & other
