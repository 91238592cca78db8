"""What the record of a run says that it is: the facts that tables are made from."""

from typing import Any, Protocol

from experiments.config import budget
from experiments.config.run_config import RunConfig


class JudgedTask(Protocol):
    """What the identity takes from a task that is built."""

    @property
    def metric(self) -> str:
        """Name of what the task is judged by."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is better."""

    @property
    def units(self) -> dict[str, str]:
        """What the loss and each metric are counted in, by name."""

    @property
    def unit(self) -> str:
        """What is counted: images or tokens."""

    @property
    def validation(self) -> object | None:
        """The validation split, if there is one."""


def describe(config: RunConfig, task: JudgedTask) -> dict[str, Any]:
    """Tell what goes into the run's status, flat and complete for any table."""
    return {
        "task": config.task.name,
        "dataset": config.task.name,
        "tokenization": tokenization(config),
        "model": config.model.name,
        "setting": setting(config),
        "optimizer": config.optimizer.name,
        "family": config.optimizer.family,
        "ruleset": config.ruleset,
        "budget": budget.describe(config.budget),
        "schedule": config.schedule.name,
        "batch_size": config.task.batching.batch_size,
        "precision": config.precision,
        "protocol": protocol(config),
        "origin": config.origin,
        "seed": config.seed,
        "group_id": config.group_id,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "units": task.units,
        "unit": task.unit,
        "validation": task.validation is not None,
        "evaluate_test": _evaluate_test(config, task),
        "hyperparameters": config.optimizer.hyperparameters,
        "published_as": published_as(config),
        "tuning": config.tuning,
        "control": config.control,
        "control_of": config.control and config.having(control=None).group_id,
    }


def typed_files(config: RunConfig) -> dict[str, str]:
    """Give the sha256 of the files that the method and the task were typed as, by their group.

    What is of ``conf/`` has none: its code is that of the checkout, which a record names.
    """
    sections = {"optimizer": config.optimizer, "task": config.task}
    found = {group: section.suite.get("sha256") for group, section in sections.items()}
    return {group: str(sha256) for group, sha256 in found.items() if sha256 is not None}


def _evaluate_test(config: RunConfig, task: JudgedTask) -> str:
    """Say when test is evaluated: each time, where no validation split tells what is best."""
    at_best = config.evaluate_test == "best" and task.validation is not None
    return "best" if at_best else str(bool(config.evaluate_test)).lower()


def tokenization(config: RunConfig) -> str | None:
    """Name the tokenisation and its settings, as ``bpe vocab_size=8192``; None: no text."""
    section = config.tokenization
    if section is None:
        return None
    settings = (f"{key}={value}" for key, value in section.hyperparameters.items())
    return " ".join([section.name, *settings])


def published_as(config: RunConfig) -> dict[str, Any]:
    """Name the run as the published tables do; it joins a row where nothing is None.

    A perplexity joins only with the published vocabulary: otherwise the task's entry is None.
    """
    names = {
        "task": config.task.published_as,
        "model": config.model.published_as,
        "optimizer": config.optimizer.published_as,
    }
    if config.control is not None:
        names["optimizer"] = None
    if config.tokenization and config.tokenization.published_as is None:
        names["task"] = None
    return names


def setting(config: RunConfig) -> str:
    """Tell what sets the run apart, else what it starts from, as ``published.csv`` says it."""
    source = config.pretrained.source
    if config.setting or source is None:
        return str(config.setting or "scratch")
    return "imagenet_pretrained" if source == "imagenet" else "pretrained"


def protocol(config: RunConfig) -> dict[str, Any]:
    """Everything that a run is but its method and seed, by section: what it is compared within.

    A budget that is a table by methods is there as a whole (``by_optimizer``), where it was kept.
    """
    kept = {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in config.essence.items()
        if key not in ("seed", "optimizer", "ruleset", "control")
    }
    for section in kept.values():
        if isinstance(section, dict):
            section.pop("_partial_", None)
    table = config.budget.get(budget.TABLE)
    if table and config.budget.get("epochs") == table.get(config.optimizer.name):
        kept["budget"][budget.TABLE] = dict(table)
    return kept
