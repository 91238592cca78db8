"""What a step costs once a run is under way: methods take turns, and are compared round by round.

In each round every method takes some steps, and each round begins with another one: a drift of the
machine's speed falls on all alike. A method's step is compared to the reference's in the same
round, and the median over rounds counts; its spread is half the 95 % interval of that median, by
order statistics. The reference has two turns in a round: what the second differs from the first is
the machine's own spread.

A method that refreshes its curvature has two kinds of steps, which take turns of their own; its
mean step is the one without a refresh, and what a refresh adds, divided by its period.

Dear steps of which nobody said how rare they are would be in a few rounds, and not in the median.
The mean of the rounds is then another one: turns are made longer, so that each has its share of
them, and where the two still differ the mean counts.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

ROUNDS, FEWEST_ROUNDS = 24, 6
LIMIT_SECONDS = 60.0  # no further round after it, once there are FEWEST_ROUNDS
TURN_SECONDS = 0.05  # at least, of each kind of steps in a round
WARM_UP_STEPS = 3
GOOD_PERCENT, BOUND_PERCENT = 5.0, 15.0
"""What spreads wider than the one is measured again, as many rounds more, up to ``ATTEMPTS`` times
or ``LIMIT_SECONDS``; what spreads wider than the other always is, and is refused at the last."""
ATTEMPTS = 3
LONGER, LONGEST_TURN_SECONDS = 8, LIMIT_SECONDS / FEWEST_ROUNDS
"""How many times as long turns become where a few rounds are dear; and none longer than the other.
"""
ITSELF = "the reference itself"

Step = Callable[[], object]


class UnsteadyError(Exception):
    """The machine was too busy for its measurement to be used; the message is one line."""


class Seconds(NamedTuple):
    """Duration of something: on the clock, and of all processor cores together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Steps:
    """The kinds of steps of a method.

    Attributes:
        plain: Takes a step, without a refresh.
        refreshing: Takes a step with one; None where all steps are alike.
        period: Steps from one refresh to the next.
    """

    plain: Step
    refreshing: Step | None = None
    period: int = 1


@dataclass(frozen=True)
class Cost:
    """What the rounds say of a method's mean step.

    Attributes:
        wall: Its time over that of the reference's, a round each.
        cpu: The same of processor time.
        seconds: The median of the rounds.
        mean: Its time in all rounds over that of the reference's, and the same of processor time.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    seconds: Seconds
    mean: Seconds

    @property
    def ratio(self) -> float:
        """The median of ``wall``; the mean where dear steps are in a few rounds alone."""
        return self.mean.wall if self._is_uneven else statistics.median(self.wall)

    @property
    def cpu_ratio(self) -> float:
        """The same of ``cpu``."""
        return self.mean.cpu if self._is_uneven else statistics.median(self.cpu)

    @property
    def spread_percent(self) -> float:
        """Half the 95 % interval of ``ratio`` in percent of it, or ``uneven_percent`` if more."""
        low, high = interval(self.wall)
        return max(50.0 * (high - low) / self.ratio, self.uneven_percent)

    @property
    def uneven_percent(self) -> float:
        """How far mean and median of the rounds are from one another: a few have dear steps.

        The smaller of that of ``wall`` and of ``cpu``: what else the machine does in a few rounds
        takes no processor time of this process.
        """
        kinds = ((self.mean.wall, self.wall), (self.mean.cpu, self.cpu))
        return min(100.0 * abs(mean / statistics.median(all_) - 1.0) for mean, all_ in kinds)

    @property
    def _is_uneven(self) -> bool:
        return self.uneven_percent > GOOD_PERCENT

    @property
    def off_percent(self) -> float:
        """How far an end of that interval is from 1: of ``ITSELF``, the machine's noise."""
        return 100.0 * max(abs(end - 1.0) for end in interval(self.wall))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % interval of the median, by order statistics; of few values, their range.

    Example:
        >>> interval(range(1, 26))
        (8, 18)
    """
    ordered, n = sorted(values), len(values)
    # So many values at either end are left out: the chance that the median lies there is 5 %.
    outside, chance = 0, 2.0**-n
    while (chance := chance + math.comb(n, outside + 1) * 2.0**-n) <= 0.025:
        outside += 1
    return ordered[outside], ordered[n - 1 - outside]


def clock(device: torch.device) -> Callable[[], Seconds]:
    """Make a clock that waits until the device has done what it was given."""

    def now() -> Seconds:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return Seconds(time.perf_counter(), time.process_time())

    return now


def measure(
    methods: Mapping[str, Steps], *, reference: str, now: Callable[[], Seconds]
) -> dict[str, Cost]:
    """Compare methods to one of them.

    Args:
        methods: By name.
        reference: The one that is the measure of the others.
        now: A clock, as ``clock`` makes it.

    Returns:
        The cost of each method, and that of the reference's second turn as ``ITSELF``. Whatever a
        step raises passes through.

    Raises:
        UnsteadyError: If the ratios still spread wider than ``BOUND_PERCENT`` at the last attempt.
    """
    everyone = {**methods, ITSELF: methods[reference]}
    lengths = {name: _turn_steps(steps, now) for name, steps in everyone.items()}
    rounds: list[dict[str, Seconds]] = []
    why = "the machine is too busy"
    began = now().wall
    for _ in range(ATTEMPTS):
        rounds += _rounds(everyone, lengths, now)
        costs = {name: _cost(name, reference, rounds) for name in everyone}
        worst = max(costs, key=lambda name: costs[name].spread_percent)
        enough = BOUND_PERCENT if now().wall - began > LIMIT_SECONDS else GOOD_PERCENT
        if costs[worst].spread_percent <= enough:
            break
        if any(cost.uneven_percent > enough for cost in costs.values()):
            lengths = {name: _longer(lengths[name], costs[name]) for name in everyone}
            rounds = []
            why = (
                "the machine is too busy, or a few steps are dear: +optimizer.suite.refresh=KEY "
                "names the argument that says how many steps lie between them"
            )
    if costs[worst].spread_percent <= BOUND_PERCENT:
        return costs
    raise UnsteadyError(
        f"the ratio of {worst} to {reference} is uncertain by {costs[worst].spread_percent:.0f} %, "
        f"more than {BOUND_PERCENT:g} %, after {ATTEMPTS} measurements: {why}"
    )


def _longer(counts: Sequence[int], cost: Cost) -> list[int]:
    """Give the steps of longer turns; ``counts`` are those of each kind."""
    most = int(LONGEST_TURN_SECONDS / cost.seconds.wall)
    return [max(count, min(LONGER * count, most)) for count in counts]


def _rounds(
    methods: Mapping[str, Steps], lengths: Mapping[str, list[int]], now: Callable[[], Seconds]
) -> Iterator[dict[str, Seconds]]:
    """Yield the mean step of each method, a round each."""
    began, names = now().wall, list(methods)
    for index in range(ROUNDS):
        if index >= FEWEST_ROUNDS and now().wall - began > LIMIT_SECONDS:
            return
        first = index % len(names)
        order = names[first:] + names[:first]
        if index % 2:
            order.reverse()
        yield {name: _mean_step(methods[name], lengths[name], now) for name in order}


def _cost(name: str, reference: str, rounds: Sequence[Mapping[str, Seconds]]) -> Cost:
    pairs = [(found[name], found[reference]) for found in rounds]
    sums = [[sum(kind) for kind in zip(*side, strict=True)] for side in zip(*pairs, strict=True)]
    return Cost(
        wall=tuple(own.wall / other.wall for own, other in pairs),
        cpu=tuple(own.cpu / other.cpu for own, other in pairs),
        seconds=Seconds(
            statistics.median(own.wall for own, _ in pairs),
            statistics.median(own.cpu for own, _ in pairs),
        ),
        mean=Seconds(*(own / other for own, other in zip(*sums, strict=True))),
    )


def _mean_step(method: Steps, lengths: list[int], now: Callable[[], Seconds]) -> Seconds:
    """Let a method take its turn; returns the mean of a whole period."""
    plain = _turn(method.plain, lengths[0], now)
    if method.refreshing is None:
        return plain
    refreshing = _turn(method.refreshing, lengths[1], now)
    pairs = zip(plain, refreshing, strict=True)
    return Seconds(*(cheap + (dear - cheap) / method.period for cheap, dear in pairs))


def _turn(step: Step, count: int, now: Callable[[], Seconds]) -> Seconds:
    """Take steps; returns the mean of one."""
    before = now()
    for _ in range(count):
        step()
    return Seconds(*((b - a) / count for a, b in zip(before, now(), strict=True)))


def _turn_steps(method: Steps, now: Callable[[], Seconds]) -> list[int]:
    """Warm up, and count the steps of a turn of each kind."""
    counts = []
    for step in filter(None, (method.plain, method.refreshing)):
        _turn(step, WARM_UP_STEPS - 1, now)
        counts.append(1 + int(TURN_SECONDS / max(_turn(step, 1, now).wall, TURN_SECONDS / 200)))
    return counts
