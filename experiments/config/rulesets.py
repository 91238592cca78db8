"""Where hyperparameters come from: that tuned ones exist, and whether they are those of this run.

conf/tuned/ is keyed by task and method. A run with another model or tokenisation than they were
tuned with takes them all the same, and says so. One with a seed that they were chosen by is
refused: its result would be better than those of other seeds can be.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from experiments.config import commandline, identity, named
from experiments.config.run_config import RunConfig
from experiments.errors import UserError

TUNED = "tuned"
REFUSE = "refuse"
UNTUNED = (REFUSE, "default")


def asks(overrides: Sequence[str]) -> bool:
    """Tell whether the overrides can choose a ruleset, by themselves or through an experiment."""
    return any(item.startswith(("ruleset=", "experiment=")) for item in overrides)


def check_tuned(
    choices: Mapping[str, Any], jobs: Iterable[Sequence[str]], *, untuned: str, seed: int
) -> list[str]:
    """Look for ``ruleset=tuned`` where nothing was tuned; Hydra takes the defaults there.

    Args:
        choices: The first job's choice of each config group.
        jobs: Overrides of every job.
        untuned: One of ``UNTUNED``: what to do then.
        seed: That of a job which does not name one.

    Returns:
        One line for each pair of method and task that takes the defaults.

    Raises:
        UserError: At the first pair without a file where that is refused, at the first job with a
            seed that its hyperparameters were chosen by, or if ``untuned`` is unknown.
    """
    if untuned not in UNTUNED:
        raise UserError(f"Invalid untuned: {untuned!r}. Must be one of: {', '.join(UNTUNED)}.")
    found: dict[str, None] = {}
    known = {
        group: [*commandline.choices(group), *named.known(group)] for group in ("task", "optimizer")
    }
    for job in jobs:
        chosen = dict(choices) | dict(item.partition("=")[::2] for item in job)
        task, optimizer = chosen["task"], chosen["optimizer"]
        path = commandline.CONF / TUNED / task / f"{optimizer}.yaml"
        if any(chosen[group] not in known[group] for group in known):
            continue  # a name that does not exist is another mistake, with a line of its own
        if chosen["ruleset"] != TUNED:
            continue
        if path.exists():
            _check_seed(str(chosen.get("seed", seed)).strip("'\""), path)
            continue
        how = f"`make tune OPT={optimizer} TASK={task}`"
        if untuned == REFUSE:
            raise UserError(
                f"Invalid ruleset: {TUNED!r}. {optimizer} is not tuned on {task}. Tune it by "
                f"{how}, or take ruleset=default."
            )
        found[f"{optimizer} is not tuned on {task}: it takes its defaults; {how} tunes"] = None
    return list(found)


def _check_seed(seed: str, path: Path) -> None:
    seeds = _seeds_in(path.read_text(encoding="utf-8"))
    if seed in seeds:
        raise UserError(
            f"Invalid seed: {seed}. {path.stem} on {path.parent.name} was tuned with it (seeds "
            f"{', '.join(seeds)}), so its result would be one that it was chosen by. Take others."
        )


@cache
def _seeds_in(text: str) -> tuple[str, ...]:
    """Read the seeds of the trials behind a tuned file, once for all seeds of a sweep."""
    try:
        seeds = yaml.safe_load(text)["tuning"]["seeds"]
    except (yaml.YAMLError, KeyError, TypeError):
        return ()  # written by hand; a fault of the file is told where it is composed
    return tuple(map(str, seeds)) if isinstance(seeds, list) else (str(seeds),)


def remarks(config: RunConfig) -> list[str]:
    """Say what differs between a run and the trials that its hyperparameters were chosen by.

    Args:
        config: The resolved config.

    Returns:
        One line a difference; none where the hyperparameters were not tuned here.
    """
    tuning = config.tuning
    if not isinstance(tuning, Mapping):
        return []
    optimizer, task = config.optimizer.name, config.task.name
    found = {"model": config.model.name, "tokenization": identity.tokenization(config)}
    lines = [
        f"{optimizer} on {task}: tuned with {key}={tuning[key]}, used with {key}={value}"
        for key, value in found.items()
        if key in tuning and tuning[key] != value
    ]
    for key, value in (tuning.get("chosen") or {}).items():
        used = config.optimizer.arguments.get(key)
        if used != value:
            lines.append(f"{optimizer} on {task}: tuned to {key}={value}, used with {key}={used}")
    return lines
