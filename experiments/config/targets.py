"""What ``_target_`` of a section names, and whether the section's arguments are its own."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    known = accepted(maker)
    if known is None:
        return
    for key, default in defaults(maker).items():
        value = arguments.get(key)
        if isinstance(value, str) and isinstance(default, int | float):
            raise UserError(
                f"Invalid {section}.{key}: {value!r}. Must be no text; the default of "
                f"{arguments['_target_']} is {default}."
            )
    for key in arguments:
        if key not in known and key not in also and not key.startswith("_"):
            names = [f"{section}.{name}" for name in parameters(maker)]
            raise UserError(
                f"Unknown key: '{section}.{key}'. {arguments['_target_']} has no such argument. "
                f"{nearest(f'{section}.{key}', names)}"
            )


def accepted(maker: Callable[..., Any]) -> set[str] | None:
    """Name the arguments that something takes; None: any, or nobody can tell."""
    named, is_open = _parameters(maker)
    return None if is_open else set(named)


def parameters(maker: Callable[..., Any]) -> dict[str, Parameter]:
    """Give the parameters that something names, in order.

    Of a class that hands ``**kwargs`` on, those of the classes above it are among them.
    """
    return _parameters(maker)[0]


def defaults(maker: Callable[..., Any]) -> dict[str, Any]:
    """Give the defaults that something has for its arguments."""
    return {
        name: one.default for name, one in parameters(maker).items() if one.default is not one.empty
    }


def number(arguments: Mapping[str, Any], name: str) -> float:
    """Give an argument of an optimizer, by default that of its class; 0 where it has none."""
    if name not in arguments:
        arguments = defaults(find("optimizer", arguments.get("_target_")))
    value: float = arguments.get(name, 0.0)
    return value


def required(maker: Callable[..., Any]) -> set[str]:
    """Name the arguments that something cannot be made without."""
    return {name for name, one in parameters(maker).items() if one.default is one.empty}


def _parameters(maker: Callable[..., Any]) -> tuple[dict[str, Parameter], bool]:
    """Give what something names, and whether it takes anything else, as some that are built in."""
    named: dict[str, Parameter] = {}
    for one in _makers(maker):
        try:
            own = list(signature(one).parameters.values())
        except (TypeError, ValueError):
            return named, True
        # Of a class above: without itself, and without what it trains where one below has that.
        first = 0 if one is maker else 1 + (bool(named) and _is_optimizer(maker))
        for parameter in own[first:]:
            if parameter.kind not in _OPEN:
                named.setdefault(parameter.name, parameter)
        if not any(parameter.kind in _OPEN for parameter in own):
            return named, False
    # Whatever torch's own class is called with besides is an error, or is silently dropped: many
    # classes of pytorch-optimizer take any keyword and do nothing with it.
    return named, not _is_optimizer(maker)


def _makers(maker: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield what is called, and of a class the initialisers of those above, as far as they go."""
    yield maker
    if isinstance(maker, type):
        own = [kind for kind in maker.__mro__ if "__init__" in vars(kind)]
        for kind in own[1:]:
            if kind is object or _is_torchs(kind):
                return
            yield kind.__init__  # type: ignore[misc]


def _is_optimizer(maker: Callable[..., Any]) -> bool:
    return isinstance(maker, type) and any(map(_is_torchs, maker.__mro__))


def _is_torchs(kind: type) -> bool:
    return (kind.__module__, kind.__name__) == ("torch.optim.optimizer", "Optimizer")
