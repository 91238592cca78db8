"""Arguments of the small commands, as `key=value`, where Hydra would be too much."""

import difflib
from collections.abc import Mapping, Sequence

from experiments.errors import UserError


def parse(given: Sequence[str], defaults: Mapping[str, str | None]) -> dict[str, str]:
    """The value of every key, given or by default.

    Args:
        given: What was typed; of a repeated key the last counts.
        defaults: Every key that there is; None where a value must be given.

    Raises:
        UserError: If a key is unknown, a value missing, or a word no ``key=value``.

    Example:
        >>> parse(["runs_dir=a b"], {"runs_dir": "runs", "run": "x"})
        {'runs_dir': 'a b', 'run': 'x'}
    """
    known = ", ".join(defaults)
    found: dict[str, str | None] = dict(defaults)
    for word in given:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"Invalid argument: {word!r}. Must be key=value, of: {known}.")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f"Did you mean: {near[0]}?" if near else f"Known: {known}."
            raise UserError(f"Unknown key: {key!r}. {hint}")
        # The Makefile quotes a folder as Hydra wants it.
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('\\"', '"')
        found[key] = value
    for key, default in found.items():
        if default is None or default == "":
            raise UserError(f"Missing value: {key}. Give it as {key}=<value>.")
    return {key: value for key, value in found.items() if value is not None}
