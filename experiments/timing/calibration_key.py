"""Which calibration serves a config: a key of what decides the cost of a step on this machine."""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.config import budget, commandline, named
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection, Section
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError
from experiments.system.cores import threads_of

CACHE_DIR = ".calibration"
REFERENCE = "adafisher"
"""What a method is measured against where its budget names nothing."""
MANNER = 6
"""The way of measuring; what was measured in another is measured anew."""

# Not `control`: it takes the steps of the method that it controls, or the two would not pair.
_SETTING = ("tokenization", "model", "precision", "compile", "channels_last", "deterministic")
# What leaves the cost of a step as it is.
_COSTLESS = (
    *("eval_batch_size", "evaluations_per_epoch", "evaluate_every", "validation_limit"),
    *("lr", "seed", "workers", "weights_dir"),
)
# The same of what stands under `suite:`. Any key that is not here, a new one too, is part of a key.
_COSTLESS_OF_SUITE = (
    *("family", "published_as", "form", "neutral"),  # names, and what an id is made of
    *("search", "coordinates", "nullable", "signed", "real"),  # what may be tried
    *("epochs", "schedule"),  # steps are timed at a constant rate, and are counted by the budget
    "threads",  # a default; those that a run has are the machine's
    *("shardable", "split"),  # of several processes, which no calibration serves
    "control",  # it takes the steps of its method
)
# Of which a step costs the same at any value but none: a trial of another one is not timed anew.
_AMOUNTS = ("weight_decay", "momentum", "damping", "adamw_lr_ratio", "ema")

_ROOT = Path(__file__).parents[2]

# What an id is made of besides arguments, and costs nothing.
_NOTES = ("_partial_", "_convert_", "epochs", "schedule", "family")


def path_of(config: RunConfig, runs_dir: Path) -> Path:
    """Tell where the calibration of a config is kept, if there is one.

    Args:
        config: The resolved config; ``threads`` null stands for all cores.
        runs_dir: Where the runs are.

    Raises:
        UserError: If there is no such reference.
    """
    reference = reference_section(config)
    return runs_dir / CACHE_DIR / f"{key(config, reference, machine(config))}.json"


def key(config: RunConfig, reference: MethodSection, facts: Mapping[str, Any]) -> str:
    """Name of a cached calibration: a hash of setting, machine and method, and of the reference.

    Args:
        config: The resolved config.
        reference: The optimizer's section of the reference.
        facts: ``machine(config)``.
    """
    return f"{_method_key(config, facts)}-{_digest([_costly(reference), _code(reference)])}"


def beside_any(config: RunConfig, runs_dir: Path) -> list[Path]:
    """Find what is kept of a config, whatever it was measured beside."""
    return sorted((runs_dir / CACHE_DIR).glob(f"{_method_key(config, machine(config))}-*.json"))


def reference_section(config: RunConfig) -> MethodSection:
    """Give the optimizer's section of the method that a config is measured against.

    Raises:
        UserError: If there is no such method.
    """
    name = budget.reference(config.budget) or REFERENCE
    if name not in commandline.choices("optimizer"):
        known_names = ", ".join(commandline.choices("optimizer"))
        raise UserError(f"Invalid budget.match_seconds: {name!r}. Must be one of: {known_names}.")
    # In the process of a run nothing was typed: what was elsewhere is known by the config's files.
    named.remember("task", config.task.name, config.files)
    return _composed_section(config.task.name, config.model.name, config.ruleset, name)


def setting_key(config: RunConfig) -> str:
    """Name of a setting, whose methods are measured together."""
    return _digest([_essence(config), config.device, threads_of(config, 1)])


def setting(config: RunConfig) -> dict[str, Any]:
    """Gather what a record tells of the setting that was measured."""
    return {
        "task": config.task.name,
        "model": config.model.name,
        "batch_size": config.task.batching.batch_size,
        "precision": config.precision,
        "hyperparameters": config.optimizer.hyperparameters,
    }


def cost_facts(essence: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what of a setting decides the cost of a step, whatever the method.

    Args:
        essence: Of a config, or the protocol of a record.
    """
    return {
        key: _costing(value) if isinstance(value, Mapping) else value
        for key in ("task", *_SETTING, "loss_scale")
        if (value := essence.get(key)) is not None
    }


def method_facts(config: RunConfig) -> dict[str, Any]:
    """Gather what of a method decides the cost of its step; a rate of any kind by being there."""
    return {
        key: bool(value) if key in _AMOUNTS or _is_real(value) else value
        for key, value in _costing(config.essence["optimizer"]).items()
    }


def _costing(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in section.items() if key not in (*_COSTLESS, *_NOTES)}


def _is_real(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, float) for item in items)


def machine(config: RunConfig) -> dict[str, Any]:
    """Gather the facts of this machine that decide how long a step takes."""
    import torch  # a sweep's parent, which measures in another process, can do without

    from experiments.engine import compute
    from experiments.engine.machine import describe_machine

    device = compute.pick_device(config.device)
    facts = describe_machine(device)
    return {
        "device": facts["device"],
        "processor": facts["cpu_model"],
        "cpu_count": facts["cpu_count"],
        "threads": threads_of(config, 1),
        "torch": str(torch.__version__),
    }


def _code(section: Section) -> list[Any]:
    """Gather what tells one state of the code of a method or model from another."""
    target = str(section.arguments.get("_target_", ""))
    module = target.rpartition(".")[0]
    top = module.partition(".")[0]
    if top == "adafisher":  # what decides whether it has its C library
        command = os.environ.get("CC", "").split() or ["cc"]
        compiler = shutil.which(command[0]) is not None
        return [_checksum(_ROOT / top), os.environ.get("ADAFISHER_NATIVE"), compiler]
    if top == "experiments":  # with what its neighbours have for it
        return [_checksum((_ROOT / module.replace(".", "/")).parent)]
    try:
        return [metadata.version(top)] if top else []
    except metadata.PackageNotFoundError:  # a file that was typed has its checksum in its target
        return []


def remember_code() -> None:
    """Take the checksums now: of the code that is loaded, whatever is edited meanwhile."""
    for folder in ("adafisher", "experiments/models", "experiments/optimizers"):
        _checksum(_ROOT / folder)


@functools.cache
def _checksum(folder: Path) -> str:
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in (".c", ".py")]
    return _digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


@functools.cache
def _composed_section(task: str, model: str, ruleset: str, name: str) -> MethodSection:
    from experiments.config import compose

    chosen = [f"task={task}", f"model={model}", f"ruleset={ruleset}", f"optimizer={name}"]
    return compose.composed(chosen).optimizer


def _method_key(config: RunConfig, facts: Mapping[str, Any]) -> str:
    code = [_code(section) for section in (config.model, config.optimizer)]
    return _digest([MANNER, _essence(config), _costly(config.optimizer), facts, code])


def _essence(config: RunConfig) -> dict[str, Any]:
    chosen = {name: config.values.get(name) for name in _SETTING}
    if config.loss_scale is not None:  # it came later; without one the keys are as before
        chosen["loss_scale"] = config.loss_scale
    return {"task": _costly(config.task), **chosen}


def _costly(section: Section) -> dict[str, Any]:
    # Of a file that was typed the name stays when it is edited, and its checksum does not.
    return {
        **_valued(section.arguments, _COSTLESS),
        SUITE: _valued(section.suite, _COSTLESS_OF_SUITE),
    }


def _valued(values: Mapping[str, Any], costless: tuple[str, ...]) -> dict[str, Any]:
    """Leave out what costs nothing; of an amount keep whether there is one."""
    return {
        key: bool(value) if key in _AMOUNTS else value
        for key, value in values.items()
        if key not in costless
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
