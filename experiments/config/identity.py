"""What a run is: its id, the id of its group of seeds, and the facts that tables are made from."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from experiments.config import budget

# Where a run reads and writes, how it is shown, and notes: none of it changes a measurement.
# Neither does the number of processes, nor how they share the model, but by rounding.
NOT_HASHED = (
    "data_dir",
    "runs_dir",
    "cache_dir",
    "tracking",
    "threads",
    "retry",
    "grids",
    "recipe",
    "distributed",
    "tuning",
    "origin",
    "jobs",
    "processes",
    "fail_fast",
    "deterministic",
    "untuned",
    "memory_limit_gb",
    "evaluate_test",
)
NOTES = (
    "published_as",
    "search",
    "parameters",
    "threads",
    "by_optimizer",
    "minimum_percent",
    "weights_dir",
    "workers",
    "shardable",
    "control",
    "neutral",
    "nullable",
)
HYPERPARAMETERS = (
    "keep_gradients",
)  # of `needs`: one of a method's hyperparameters where it is true
# Nulls that were hashed from the first. Every other null is left out at any depth, and so is a
# value that the section's `neutral` names: an argument that comes later changes no id while it
# changes nothing.
NULLS = (
    "setting",
    "pretrained.source",
    "model.weights",
    "optimizer.shampoo_beta",
    "optimizer.ema_decay",
    "budget.reference_steps",
    "schedule.horizon_epochs",
)

Config = Mapping[str, Any]


class Measured(Protocol):
    """What the identity takes from a task that is built."""

    @property
    def metric(self) -> str:
        """Name of what the task is judged by."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is better."""

    @property
    def unit(self) -> str:
        """What is counted: images or tokens."""

    @property
    def validation(self) -> object | None:
        """The validation split, if there is one."""


def run_id(config: Config) -> str:
    """Id of the run: a hash of the resolved config, whatever the order of its keys."""
    return _digest(_essence(config))


def group_id(config: Config) -> str:
    """Id that the seeds of one setting share."""
    return _digest({key: value for key, value in _essence(config).items() if key != "seed"})


def hyperparameters(section: Config) -> dict[str, Any]:
    """The values of an optimizer's section, without what only the suite reads.

    Of ``needs`` those of ``HYPERPARAMETERS`` are: no part of a method, and they change it.
    """
    hidden = ("_target_", "_partial_", "_convert_", "name", "family", "needs", *NOTES)
    kept = {key: value for key, value in section.items() if key not in hidden}
    needs = section.get("needs") or {}
    return kept | {name: True for name in HYPERPARAMETERS if needs.get(name)}


def hashed_hyperparameters(section: Config) -> dict[str, Any]:
    """``hyperparameters`` without those at a value that leaves the id as it is."""
    neutral = {f"optimizer.{key}": value for key, value in (section.get("neutral") or {}).items()}
    return _without_neutral(hyperparameters(section), "optimizer.", neutral)


def describe(config: Config, task: Measured) -> dict[str, Any]:
    """The identity that goes into the run's status, flat and complete for any table."""
    return {
        "task": config["task"]["name"],
        "dataset": config["task"]["name"],
        "tokenization": tokenization(config),
        "model": config["model"]["name"],
        "setting": setting(config),
        "optimizer": config["optimizer"]["name"],
        "family": config["optimizer"]["family"],
        "ruleset": config["ruleset"],
        "budget": budget.describe(config["budget"]),
        "schedule": config["schedule"]["name"],
        "batch_size": config["task"]["batch_size"],
        "precision": config["precision"],
        "protocol": protocol(config),
        "origin": config.get("origin"),
        "seed": config["seed"],
        "group_id": group_id(config),
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "unit": task.unit,
        "validation": task.validation is not None,
        "hyperparameters": hyperparameters(config["optimizer"]),
        "published_as": published_as(config),
        "tuning": config["tuning"],
        "control": config["control"],
        "control_of": config["control"] and group_id({**config, "control": None}),
    }


def tokenization(config: Config) -> str | None:
    """The tokenisation and its settings in one text, as ``bpe vocab_size=8192``; None: no text."""
    section = config.get("tokenization")
    if not section:
        return None
    settings = (f"{key}={value}" for key, value in hyperparameters(section).items())
    return " ".join([section["name"], *settings])


def published_as(config: Config) -> dict[str, Any]:
    """What the run is called in the published tables; it joins a row where nothing is None.

    A perplexity joins only with the published vocabulary: otherwise the task's entry is None.
    """
    names = {key: config[key].get("published_as") for key in ("task", "model", "optimizer")}
    if config["control"] is not None:
        names["optimizer"] = None
    section = config.get("tokenization")
    if section and section["published_as"] is None:
        names["task"] = None
    return names


def label(config: Config) -> str:
    """The run in a few words, for displays."""
    names = (config["task"]["name"], config["optimizer"]["name"])
    return label_of(*names, seed=config["seed"], control=config.get("control"))


def label_of(task: str, optimizer: str, *, seed: int, control: str | None) -> str:
    """The run in a few words, from its record as from its config.

    Example:
        >>> label_of("digits", "adam", seed=0, control=None)
        'digits adam seed 0'
        >>> label_of("digits", "adam", seed=0, control="scalar")
        'digits adam control=scalar seed 0'
    """
    return f"{task} {method(optimizer, control)} seed {seed}"


def method(optimizer: str, control: str | None) -> str:
    """An optimizer, or its control, in a few words."""
    return optimizer if control is None else f"{optimizer} control={control}"


def setting(config: Config) -> str:
    """What sets the run apart, else what its training starts from, as ``published.csv`` says it."""
    source = config["pretrained"]["source"]
    if config["setting"] or source is None:
        return str(config["setting"] or "scratch")
    return "imagenet_pretrained" if source == "imagenet" else "pretrained"


def protocol(config: Config) -> dict[str, Any]:
    """Everything that a run is but its method and seed, by section: what it is compared within.

    A budget that is a table by methods is there as a whole (``by_optimizer``), where it was kept.
    """
    kept = _essence(config)
    for key in ("seed", "optimizer", "ruleset", "control"):
        kept.pop(key, None)
    for section in kept.values():
        if isinstance(section, dict):
            section.pop("_partial_", None)
    table = config["budget"].get(budget.TABLE)
    if table and config["budget"].get("epochs") == table.get(config["optimizer"]["name"]):
        kept["budget"][budget.TABLE] = dict(table)
    return kept


def _essence(config: Config) -> dict[str, Any]:
    """What the id is made of, without what is left out of it at any depth."""
    kept = {key: value for key, value in config.items() if key not in NOT_HASHED}
    return {
        key: _without_neutral(
            {k: v for k, v in value.items() if k not in NOTES},
            f"{key}.",
            {f"{key}.{name}": item for name, item in (value.get("neutral") or {}).items()},
        )
        if isinstance(value, Mapping)
        else value
        for key, value in kept.items()
        if value is not None or key in NULLS
    }


def _without_neutral(section: Config, prefix: str, neutral: Config) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}{key}"
        if name in neutral:
            # A null beside a neutral value that is none is a choice of its own.
            if _canonical(value) != _canonical(neutral[name]):
                kept[key] = value
        elif isinstance(value, Mapping):
            kept[key] = _without_neutral(value, f"{name}.", neutral)
        elif value is not None or name in NULLS:
            kept[key] = value
    return kept


def _digest(value: Any) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(value: Any) -> Any:
    """One spelling for each value: ``1`` and ``1.0`` are the same number to every method."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
