"""What is typed behind a verb, ``key=value ...``, read into a frozen dataclass: the one parser.

The keys of a verb are the fields of its class, and their annotations say what a value must be. What
is no key of a verb that composes runs is an override of theirs.
"""

import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

from experiments.config import commandline
from experiments.config.nearest import nearest
from experiments.config.refusals import told
from experiments.config.run_config import FOLDERS
from experiments.errors import UserError, report_user_errors
from experiments.records.outcome import EXIT_CODES
from experiments.system import output
from experiments.system.log import show_log

T = TypeVar("T")

AS_JSON = ("--json", "json=true")
"""The two ways to ask for JSON in place of text."""

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    str: "text",
}


def command(main: Callable[[Sequence[str]], int], words: Sequence[str] | None = None) -> None:
    """Run a command, by default with the words of this process, and end it with its exit code.

    A mistake of the user is one line and exit code 2, Ctrl-C a silent 130.
    """
    output.prepare()
    show_log()
    try:
        with report_user_errors():
            code = main(sys.argv[1:] if words is None else words)
            output.flush()  # here, where a disk that is full is one line
    except KeyboardInterrupt:
        code = EXIT_CODES["interrupted"]
    sys.exit(code)


def parse(words: Sequence[str], options: type[T], *, further: bool = False) -> tuple[T, list[str]]:
    """Read what was typed.

    Args:
        words: Each ``key=value``, or ``--json`` where ``json`` is a key; of a repeated key the last
            counts.
        options: A dataclass; a field without a default must be given.
        further: Whether there may be other words, the overrides of runs.

    Returns:
        The options, and the other words.

    Raises:
        UserError: If a word is no ``key=value``, a key unknown, or a value missing or of another
            type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Options:
        ...     runs_dir: Path = Path("runs")
        ...     trials: int = 16
        >>> parse(["runs_dir=a b", "trials=4"], Options)[0]
        Options(runs_dir=PosixPath('a b'), trials=4)
    """
    known = {field.name: field for field in fields(options)}  # type: ignore[arg-type]
    hints = get_type_hints(options)
    found: dict[str, Any] = {}
    others: list[str] = []
    for word in words:
        if word == AS_JSON[0] and "json" in known:
            word = AS_JSON[1]
        key, equals, value = word.partition("=")
        if key in known and equals:
            text = _unquoted(value)
            if not text:
                raise _missing(key)
            found[key] = _read(key, text, hints[key])
        elif further:
            others.append(word)
        elif not equals:
            raise UserError(f"Invalid argument: {word!r}. Must be key=value, of: {_names(known)}.")
        else:
            raise UserError(f"Unknown key: {key!r}. {nearest(key, known)}")
    for key, field in known.items():
        if key not in found and _is_required(field):
            raise _missing(key)
    return options(**found), others


def _missing(key: str) -> UserError:
    return UserError(f"Missing value: {key}. Give it as {key}=<value>.")


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _names(known: Iterable[str]) -> str:
    return ", ".join(known) or "none"


def _unquoted(value: str) -> str:
    """Take off the quotes that the Makefile puts around a folder for Hydra."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"')
    return value


def _path(key: str, text: str) -> Path:
    """Read a path as a run's config does: with ``~``, and with what ``${oc.env:NAME}`` names."""
    with told(f"Invalid {key}: {text!r}"):
        path: str = OmegaConf.to_container(OmegaConf.create({key: text}), resolve=True)[key]  # type: ignore[call-overload, index]
    return commandline.folder(key, Path(path)) if key in FOLDERS else Path(path).expanduser()


def _read(key: str, text: str, kind: Any) -> Any:
    if get_origin(kind) in (types.UnionType, Union):  # of a kind and None
        (kind,) = (one for one in get_args(kind) if one is not type(None))
        return None if text == "null" else _read(key, text, kind)
    if get_origin(kind) is dict:
        pairs = [item.partition(":") for item in text.strip("{}").split(",")]
        if not all(name.strip() and colon and item.strip() for name, colon, item in pairs):
            raise UserError(
                f"Invalid {key}: {text!r}. Must be names with values, as name:8,other:3."
            )
        of = get_args(kind)[1]
        return {name.strip(): _read(key, item.strip(), of) for name, _, item in pairs}
    if get_origin(kind) is tuple:
        items = [item.strip() for item in text.strip("[]").split(",")]
        if not all(items):
            raise UserError(
                f"Invalid {key}: {text!r}. It has an empty one; must be values with commas between."
            )
        return tuple(_read(key, item, get_args(kind)[0]) for item in items)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        return _path(key, text) if kind is Path else kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(f"Invalid {key}: {text!r}. Must be {_KINDS[kind]}.") from error
