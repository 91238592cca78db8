"""The space that a method is tuned over, and its quasi-random points.

``search:`` of conf/optimizer/<name>.yaml has one entry a hyperparameter: ``low``, ``high`` and
``scale`` (``log`` or ``linear``), or ``choices``; and a ``source``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

from experiments.config.sections import MethodSection
from experiments.errors import UserError

Value = float | int | str | bool
Point = dict[str, Value]

DECAY = 5e-4
"""Around what weight decay is searched where a method has none by default; the paper's on CIFAR."""

_SCALES = ("log", "linear")
_KEYS = ("low", "high", "scale", "choices", "source")


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter: an interval, or a list of choices in no order."""

    key: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False  # whether its values are whole numbers
    choices: tuple[Value, ...] = ()

    def at(self, unit: float) -> Value:
        """Give the value at a position in the unit interval, rounded to what a ledger prints.

        A whole number stands for the interval of those that round to it, so that on a linear scale
        each has the same share; Optuna's samplers divide a space so too.
        """
        if self.choices:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            return self.rounded(low * (high / low) ** unit)
        return self.rounded(low + (high - low) * unit)

    def rounded(self, value: Value) -> Value:
        """Three digits, or a whole number, and within the bounds."""
        if self.choices:
            return value
        near = math.floor(float(value) + 0.5) if self.whole else float(f"{value:.3g}")
        kind = int if self.whole else float
        return kind(min(max(near, self.low), self.high))

    def position(self, value: Any) -> float:
        """Find where a value lies in the unit interval; of a choice, its place in the list."""
        if self.choices:
            return float(self.choices.index(value))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def order(self, value: Any) -> float:
        """Give what values are sorted by: themselves, or the place of a choice in its list."""
        return self.position(value) if self.choices else float(value)

    def describe(self) -> str:
        """Say it in a few words, as ``lr, log-scaled from 0.001 to 1.0 (3 decades)``."""
        if self.choices:
            return f"{self.key} of {', '.join(map(str, self.choices))}"
        if self.log:
            decades = f"{math.log10(self.high / self.low):.3g} decades"
            return f"{self.key}, log-scaled from {self.low} to {self.high} ({decades})"
        return f"{self.key} from {self.low} to {self.high}"

    def facts(self) -> dict[str, Any]:
        """Describe the dimension as a record holds it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "scale": "log" if self.log else "linear"}


Space = Sequence[Dimension]


def parse(optimizer: MethodSection) -> list[Dimension]:
    """Read the search space of an optimizer's section.

    Args:
        optimizer: The section; ``search`` is under ``suite`` there.

    Returns:
        One dimension for each hyperparameter, in the order of the YAML.

    Raises:
        UserError: If there is none, or one that makes no sense.
    """
    search = optimizer.suite.get("search")
    if not isinstance(search, Mapping) or not search:
        raise UserError(
            f"Invalid optimizer.suite.search of {optimizer.name}: {search!r}. Must have one entry "
            "or more, as lr: {low: 1.0e-4, high: 0.1, scale: log}."
        )
    known = optimizer.hyperparameters
    for key in search:
        if key not in known:
            raise UserError(
                f"Invalid optimizer.suite.search.{key}: {optimizer.name} has no such "
                f"hyperparameter. Known: {', '.join(known)}."
            )
    return [_dimension(key, given, known[key]) for key, given in search.items()]


def coordinates(optimizer: MethodSection) -> list[Dimension]:
    """Read what is searched after the learning rate, one after another.

    Weight decay comes first, then what the YAML names under ``suite: coordinates:``. Where it does
    not name weight decay, that is searched over three decades around its default, or around
    ``DECAY`` where the default is none.

    Args:
        optimizer: The section.

    Raises:
        UserError: If an entry makes no sense, or is searched already.
    """
    named: Mapping[str, Any] = optimizer.suite.get("coordinates") or {}
    known, decay = optimizer.hyperparameters, "weight_decay"
    searched = optimizer.suite.get("search") or {}
    for key in named:
        if key not in known or key in searched or not _is_number(known[key]):
            raise UserError(
                f"Invalid optimizer.suite.coordinates.{key}: must be a number among the arguments "
                f"of {optimizer.name} that search: has not."
            )
    default = known.get(decay)
    if decay not in named and decay not in searched and _is_number(default):
        centre, half = default or DECAY, 10**1.5
        bounds = {"low": _digits(centre / half), "high": _digits(centre * half), "scale": "log"}
        named = {decay: bounds, **named}
    order = sorted(named, key=lambda key: key != decay)
    return [_dimension(key, named[key], float(known[key])) for key in order]


def _digits(value: float) -> float:
    return float(f"{value:.2g}")


def _dimension(key: str, given: Any, default: Any) -> Dimension:
    def refuse(what: str) -> UserError:
        return UserError(f"Invalid optimizer.suite.search.{key}: {given!r}. {what}")

    if not isinstance(given, Mapping) or not set(given) <= set(_KEYS):
        raise refuse(f"Must be a mapping with keys of: {', '.join(_KEYS)}.")
    if "choices" in given:
        choices = given["choices"]
        if not isinstance(choices, list) or len(choices) < 2:
            raise refuse("choices must be a list of two values or more.")
        if not all(isinstance(item, str | int | float) for item in choices):
            raise refuse("choices must be numbers, texts, true or false.")
        return Dimension(key, choices=tuple(choices))
    low, high, scale = given.get("low", math.nan), given.get("high", math.nan), given.get("scale")
    if scale not in _SCALES:
        raise refuse(f"scale must be one of: {', '.join(_SCALES)}.")
    if not _is_number(low) or not _is_number(high) or not low < high:
        raise refuse("low and high must be numbers, and low < high.")
    if scale == "log" and low <= 0:
        raise refuse("low must be > 0 where scale is log.")
    whole = isinstance(default, int) and not isinstance(default, bool)
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise refuse(f"low and high must be whole numbers, as the default {default} is one.")
    return Dimension(key, low, high, log=scale == "log", whole=whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def points(space: Space, trials: int) -> list[Point]:
    """Quasi-random points, the same in the unit cube for every method of as many dimensions.

    Args:
        space: Its dimensions.
        trials: How many points.

    Returns:
        The points; more trials begin with the points of fewer.

    Reference:
        Owen, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14 (1998).
    """
    # The size of a Sobol' set is a power of two; its beginning is as well spread as can be.
    sampler = qmc.Sobol(d=len(space), scramble=True, seed=0)
    units = sampler.random_base2(max(0, math.ceil(math.log2(trials))))[:trials]
    return [
        {dimension.key: dimension.at(unit) for dimension, unit in zip(space, row, strict=True)}
        for row in units
    ]


def on_edge(space: Space, chosen: Point, tried: Sequence[Point]) -> list[str]:
    """Name the hyperparameters whose chosen value is the last that was tried, on either side.

    Nothing tells then whether a better one lies beyond. Choices have no order, and so no edge.

    Args:
        space: Its dimensions.
        chosen: The best point.
        tried: The points that say something of the method: those that failed say nothing, those
            that diverged say where the method ends.
    """
    found = []
    for dimension in space:
        if dimension.choices or float(chosen[dimension.key]) == 0:  # nothing lies below none
            continue
        values = [float(point[dimension.key]) for point in tried]
        if float(chosen[dimension.key]) in (min(values), max(values)):
            found.append(dimension.key)
    return found
