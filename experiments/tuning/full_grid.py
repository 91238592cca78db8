"""Every combination of evenly spaced values: one stage, known before the first trial.

With one hyperparameter these are TRIALS values from one end of its space to the other; several have
as many values each as ``grid=lr:8,damping:3`` says, and are searched together.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.config.sections import MethodSection
from experiments.errors import UserError
from experiments.tuning import space as spaces
from experiments.tuning.optuna_trials import locked
from experiments.tuning.space import Dimension, Point, Space, Value
from experiments.tuning.trial_scores import Trial, check_finished

NAME = "full_grid"


def searched(optimizer: MethodSection, counts: Mapping[str, int] | None) -> list[Dimension]:
    """List what is searched: what counts name, of the YAML's ``search:`` and ``coordinates:``.

    Args:
        optimizer: The section.
        counts: Values of each hyperparameter; None: ``search:`` has one, with all trials.

    Raises:
        UserError: If one is not to be searched, or several are and none is counted.
    """
    own = spaces.parse(optimizer)
    if counts is None:
        if len(own) > 1:
            example = ",".join(f"{dimension.key}:4" for dimension in own)
            raise UserError(
                f"Missing value: grid. {optimizer.name} is searched over "
                f"{', '.join(dimension.key for dimension in own)}: say how many values each has, "
                f"as grid={example}."
            )
        return own
    known = {one.key: one for one in own}
    if not set(counts) <= set(known):
        known |= {one.key: one for one in spaces.coordinates(optimizer)}
    for key in counts:
        if key not in known:
            raise UserError(
                f"Invalid grid: {key!r}. Of {optimizer.name} it must be one of: "
                f"{', '.join(known)}; +optimizer.suite.search.{key}=... adds it."
            )
    return [known[key] for key in counts]


def points(space: Space, counts: Sequence[int]) -> list[Point]:
    """Combine the values of all dimensions, the last one varying fastest.

    Args:
        space: What is searched.
        counts: Values of each dimension, two or more.

    Raises:
        UserError: If a dimension does not have as many.

    Example:
        >>> [point["lr"] for point in points([Dimension("lr", 1e-3, 1.0, log=True)], [4])]
        [0.001, 0.01, 0.1, 1.0]
    """
    axes = [_values(dimension, count) for dimension, count in zip(space, counts, strict=True)]
    keys = [dimension.key for dimension in space]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*axes)]


def complete(
    folder: Path,
    space: Space,
    counts: Sequence[int],
    evaluate: Callable[[Sequence[Point]], Sequence[Trial]],
) -> list[Trial]:
    """Evaluate every point.

    Args:
        folder: Where the study is locked.
        space: What is searched.
        counts: Values of each dimension.
        evaluate: Maps points to trials, in the same order; what it has done before it only reads.

    Raises:
        UserError: If a trial was interrupted on its own; asked again, it goes on.
    """
    tried = points(space, counts)
    with locked(folder):
        trials = evaluate(tried)
    check_finished(trials)
    return [replace(trial, stage=NAME) for trial in trials]


def _values(dimension: Dimension, count: int) -> list[Value]:
    values = [dimension.at(index / (count - 1)) for index in range(count)]
    if len(set(values)) < count:
        raise UserError(
            f"Invalid grid: {count} values of {dimension.describe()}. There are not so many that "
            "differ in three digits."
        )
    return values
