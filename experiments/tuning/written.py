"""What is tuned before the runs of an experiment: ``tune:`` in its file, a list.

An entry has the options of ``python -m experiments tune``, by the same names, and besides

- ``search``, by method, what is searched in place of its YAML's: ``{adam: {lr: {low: 1.0e-4, high:
  0.1, scale: log}}}``;
- ``arguments``, by method, what its tuned file holds besides: ``{soap: {normalize_grads: true}}``;
- any override of a run, as ``budget: steps``.

The trials are runs in the setting of the experiment, whose grids are those of its results.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config import arguments, commandline, compositions, grids
from experiments.config.sections import MethodSection
from experiments.errors import UserError
from experiments.system.output import say
from experiments.tuning.options import TuneRequest, check_overrides
from experiments.tuning.space import Point

EXPERIMENT = "experiment="
GRID = "grid="
BY_METHOD = ("search", "arguments")
_NUMBER = "entry"


@dataclass(frozen=True)
class OfMethods:
    """What an experiment says of methods one by one.

    Attributes:
        typed: The words that make a tuned file again, besides its method; empty: of no experiment.
        search: By method, what is searched in place of its YAML's.
        arguments: By method, what its tuned file holds besides.
    """

    typed: tuple[str, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def searched(self, method: MethodSection) -> MethodSection:
        """Give the section of a method with what is searched here."""
        if method.name not in self.search:
            return method
        return replace(method, suite={**method.suite, "search": self.search[method.name]})

    def fixed(self, method: MethodSection) -> Point:
        """Give what every trial of a method has besides.

        Raises:
            UserError: If it is none of its arguments.
        """
        own = dict(self.arguments.get(method.name) or {})
        for key in own:
            if key not in method.hyperparameters:
                raise UserError(
                    f"Invalid tune arguments.{method.name}.{key}: it has no such hyperparameter. "
                    f"Known: {', '.join(method.hyperparameters)}."
                )
        return own


PLAIN = OfMethods()


@dataclass(frozen=True)
class Asked:
    """One entry, or what was typed: methods and tasks and how they are tuned, and overrides."""

    request: TuneRequest
    overrides: list[str]
    own: OfMethods = PLAIN


def asked(words: Sequence[str]) -> Iterator[Asked]:
    """Read what is to be tuned: what was typed, or each entry of the experiment that was.

    Args:
        words: As ``commandline.normalise`` has made them ready.

    Raises:
        UserError: If the experiment's ``tune:`` is no list of mappings, or an option is none.
    """
    named = [word for word in words if word.startswith(EXPERIMENT)]
    if not named:
        request, others = arguments.parse(words, TuneRequest, further=True)
        check_overrides(others)
        yield Asked(request, others)
        return
    typed = [word for word in words if word not in named]
    task = compositions.of(named).choices["task"]
    entries = _entries(named[0])
    if not entries:
        say(f"{named[0]} has nothing to tune: no tune: in its file")
    by_method = [{key: _by_method(named[0], key, entry) for key in BY_METHOD} for entry in entries]
    # With its number, as typed words may leave an entry out.
    texts = [
        {_NUMBER: str(number), **grids.texts({"task": task, **entry})}
        for number, entry in enumerate(entries)
    ]
    # The commas of a grid part its keys: they list no choices of which an entry could lack some.
    whole = [word for word in typed if word.startswith(GRID)]
    typed = [word for word in typed if word not in whole]
    takes = [text[_NUMBER] for text in texts if "grid" in text] or [t[_NUMBER] for t in texts]
    for own in grids.narrowed(texts, list(typed)):
        if whole and own[_NUMBER] in takes:
            own["grid"] = whole[-1].removeprefix(GRID)
        number = int(own.pop(_NUMBER))
        given = [f"{key}={value}" for key, value in own.items()]
        given += [word for word in typed if word.partition("=")[0] not in own]
        request, others = arguments.parse(commandline.normalise(given), TuneRequest, further=True)
        check_overrides(others)
        of_methods = OfMethods((*named, *typed, *whole), **by_method[number])
        yield Asked(request, [*named, grids.NONE, *others], of_methods)


def _entries(name: str) -> list[dict[str, Any]]:
    found = compositions.of([name]).files.get("tune")
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise UserError(f"Invalid tune of {name}: {found!r}. Must be a list of key: values.")
    return [dict(entry) for entry in found]


def _by_method(name: str, key: str, entry: dict[str, Any]) -> Mapping[str, Any]:
    """Take out of an entry what it says of its methods one by one."""
    value = entry.pop(key, None) or {}
    if not isinstance(value, Mapping) or not all(isinstance(of, Mapping) for of in value.values()):
        raise UserError(f"Invalid tune {key} of {name}: {value!r}. Must be a mapping a method.")
    tuned = entry.get("optimizer", commandline.ALL)
    methods = [str(one) for one in tuned] if isinstance(tuned, list) else str(tuned).split(",")
    for method in value:
        if method not in methods and commandline.ALL not in methods:
            raise UserError(
                f"Invalid tune {key} of {name}: {method!r} is none of its methods. Must be one of: "
                f"{', '.join(methods)}."
            )
    return value
