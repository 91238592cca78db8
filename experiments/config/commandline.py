"""What the user typed, made ready for Hydra: `all`, repeated overrides, the jobs of a sweep."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from experiments.config import named, present
from experiments.config.nearest import nearest
from experiments.errors import UserError
from experiments.system import log

CONF = Path(__file__).parents[2] / "conf"
ALL = "all"
GROUPS_WITH_ALL = ("optimizer", "task")
GROUPS = (
    "optimizer",
    "task",
    "tokenization",
    "model",
    "budget",
    "schedule",
    "tracking",
    "launcher",
    "ruleset",
    "tuned",
    "family",
    "experiment",
    "debug",
)
SET_BY_FILES = ("files", "grids", "tune", "tuning", "recipe", "origin")
"""Keys that say where a config comes from: typed, they would say what is not so."""
NO_GRIDS = "grids=null"
"""What may be typed of these, with an experiment: its setting alone, without its grids."""
REMOVABLE = "optimizer.suite.search."
"""What a ``~`` may take out: a hyperparameter that is not to be searched."""
TUNED, LEDGERS = "tuned", "ledgers"
"""The group whose choice is a folder of tuned files, and what none can be called."""
MOST = 100_000
"""Values that one override may stand for."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OF_HYDRAS_GRAMMAR = "([{\"'$\\"


def choices(group: str) -> list[str]:
    """Names that a config group offers, found by listing its folder."""
    if group == TUNED:
        folders = {path.name for path in (CONF / TUNED).glob("*/*") if path.is_dir()}
        return sorted(folders - {LEDGERS})
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.is_file())


def normalise(overrides: list[str]) -> list[str]:
    """Expand ``optimizer=all``, ``task=all`` and ``here``; of a repeated override keep the last.

    What is typed in place of a name in ``conf/`` is labelled, see ``named.py``.
    What is set of a launcher has its place in Hydra's own part of the config.

    Raises:
        UserError: If what is typed for a group has no names, or Hydra's sweeper is set by hand.

    Example:
        >>> normalise(["seed=0", "ruleset=tuned", "seed=1"])
        ['seed=1', 'ruleset=tuned']
        >>> normalise(["launcher=ray", "launcher.address=auto"])
        ['launcher=ray', 'hydra.launcher.address=auto']
    """
    parsed: dict[str, str] = {}
    beside = any("hydra.searchpath" in item for item in overrides)
    for override in overrides:
        key, equals, value = override.partition("=")
        name = key.lstrip("+~")
        if key == "task" and value == present.HERE:
            value = ",".join(present.tasks(choices(key), CONF, overrides))
            override = f"{key}={value}"
            log.once(f"task={present.HERE} is task={value}")
        if key in named.GROUPS and equals and not any(m in value for m in _OF_HYDRAS_GRAMMAR):
            value = named.labelled(key, value, choices(key))
            override = f"{key}={value}"
        if key in GROUPS and equals:
            _check_names(key, value, [] if beside or key == TUNED else choices(key))
        if name.partition(".")[0] in SET_BY_FILES and override != NO_GRIDS:
            raise UserError(f"Invalid argument: {override!r}. Only the files of conf/ set {name}.")
        if name.startswith(("hydra.sweeper", "hydra/sweeper")):
            raise UserError(
                f"Invalid argument: {override!r}. A sweep is typed as key=a,b with -m (--multirun)."
            )
        if "@" in name:
            raise UserError(f"Invalid argument: {override!r}. A group has one place: leave @ out.")
        if key.startswith("launcher."):
            key, override = f"hydra.{key}", f"hydra.{override}"
        if key in GROUPS_WITH_ALL and value == ALL:
            override = f"{key}={','.join(choices(key))}"
        parsed[key] = override
    return list(parsed.values())


def _check_names(group: str, value: str, known: Sequence[str]) -> None:
    """Refuse what names no choice of a group, and what Hydra's grammar has no word for.

    Args:
        group: The group.
        value: What is typed for it.
        known: Its choices; empty where there may be others.
    """
    if value.startswith(("[", "{")):
        raise UserError(
            f"Invalid {group}: {value!r}. Must be a name, or names with commas between."
        )
    if any(mark in value for mark in _OF_HYDRAS_GRAMMAR):
        return  # a word of Hydra's, as glob(ada*)
    if not value:
        raise UserError(f"Missing value: {group}. Give it as {group}=<name>.")
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise UserError(
            f"Invalid {group}: {value!r}. It has an empty name; must be names with commas between."
        )
    for word, what in ((ALL, "every one"), (present.HERE, "every one whose data are there")):
        if group in GROUPS_WITH_ALL and word in names and len(names) > 1:
            raise UserError(f"Invalid {group}: {value!r}. {word} is {what}; it must stand alone.")
    for name in names:
        if name == "null":
            raise UserError(f"Invalid {group}: null. Must be one of: {', '.join(choices(group))}.")
        if (group, name) == (TUNED, LEDGERS):
            raise UserError(f"Invalid {group}: {name!r}. Trials are kept in folders of that name.")
        if named.get(group, name) is not None:
            continue
        is_all = group in GROUPS_WITH_ALL and name == ALL
        if not _NAME.fullmatch(name) or not (not known or name in known or is_all):
            raise UserError(f"Unknown {group}: {name!r}. {nearest(name, choices(group))}")


def folder(key: str, path: Path) -> Path:
    """Return a folder that is named, with the home of the user in place of ``~``.

    Raises:
        UserError: If there is a file in its place.
    """
    full = path.expanduser()
    if full.exists() and not full.is_dir():
        raise UserError(f"Invalid {key}: {str(path)!r}. It is a file; must be a folder.")
    return full


def jobs(overrides: list[str]) -> list[list[str]]:
    """List the overrides of every job of a sweep, in the order in which Hydra launches them.

    Raises:
        UserError: If an override cannot be read, or stands for no value.
    """
    (batch,) = BasicSweeper.split_arguments(parse(overrides), max_batch_size=None)
    return [list(job) for job in batch]


def samples(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the first job of a sweep, then one for each other value: every value is met once."""
    alternatives = [_alternatives(override) for override in parse(overrides)]
    first = [values[0] for values in alternatives]
    yield first
    for position, values in enumerate(alternatives):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]


def single(job: Sequence[str]) -> list[Override]:
    """Read the overrides of one job.

    Raises:
        UserError: If one cannot be read, or stands for several values.
    """
    parsed = parse(job)
    for override in parsed:
        if override.is_sweep_override():
            key, _, value = (override.input_line or "").partition("=")
            raise UserError(
                f"Invalid {key}: {value!r}. Several values are a sweep: give -m (--multirun)."
            )
    return parsed


def quoted(value: Any) -> str:
    """Write a value as an override has it.

    Example:
        >>> [quoted(value) for value in (0.1, None, [1, 2], "cosine", "a b")]
        ['0.1', 'null', '[1,2]', 'cosine', '"a b"']
    """
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class _Options:
    """What Hydra asks of its loader to expand ``glob(ada*)``, before Hydra runs."""

    @staticmethod
    def get_group_options(group_name: str, results_filter: Any = None, **_: Any) -> list[str]:
        return choices(group_name)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read overrides by Hydra's grammar.

    Raises:
        UserError: If one cannot be read, takes something out, or stands for no value.
    """
    parser = OverridesParser.create(config_loader=cast("ConfigLoader", _Options()))
    return [_parsed(parser, text) for text in overrides]


def _parsed(parser: OverridesParser, text: str) -> Override:
    key, equals, value = text.partition("=")
    key = key.lstrip("+~")
    if not key or not (equals or text.startswith("~")):
        raise UserError(f"Invalid argument: {text!r}. Must be key=value.")
    try:
        (override,) = parser.parse_overrides([text])
    except HydraException as error:
        raise UserError(
            f"Invalid argument: {text!r}. Must be key=value, and in quotes what has spaces, "
            "brackets or letters beyond ASCII, as 'runs_dir=\"a b\"'; of several values none is "
            "empty."
        ) from error
    if override.is_delete() and not key.startswith(REMOVABLE):
        raise UserError(
            f"Invalid argument: {text!r}. Nothing can be taken out of a config; give {key} a value."
        )
    try:
        count = len(_alternatives(override))
    except (HydraException, ValueError):  # no file matches, a step of zero
        count = 0
    if count == 0:
        raise UserError(f"Invalid {key}: {value}. It stands for no value: nothing would run.")
    if count > MOST:
        raise UserError(f"Invalid {key}: {value}. Must be at most {MOST:,} values.")
    return override


def _alternatives(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    key = override.get_key_element()
    several = itertools.islice(override.sweep_string_iterator(), MOST + 1)
    return [f"{key}={value}" for value in several]
