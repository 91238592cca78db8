"""How often the rule of ``best`` errs where all methods are equal, and what it finds where not.

``python -m analysis.statistics.simulation`` draws tables of equal methods and counts those in which
the leader is called better than any other, and tables in which one method is better by so many
images, and counts how often it is called better than another one, and than all. A table is what one
task and result show: so many methods and seeds, each a count of right answers on the digits' 359
test images.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from analysis.statistics.summary import LEVEL, Floats

IMAGES = 359
METHODS = (2, 15)
SEEDS = (2, 3, 5, 10)
ACCURACIES = (0.90, 0.98, 0.995)
SPREADS = (0.0, 0.5, 1.0, 2.0)
SHARED = (0.0, 0.8)
GAINS = (1, 2, 4, 10)
ROUNDED, DRAWN, UNEQUAL = "seeds", "seeds, images", "unequal seeds"
TIMES = 5.0
"""In ``UNEQUAL`` every second method scatters so many times as much as the others."""

TABLES = 20_000
AT_ONCE = 1_000
MISTAKE = 0.01
"""Chance that Monte Carlo error alone makes the command say that the rule does not hold."""

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """What a table is drawn from.

    A run's count is ``images * accuracy + spread * (sqrt(shared) z_seed + sqrt(1 - shared) z_run)``
    with standard normal z, rounded, and at most all images.

    Attributes:
        noise: ``ROUNDED``: as said. ``DRAWN``: that divided by the images is the chance of each
            image to be right, so that counts are binomial besides. ``UNEQUAL``: as ``ROUNDED``, but
            some methods scatter more.
        methods: How many.
        seeds: Of each method.
        accuracy: Between 0 and 1.
        spread: Standard deviation over seeds, in images.
        shared: Part of its square that methods share at a seed.
    """

    noise: str
    methods: int
    seeds: int
    accuracy: float
    spread: float
    shared: float

    def draw(self, tables: int, generator: np.random.Generator, *, gain: float = 0.0) -> Floats:
        """Draw counts ``[tables, methods, seeds]``, of the first method ``gain`` images higher."""
        z = np.sqrt(1 - self.shared) * generator.standard_normal(
            (tables, self.methods, self.seeds)
        ) + np.sqrt(self.shared) * generator.standard_normal((tables, 1, self.seeds))
        spreads = np.full((self.methods, 1), self.spread)
        if self.noise == UNEQUAL:
            spreads[1::2] *= TIMES
        expected = IMAGES * self.accuracy + spreads * z
        expected[:, 0] += gain
        if self.noise == DRAWN:
            chance = np.clip(expected / IMAGES, 0.0, 1.0)
            return generator.binomial(IMAGES, chance).astype(np.float64)
        return np.clip(np.rint(expected), 0, IMAGES)


def decide(counts: Floats, *, level: float = LEVEL) -> tuple[npt.NDArray[np.intp], Booleans]:
    """Decide many tables at once as ``best`` does each.

    Args:
        counts: Whole numbers, higher is better, ``[tables, methods, seeds]``.
        level: One minus the size of the test.

    Returns:
        The leader, ``[tables]``, and which methods it is better than, ``[tables, methods]``.
    """
    tables, methods, n = counts.shape
    sums = counts.sum(axis=2)
    centred = counts - sums[:, :, None] / n
    products = centred @ centred.transpose(0, 2, 1)
    squares = np.einsum("tii->ti", products)
    pairs = methods * (methods - 1) // 2
    critical = stdtrit(n - 1, 1 - (1 - level) / 2 / np.arange(pairs, 0, -1))

    leader = sums.argmax(axis=1)
    at = np.arange(tables), leader
    others = np.arange(methods) != leader[:, None]
    of_leader = _t(
        sums[at][:, None] - sums, squares[at][:, None] + squares - 2 * products[at], seeds=n
    )
    is_best = np.where(others, of_leader, np.inf).min(axis=1) >= critical[-1]
    open_ = np.flatnonzero(~is_best & (of_leader.max(axis=1) >= critical[-1]))
    i, j = np.triu_indices(methods, 1)
    of_pair = _t(
        sums[open_][:, i] - sums[open_][:, j],
        squares[open_][:, i] + squares[open_][:, j] - 2 * products[open_][:, i, j],
        seeds=n,
    )
    descending = -np.sort(-of_pair, axis=1)
    passed = np.logical_and.accumulate(descending >= critical, axis=1).sum(axis=1)
    needed = np.full(tables, np.inf)
    needed[open_] = np.where(
        passed > 0, descending[np.arange(len(open_)), np.maximum(passed, 1) - 1], np.inf
    )
    return leader, others & (is_best[:, None] | (of_leader >= needed[:, None]))


def _t(difference: Floats, around: Floats, *, seeds: int) -> Floats:
    """Size of Student's t of the differences of two methods; 0 where they are all equal: no test.

    Args:
        difference: Of the sums over seeds.
        around: Sum of squares of the paired differences about their mean; of whole numbers this
            is 0, or 1/2 at least.
        seeds: How many.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(difference) / np.sqrt(around * (seeds / (seeds - 1)))
    return np.where(around < 0.25, 0.0, t)


def error(setting: Setting, tables: int, generator: np.random.Generator) -> float:
    """Share of tables of equal methods in which any is called better than another."""
    wrong = sum(
        int(decide(setting.draw(count, generator))[1].any(axis=1).sum()) for count in _parts(tables)
    )
    return wrong / tables


def power(
    setting: Setting, tables: int, generator: np.random.Generator, *, gain: float
) -> tuple[float, float]:
    """Estimate how often a method that is better by ``gain`` images is called so.

    Returns:
        Share of its comparisons, and share of tables in which it is better than all others.
    """
    than_one, than_all = 0, 0
    for count in _parts(tables):
        leader, better = decide(setting.draw(count, generator, gain=gain))
        found = better[leader == 0].sum(axis=1)
        than_one += int(found.sum())
        than_all += int((found == setting.methods - 1).sum())
    return than_one / (tables * (setting.methods - 1)), than_all / tables


def allowed(tables: int, settings: int) -> float:
    """Add to the error of the level what chance adds to the largest of so many estimates of it."""
    size = 1 - LEVEL
    quantile = float(ndtri(1 - MISTAKE / settings))
    return size + quantile * float(np.sqrt(size * (1 - size) / tables))


def settings() -> list[Setting]:
    """All settings of the table.

    Unequal spreads are drawn at the lowest accuracy alone: where counts end at all images, methods
    of unequal spread have unequal means.
    """
    found = [
        Setting(*values)
        for values in itertools.product(
            (ROUNDED, DRAWN), METHODS, SEEDS, ACCURACIES, SPREADS, SHARED
        )
    ]
    found += [
        Setting(UNEQUAL, *values)
        for values in itertools.product(METHODS, SEEDS, ACCURACIES[:1], SPREADS[1:], SHARED)
    ]
    return found


def lines(tables: int, *, seed: int = 0) -> Iterator[str]:
    """Simulate all settings and write the table, a line each; then the largest errors."""
    found = settings()
    bound = allowed(tables, len(found))
    by = "/".join(map(str, GAINS))
    width = 6 * len(GAINS) - 1
    yield f"All in %, {tables} tables each. Error: any better or worse, of methods that are equal."
    yield f"Better than one, than all: how often a method is so that is better by {by} images."
    yield (
        f"{'noise':13} {'methods':>7} {'seeds':>5} {'accuracy':>8} {'spread':>6} {'shared':>6} "
        f"{'error':>6}   {'better than one':^{width}}   {'than all':^{width}}"
    )
    largest: dict[tuple[str, int, int], list[float]] = {}
    for setting, child in zip(found, np.random.SeedSequence(seed).spawn(len(found)), strict=True):
        generator = np.random.default_rng(child)
        wrong = error(setting, tables, generator)
        powers = [power(setting, tables, generator, gain=gain) for gain in GAINS]
        than_one, than_all = (
            " ".join(f"{100 * share:5.1f}" for share in shares)
            for shares in zip(*powers, strict=True)
        )
        key = (setting.noise, setting.methods, setting.seeds)
        largest.setdefault(key, []).append(wrong)
        yield (
            f"{setting.noise:13} {setting.methods:7} {setting.seeds:5} {setting.accuracy:8.3f} "
            f"{setting.spread:6.1f} {setting.shared:6.1f} {100 * wrong:6.2f}   {than_one}   "
            f"{than_all}"
        )
    for (noise, methods, seeds), errors in largest.items():
        yield f"largest error: {100 * max(errors):.2f} ({noise}, {methods} methods, {seeds} seeds)"
    most = max(max(errors) for errors in largest.values())
    verdict = "holds" if most <= bound else "DOES NOT HOLD"
    yield (
        f"{verdict}: largest error {100 * most:.2f}, allowed {100 * bound:.2f} (5 and Monte Carlo "
        f"error of {len(found)} estimates)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 1 if the rule errs more often than it may."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.statistics.simulation",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--tables", type=int, default=TABLES, help=f"of each row [{TABLES}]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [0]")
    options = parser.parse_args(arguments)
    if options.tables < 1:
        parser.error(f"Invalid tables: {options.tables}. Must be >= 1.")
    line = ""
    for line in lines(options.tables, seed=options.seed):
        print(line, flush=True)
    return 0 if line.startswith("holds") else 1


def _parts(tables: int) -> Iterator[int]:
    """Split so that the pairs of all tables need not be in memory at once."""
    for begin in range(0, tables, AT_ONCE):
        yield min(AT_ONCE, tables - begin)


if __name__ == "__main__":
    sys.exit(main())
