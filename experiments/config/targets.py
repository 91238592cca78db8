"""What ``_target_`` of a section names, and whether the section's arguments are its own."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from typing import Any

from experiments.config.nearest import nearest
from experiments.errors import UserError, one_line

_OPEN = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)


def find(section: str, target: Any) -> Callable[..., Any]:
    """Import what a ``_target_`` names.

    Args:
        section: Where it stands, as ``optimizer``.
        target: The dotted name.

    Raises:
        UserError: If it is no function or class that can be imported.
    """
    module, _, name = str(target).rpartition(".")
    why = "it has no module"
    try:
        found = getattr(importlib.import_module(module), name, None) if module else None
        why = f"{module} has no function or class {name}" if module else why
    # Whatever a module raises while it is imported, the name of it was typed or written down.
    except Exception as error:
        found, why = None, one_line(error)
    if not callable(found):
        raise UserError(
            f"Invalid {section}._target_: {target!r}. Must name a function or class; {why}."
        )
    return found


def check_arguments(
    section: str, arguments: Mapping[str, Any], maker: Callable[..., Any], *, also: Iterable[str]
) -> None:
    """Refuse arguments that what a section names does not take.

    Args:
        section: As ``optimizer``.
        arguments: Those of the section.
        maker: What it names.
        also: Keys that something else reads.

    Raises:
        UserError: At the first, with the nearest that it does take.
    """
    parameters = accepted(maker)
    if parameters is None:
        return
    for key, default in defaults(maker).items():
        value = arguments.get(key)
        if isinstance(value, str) and isinstance(default, int | float):
            raise UserError(
                f"Invalid {section}.{key}: {value!r}. Must be no text; the default of "
                f"{arguments['_target_']} is {default}."
            )
    for key in arguments:
        if key not in parameters and key not in also and not key.startswith("_"):
            known = [f"{section}.{name}" for name in parameters]
            raise UserError(
                f"Unknown key: '{section}.{key}'. {arguments['_target_']} has no such argument. "
                f"{nearest(f'{section}.{key}', known)}"
            )


def accepted(maker: Callable[..., Any]) -> set[str] | None:
    """Name the arguments that something takes; None: any, or nobody can tell."""
    parameters = _parameters(maker)
    if parameters is None or any(one.kind in _OPEN for one in parameters):
        return None
    return {one.name for one in parameters}


def defaults(maker: Callable[..., Any]) -> dict[str, Any]:
    """Give the defaults that something has for its arguments."""
    parameters = _parameters(maker) or []
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def required(maker: Callable[..., Any]) -> set[str]:
    """Name the arguments that something cannot be made without."""
    parameters = _parameters(maker) or []
    return {one.name for one in parameters if one.default is one.empty and one.kind not in _OPEN}


def _parameters(maker: Callable[..., Any]) -> list[Parameter] | None:
    """List the parameters of something; None: nobody can tell, as of some that are built in."""
    try:
        return list(signature(maker).parameters.values())
    except (TypeError, ValueError):
        return None
