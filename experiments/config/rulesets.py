"""Where hyperparameters come from: that tuned ones exist, and whether they are those of this run.

conf/tuned/ is keyed by task and method, and by the setting that ``tuned=`` names: one of several
budgets or widths. A run in another setting than they were tuned in takes them all the same, and
says so; of another budget a sweep says it once a task. One with a seed that they were chosen by is
refused: its result would be better than those of other seeds can be.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from experiments.config import budget, commandline, identity, named
from experiments.config.run_config import RunConfig
from experiments.errors import UserError

TUNED = commandline.TUNED
OWN = "."
"""In place of a setting: the task's own files, which lie in no folder of theirs."""
DEFAULT = "its default"
REFUSE = "refuse"
UNTUNED = (REFUSE, "default")


def asks(overrides: Sequence[str]) -> bool:
    """Tell whether the overrides can choose a ruleset, by themselves or through an experiment."""
    return any(item.startswith(("ruleset=", "tuned=", "experiment=")) for item in overrides)


def file_of(choices: Mapping[str, Any]) -> str:
    """Give the path, below ``conf/``, of the file that a ruleset takes hyperparameters from.

    Args:
        choices: Of ``ruleset``, ``optimizer``, and ``task`` and ``tuned``, or ``family``.
    """
    if choices["ruleset"] == TUNED:
        path = PurePosixPath(TUNED, choices["task"], choices.get("tuned") or OWN)
    else:
        path = PurePosixPath(str(choices["ruleset"]), str(choices["family"]))
    return f"{path}/{choices['optimizer']}.yaml"


def make_command(choices: Mapping[str, Any]) -> str:
    """Give the command that tunes what a job asks for."""
    setting, experiment = choices.get("tuned") or OWN, choices.get("experiment")
    if setting != OWN and experiment:
        return f"make tune EXPERIMENT={experiment} OPT={choices['optimizer']}"
    further = "" if setting == OWN else f" ARGS=tuned={setting}"
    return f"make tune OPT={choices['optimizer']} TASK={choices['task']}{further}"


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
            seed that its hyperparameters were chosen by, if ``untuned`` is unknown, or if a setting
            is named where no job takes what was tuned.
    """
    if untuned not in UNTUNED:
        raise UserError(f"Invalid untuned: {untuned!r}. Must be one of: {', '.join(UNTUNED)}.")
    found: dict[str, None] = {}
    named_settings, rules = set(), set()
    known = {
        group: [*commandline.choices(group), *named.known(group)] for group in ("task", "optimizer")
    }
    for job in jobs:
        chosen = dict(choices) | dict(item.partition("=")[::2] for item in job)
        task, optimizer = chosen["task"], chosen["optimizer"]
        named_settings |= {item.partition("=")[2] for item in job if item.startswith("tuned=")}
        rules.add(chosen["ruleset"])
        if any(chosen[group] not in known[group] for group in known):
            continue  # a name that does not exist is another mistake, with a line of its own
        if chosen["ruleset"] != TUNED:
            continue
        path = commandline.CONF / file_of(chosen)
        setting = "" if path.parent.name == task else f", for tuned={path.parent.name}"
        if path.exists():
            _check_seed(str(chosen.get("seed", seed)).strip("'\""), path, task)
            continue
        how = f"`{make_command(chosen)}`"
        if untuned == REFUSE:
            raise UserError(
                f"Invalid ruleset: {TUNED!r}. {optimizer} is not tuned on {task}{setting}. Tune it "
                f"by {how}, or take ruleset=default."
            )
        found[
            f"{optimizer} is not tuned on {task}{setting}: it takes its defaults; {how} tunes"
        ] = None
    for name in sorted(named_settings - {OWN}):
        if TUNED not in rules:
            raise UserError(
                f"Invalid tuned: {name!r}. It says which hyperparameters ruleset=tuned takes; the "
                f"ruleset is {', '.join(sorted(map(str, rules)))}."
            )
    return list(found)


def _check_seed(seed: str, path: Path, task: str) -> None:
    seeds = _seeds_in(path.read_text(encoding="utf-8"))
    if seed in seeds:
        raise UserError(
            f"Invalid seed: {seed}. {path.stem} on {task} was tuned with it (seeds "
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
    theirs, ours = tuning.get("sha256") or {}, identity.typed_files(config)
    lines += [
        f"{optimizer} on {task}: tuned with another content of the {group}'s file (sha256 "
        f"{theirs.get(group, 'not recorded')[:12]}, now {ours.get(group, 'none')[:12]})"
        for group in {**theirs, **ours}
        if theirs.get(group) != ours.get(group)
    ]
    tuned_in, used_in = tuning.get("setting"), (config.origin or {}).get("setting")
    if tuned_in is not None and used_in is not None:
        theirs, ours = apart(tuned_in), apart(used_in)
        lines += [
            f"{optimizer} on {task}: tuned with {key}={theirs.get(key, DEFAULT)}, used with "
            f"{key}={ours.get(key, DEFAULT)}"
            for key in {**theirs, **ours}
            if key not in found and theirs.get(key, DEFAULT) != ours.get(key, DEFAULT)
        ]
    for key, value in (tuning.get("chosen") or {}).items():
        used = config.optimizer.arguments.get(key)
        if used != value:
            lines.append(f"{optimizer} on {task}: tuned to {key}={value}, used with {key}={used}")
    return lines


def budgets_apart(config: RunConfig) -> tuple[str, str] | None:
    """Tell the budget that tuned hyperparameters were chosen for, and that of the run, in words.

    Args:
        config: The resolved config.

    Returns:
        Both; None where they are the same, nothing was tuned here, or its budget is not told.
    """
    tuning = config.tuning
    if config.ruleset != TUNED or not isinstance(tuning, Mapping) or not tuning.get("budget"):
        return None
    used = budget.describe(config.budget)
    return None if used == tuning["budget"] else (str(tuning["budget"]), used)


def apart(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the budget out of a setting: that of results may be another (``budgets_apart``).

    Example:
        >>> apart({"budget": "steps", "budget.steps": 4, "model.width": 8})
        {'model.width': 8}
    """
    return {key: value for key, value in setting.items() if key.partition(".")[0] != "budget"}
