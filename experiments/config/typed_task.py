"""The section of a config for a task that is one Python file, typed in place of a name.

The file has a function ``build`` (``experiments/tasks/own.py``). Its arguments are those of the
section, with their defaults; what a YAML would say besides is in ``SETTINGS`` of the file.
"""

import importlib
import inspect
from dataclasses import fields
from typing import Any

from experiments.config import code_files
from experiments.config.named import Named
from experiments.config.nearest import nearest
from experiments.config.sections import Batching
from experiments.config.suite_keys import SUITE
from experiments.errors import UserError

GIVEN = ("data_dir", "cache_dir", "tokenization")
"""What the suite hands to a function that has such an argument."""
SETTINGS: dict[str, Any] = {
    **{"batch_size": 32, "eval_batch_size": 512, "evaluations_per_epoch": 1, "drop_last": False},
    **{"evaluate_every": None, "train_limit": None, "validation_limit": None},
    **{"epochs": 20, "threads": None},
    **{"model": "own", "budget": "epochs", "schedule": "cosine"},
}
"""What ``SETTINGS`` of a file may say, with the defaults."""
_GROUPS = ("model", "budget", "schedule")
_BATCHING = tuple(one.name for one in fields(Batching))


def section(one: Named) -> dict[str, Any]:
    """Write the section that a file needs.

    Raises:
        UserError: If it has no such function, an argument without a default, or another setting.
    """
    assert one.path is not None
    module, name = one.path.stem, one.name or "build"
    described = code_files.describe(one.path)
    code_files.load({module: described})
    found = importlib.import_module(module)
    maker = getattr(found, name, None)
    if not callable(maker):
        raise UserError(
            f"Invalid task: {one.typed!r}. It has no function {name}, which makes the task."
        )
    own = getattr(found, "SETTINGS", {})
    for key in own:
        if key not in SETTINGS:
            raise UserError(
                f"Invalid task: {one.typed!r}. SETTINGS has an unknown key: {key!r}. "
                f"{nearest(str(key), list(SETTINGS))}"
            )
    settings = {**SETTINGS, **own}
    arguments = {}
    for argument in inspect.signature(maker).parameters.values():
        if argument.name in GIVEN or argument.kind is argument.VAR_KEYWORD:
            continue
        if argument.default is argument.empty or argument.name in _BATCHING:
            what = "is a setting" if argument.name in _BATCHING else "has no default"
            raise UserError(
                f"Invalid task: {one.typed!r}. The argument {argument.name} of {name} {what}. "
                f"Must have a default, or be one of: {', '.join(GIVEN)}."
            )
        default = argument.default
        arguments[argument.name] = list(default) if isinstance(default, tuple) else default
    return {
        "defaults": [{f"override /{group}@_global_.{group}": settings[group]} for group in _GROUPS],
        "_target_": f"{module}.{name}",
        **{key: settings[key] for key in _BATCHING},
        **arguments,
        SUITE: {
            "epochs": settings["epochs"],
            "threads": settings["threads"],
            "sha256": described["sha256"],
        },
    }
