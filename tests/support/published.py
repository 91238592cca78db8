"""Identities of runs that follow the recipe of a published row, for tests to change."""

import copy
from typing import Any

from analysis.published.shipped import KINDS, Recipe, shipped

PLAIN = {"command": [], "setting": {}, "typed": {}, "ruleset_file": None, "experiment": None}


def recipe_of(table: int, task: str, model: str, optimizer: str) -> Recipe:
    """The first recipe by the published names."""
    return next(
        recipe
        for recipe in shipped().recipes
        if (recipe.table, recipe.published) == (table, (task, model, optimizer))
    )


def identity_of(recipe: Recipe, optimizer: str = "", **changes: Any) -> dict[str, Any]:
    """What the record of a run of it says.

    Args:
        recipe: The recipe.
        optimizer: A rule that stands beside its own.
        changes: Facts that are otherwise; of the protocol by dotted key (``task.flip=False`` as
            ``**{"task.flip": False}``), of the hyperparameters by ``optimizer.lr`` and so on.
    """
    name = optimizer or recipe.optimizer
    method = recipe.methods[name]
    protocol: dict[str, Any] = copy.deepcopy(dict(recipe.protocol))
    if method.epochs is not None:
        protocol["budget"]["epochs"] = method.epochs
    values = dict(method.hyperparameters)
    names = dict(zip(KINDS, recipe.published, strict=True))
    identity: dict[str, Any] = {
        "optimizer": name,
        "task": protocol["task"]["name"],
        "model": protocol["model"]["name"],
        "setting": recipe.setting,
        "ruleset": recipe.ruleset,
        "budget": method.budget,
        "schedule": protocol["schedule"]["name"],
        "batch_size": protocol["task"]["batch_size"],
        "precision": protocol["precision"],
        "protocol": protocol,
        "origin": copy.deepcopy(PLAIN),
        "hyperparameters": values,
        "published_as": names | ({"optimizer": None} if optimizer else {}),
    }
    for key, value in changes.items():
        section, _, last = key.partition(".")
        if section == "optimizer" and last:
            values[last] = value
        elif last:
            protocol[section][last] = value
        elif key == "precision":
            protocol[key] = identity[key] = value
        elif key == "loss_scale":
            protocol[key] = value
        else:
            identity[key] = value
    return identity
