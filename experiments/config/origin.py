"""Where a config comes from: the shortest command that makes it, and what of it was typed.

A run's own sections say what it is; only the files of ``conf/`` say which of its values are those
of its task and of its ruleset. They may change after the run, so its record keeps the answer.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from experiments.config import (
    commandline,
    compose,
    compositions,
    identity,
    named,
    rulesets,
    values,
)
from experiments.config.essence import IDENTIFYING, NOT_HASHED
from experiments.config.run_config import RunConfig
from experiments.config.suite_keys import SUITE

Facts = dict[str, Any]
Choices = Mapping[str, str | None]

NAMES = ("task", "optimizer")
SETTING = ("model", "tokenization", "budget", "schedule")
"""Groups whose choice a task may override; they define the setting that methods are compared in."""
GROUPS = ("experiment", *NAMES, "ruleset", "tuned", *SETTING)


def trace(config: RunConfig, choices: Choices) -> Facts:
    """Tell where a resolved config comes from.

    Args:
        config: The resolved config.
        choices: Hydra's choice of each config group.

    Returns:
        ``command``: overrides that make the config again, without its seed. ``setting``: what of it
        is not the default of its task, by dotted key (or group), the method's arguments excepted.
        ``typed``: the optimizer's arguments that are not those of its ruleset. ``ruleset_file``:
        path below ``conf/`` and sha256 of the file that the ruleset took. ``experiment``: of a run
        of one, its name, and the protocol, ruleset and hyperparameters that the experiment gives.
    """
    own = {group: choices.get(group) for group in (*GROUPS, "family")}
    names = [f"{group}={own[group]}" for group in NAMES]
    _, usual = _reference(tuple(names))
    setting = _differing(SETTING, own, usual)
    beside, _ = _reference((*names, *setting))
    first = [*_differing(("experiment",), own, {}), *names]
    stated, stated_choices = _reference(tuple(first))
    chosen_by = [*first, *_differing(("ruleset", "tuned", *SETTING), own, stated_choices)]
    chosen, _ = _reference(tuple(chosen_by))
    return {
        "command": [*named.spelled(chosen_by, kept=True), *_typed(config, chosen)],
        "setting": {
            **dict(item.split("=", 1) for item in setting),
            **_changes(identity.protocol(config), identity.protocol(beside)),
        },
        "typed": _changes(config.optimizer.hyperparameters, chosen.optimizer.hyperparameters),
        "ruleset_file": _ruleset_file(own),
        "experiment": _experiment(own, first, stated, stated_choices),
    }


def of(config: RunConfig, job: Sequence[str]) -> Facts:
    """Trace the config of a job by its overrides; the seed and folders change nothing."""
    return trace(config, compositions.of(job).choices)


def _experiment(
    own: Choices, first: Sequence[str], stated: RunConfig, stated_choices: Choices
) -> Facts | None:
    if not own["experiment"]:
        return None
    model = _differing(("model",), own, stated_choices)
    if model:
        stated, _ = _reference((*first, *model))
    return {
        "name": own["experiment"],
        "protocol": identity.protocol(stated),
        "ruleset": stated.ruleset,
        "hyperparameters": stated.optimizer.hyperparameters,
    }


def _ruleset_file(choices: Choices) -> dict[str, str] | None:
    name = rulesets.file_of(choices)
    with contextlib.suppress(OSError):
        content = (commandline.CONF / name).read_bytes()
        return {"path": name, "sha256": hashlib.sha256(content).hexdigest()}
    return None


def _differing(groups: Sequence[str], own: Choices, other: Choices) -> list[str]:
    return [f"{group}={own[group]}" for group in groups if own[group] != other.get(group)]


def _typed(config: RunConfig, reference: RunConfig) -> list[str]:
    """List overrides that turn a reference into the config, where both make a run's id."""
    ours, theirs = _hashed(config), _hashed(reference)
    said = [
        f"{'' if key in theirs else '+'}{key}={commandline.quoted(value)}"
        for key, value in ours.items()
        if key not in theirs or theirs[key] != value
    ]
    return said + [f"~{key}" for key in theirs if key not in ours]


def _hashed(config: RunConfig) -> Facts:
    """Gather what makes the run's id, by dotted key as it can be typed."""
    kept = {}
    for key, value in values.leaves(config.values):
        path = key.split(".")
        hidden = path[0] in (*NOT_HASHED, "seed") or ".".join(path[:2]) in NOT_HASHED
        noted = path[1:2] == [SUITE] and path[2] not in IDENTIFYING
        if not hidden and not noted:
            kept[key] = value
    return kept


def _changes(ours: Facts, theirs: Facts) -> Facts:
    """Values that are not the same in both, by dotted key; null where ours has none."""
    mine, others = dict(values.leaves(ours)), dict(values.leaves(theirs))
    keys = dict.fromkeys([*mine, *others])
    return {
        key: mine.get(key)
        for key in keys
        if (key in mine) != (key in others) or mine.get(key) != others.get(key)
    }


@cache
def _reference(overrides: tuple[str, ...]) -> tuple[RunConfig, Choices]:
    made = compositions.of(overrides)
    return compose.resolve(made, complete=False), made.choices
