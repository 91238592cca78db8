"""Interleaved rounds of steps, and what they say of the cost of each method's step.

In a round every method takes some steps, half of them in the order of the methods and half in the
opposite order, so that a drift of the machine's speed falls on all alike. A method with a cheap and
a dear kind of step (it refreshes its curvature every so many) is followed through whole cycles.
"""

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

WARM_UP_STEPS = 3
MIN_ROUNDS = 5
MAX_ROUNDS = 10
LIMIT_SECONDS = 60.0  # no further round after it, once there are MIN_ROUNDS
TURN_SECONDS = 0.5  # of each method in a round
TURN_STEPS = (6, 200)
WHOLE_CYCLE = 20  # a longer one is spread over MIN_ROUNDS rounds


@dataclass
class Timed:
    """The step times of one method.

    Attributes:
        cycle: Steps from one refresh to the next.
        warm_up: Steps before the first round.
        rounds: Seconds of the steps of each round.
        start: Seconds of the first steps in a process that nothing has trained in.
    """

    cycle: int
    warm_up: int = 0
    rounds: list[list[float]] = field(default_factory=list)
    start: Sequence[float] = ()


@dataclass(frozen=True)
class Cost:
    """What the rounds say of a method, in mean steps of the reference.

    Attributes:
        ratio: The mean step.
        profile: The steps of one cycle, the refresh first; their mean is ``ratio``.
        start: How much dearer the first steps of a process are than later ones, all together.
        spread_percent: Half the range of the rounds about ``ratio``, in percent of it.
        between_runs_percent: The same of rounds of the method beside other rounds of the reference,
            as runs at different times stand beside each other.
        seconds: The mean step, in seconds.
    """

    ratio: float
    profile: list[float]
    start: float
    spread_percent: float
    between_runs_percent: float
    seconds: float


def run(
    steppers: Mapping[str, Callable[[], float]],
    cycles: Mapping[str, int],
    *,
    failed: Callable[[str, Exception], None],
    is_worth: Callable[[Collection[str]], bool] = bool,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Timed]:
    """Let every method take its steps, round after round.

    Args:
        steppers: Takes one step of the method, and returns its seconds.
        cycles: Steps from one refresh of the method to the next.
        failed: Called with a method whose step raised; it takes no further part.
        is_worth: Asked before each round with the methods that are left; if not, nothing comes of
            the whole.
        now: A clock in seconds, for the length of the whole.

    Returns:
        The step times of the methods that did not fail; none if it was not worth it.
    """
    began = now()
    times = {name: Timed(cycles[name]) for name in steppers}

    def turn(name: str, steps: int) -> list[float]:
        if name not in times:
            return []
        try:
            return [steppers[name]() for _ in range(steps)]
        except Exception as error:
            del times[name]
            failed(name, error)
            return []

    turns = {}
    for name in steppers:
        warm_up = turn(name, WARM_UP_STEPS)
        if warm_up:
            times[name].warm_up = len(warm_up)
            turns[name] = turn_steps(statistics.median(warm_up[1:]), cycle=cycles[name])
    for index in range(MAX_ROUNDS):
        if not is_worth(times):
            return {}
        if index >= MIN_ROUNDS and now() - began > LIMIT_SECONDS:
            break
        taken: dict[str, list[float]] = {name: [] for name in times}
        for names, half in ((list(taken), 0), (list(reversed(taken)), 1)):
            for name in names:
                taken[name] += turn(name, (turns[name] + half) // 2)
        for name, timed in times.items():
            timed.rounds.append(taken[name])
    return times if is_worth(times) else {}


def turn_steps(seconds: float, *, cycle: int) -> int:
    """Count the steps of a method in each round.

    Args:
        seconds: A step of it takes about so long.
        cycle: Steps from one refresh to the next.

    Example:
        >>> turn_steps(0.5, cycle=1), turn_steps(0.5, cycle=10), turn_steps(0.01, cycle=15)
        (6, 10, 60)
        >>> turn_steps(0.5, cycle=100)
        20
    """
    least, most = TURN_STEPS
    steps = min(max(math.ceil(TURN_SECONDS / max(seconds, 1e-9)), least), most)
    if cycle > max(steps, WHOLE_CYCLE):
        return max(steps, math.ceil(cycle / MIN_ROUNDS))
    return math.ceil(steps / cycle) * cycle


def drift_percent(reference: Timed) -> float:
    """Measure how much the machine's speed varied: half the range of the rounds, in percent."""
    units = _reference_means(reference)
    return _half_range_percent([unit / statistics.median(units) for unit in units])


def cost(method: Timed, reference: Timed) -> Cost:
    """Compare a method to the reference, round by round.

    A cycle has two kinds of steps, its first, which refreshes, and the others. Each kind is summed
    up by its median over rounds: what else the machine did in one round does not count.

    Args:
        method: Step times; both kinds of steps occur.
        reference: Those of the reference in the same rounds.
    """
    units = _reference_means(reference)
    seen: dict[bool, list[float]] = {True: [], False: []}
    for unit, kinds in zip(units, _by_kind(method), strict=True):
        for kind, seconds in kinds.items():
            seen[kind].append(statistics.fmean(seconds) / unit)
    costs = {kind: statistics.median(values) for kind, values in seen.items() if values}
    # In each round: how much dearer its steps were than their kinds are.
    deviations = [
        statistics.fmean(s for seconds in kinds.values() for s in seconds)
        / unit
        / statistics.fmean(costs[kind] for kind, seconds in kinds.items() for _ in seconds)
        for unit, kinds in zip(units, _by_kind(method), strict=True)
    ]
    method_rounds, reference_rounds = (
        list(enumerate(_slowness(timed))) for timed in (method, reference)
    )
    profile = [costs[_is_refresh(phase, method.cycle)] for phase in range(method.cycle)]
    ratio = statistics.fmean(profile)
    usual = sum(profile[index % method.cycle] for index in range(len(method.start)))
    return Cost(
        ratio=ratio,
        profile=profile,
        start=max(0.0, sum(method.start) / statistics.median(units) - usual),
        spread_percent=_half_range_percent(deviations),
        between_runs_percent=_half_range_percent(
            [own / other for i, own in method_rounds for j, other in reference_rounds if i != j]
        ),
        seconds=ratio * statistics.median(units),
    )


def _is_refresh(index: int, cycle: int) -> bool:
    """Tell whether a step, counted from 0, refreshes; without a cycle none is told apart."""
    return cycle > 1 and index % cycle == 0


def _reference_means(reference: Timed) -> Sequence[float]:
    """Find the reference's mean step in each round, as if the round were whole cycles."""
    rounds = list(_by_kind(reference))
    share = {True: 1 / reference.cycle, False: 1 - 1 / reference.cycle}
    if reference.cycle == 1:
        share = {False: 1.0}
    typical = _typical(reference)
    mean = sum(share[kind] * typical[kind] for kind in share)
    found = [mean * slowness for slowness in _slowness(reference)]
    # A median of quotients is not the quotient of medians; the mean of the profile is to be 1.
    correction = sum(
        part
        * statistics.median(
            statistics.fmean(kinds[kind]) / unit
            for unit, kinds in zip(found, rounds, strict=True)
            if kind in kinds
        )
        for kind, part in share.items()
    )
    return [unit * correction for unit in found]


def _slowness(timed: Timed) -> list[float]:
    """Measure how much longer each round took than its steps typically take together."""
    typical = _typical(timed)
    return [
        sum(sum(seconds) for seconds in kinds.values())
        / sum(typical[kind] * len(seconds) for kind, seconds in kinds.items())
        for kinds in _by_kind(timed)
    ]


def _typical(timed: Timed) -> dict[bool, float]:
    """Find the median seconds of the steps that refresh and of the others, over all rounds."""
    seen: dict[bool, list[float]] = {}
    for kinds in _by_kind(timed):
        for kind, seconds in kinds.items():
            seen.setdefault(kind, []).extend(seconds)
    return {kind: statistics.median(seconds) for kind, seconds in seen.items()}


def _half_range_percent(quotients: Sequence[float]) -> float:
    return 50.0 * (max(quotients) - min(quotients))


def _by_kind(timed: Timed) -> Iterator[dict[bool, list[float]]]:
    """Yield the seconds of each round, of the steps that refresh and of the others."""
    index = timed.warm_up
    for round_ in timed.rounds:
        kinds: dict[bool, list[float]] = {}
        for seconds in round_:
            kinds.setdefault(_is_refresh(index, timed.cycle), []).append(seconds)
            index += 1
        yield kinds
