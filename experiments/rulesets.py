"""Where hyperparameters come from: that tuned ones exist, and whether they are those of this run.

conf/tuned/ is keyed by task and method. A run with another model or tokenisation than they were
tuned with takes them all the same, and says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments import commandline, identity
from experiments.errors import UserError

TUNED = "tuned"


def asks(overrides: Sequence[str]) -> bool:
    """Whether the overrides can choose a ruleset, by themselves or through an experiment."""
    return any(item.startswith(("ruleset=", "experiment=")) for item in overrides)


def check_tuned(choices: Mapping[str, Any], jobs: Iterable[Sequence[str]]) -> None:
    """Refuse ``ruleset=tuned`` where nothing was tuned; Hydra would take the defaults instead.

    Args:
        choices: The first job's choice of each config group.
        jobs: Overrides of every job.

    Raises:
        UserError: At the first pair of method and task without a file.
    """
    known = {group: commandline.choices(group) for group in ("task", "optimizer")}
    for job in jobs:
        chosen = dict(choices) | dict(item.partition("=")[::2] for item in job)
        task, optimizer = chosen["task"], chosen["optimizer"]
        path = commandline.CONF / TUNED / task / f"{optimizer}.yaml"
        if any(chosen[group] not in known[group] for group in known):
            continue  # a name that does not exist is another mistake, with a line of its own
        if chosen["ruleset"] == TUNED and not path.exists():
            raise UserError(
                f"Invalid ruleset: {TUNED!r}. {optimizer} is not tuned on {task}. Tune it by `make "
                f"tune OPT={optimizer} TASK={task}`, or take ruleset=default."
            )


def remarks(config: Mapping[str, Any]) -> list[str]:
    """What differs between a run and the trials that its hyperparameters were chosen by.

    Args:
        config: The resolved config.

    Returns:
        One line a difference; none where the hyperparameters were not tuned here.
    """
    tuning = config.get("tuning")
    if not isinstance(tuning, Mapping):
        return []
    optimizer, task = config["optimizer"]["name"], config["task"]["name"]
    found = {"model": config["model"]["name"], "tokenization": identity.tokenization(config)}
    told = [
        f"{optimizer} on {task}: tuned with {key}={tuning[key]}, used with {key}={value}"
        for key, value in found.items()
        if key in tuning and tuning[key] != value
    ]
    for key, value in (tuning.get("chosen") or {}).items():
        if config["optimizer"].get(key) != value:
            used = config["optimizer"].get(key)
            told.append(f"{optimizer} on {task}: tuned to {key}={value}, used with {key}={used}")
    return told
