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
MIN_ROUNDS = 3
MAX_ROUNDS = 10
LIMIT_SECONDS = 60.0  # no further round after it, once there are MIN_ROUNDS
TURN_SECONDS = 0.2  # of each method in a round
TURN_STEPS = (2, 200)
WHOLE_CYCLE = 20  # a longer one is spread over MIN_ROUNDS rounds


@dataclass
class Timed:
    """The step times of one method.

    Attributes:
        cycle: Steps from one refresh to the next.
        first: Index of the first step that is kept; those before are warm-up.
        rounds: Seconds of the steps of each round.
    """

    cycle: int
    first: int = 0
    rounds: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What the rounds say of a method, in mean steps of the reference.

    Attributes:
        ratio: The mean step.
        profile: The steps of one cycle; their mean is ``ratio``.
        spread_percent: Half the range of the rounds about ``ratio``, in percent of it.
        seconds: The mean step, in seconds.
    """

    ratio: float
    profile: list[float]
    spread_percent: float
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
            times[name].first = WARM_UP_STEPS
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
    """Steps of a method in each round.

    Args:
        seconds: A step of it takes about so long.
        cycle: Steps from one refresh to the next.

    Example:
        >>> turn_steps(0.5, cycle=1), turn_steps(0.5, cycle=10), turn_steps(0.01, cycle=15)
        (2, 10, 30)
        >>> turn_steps(0.5, cycle=100)
        34
    """
    least, most = TURN_STEPS
    steps = min(max(math.ceil(TURN_SECONDS / max(seconds, 1e-9)), least), most)
    if cycle > max(steps, WHOLE_CYCLE):
        return max(steps, math.ceil(cycle / MIN_ROUNDS))
    return math.ceil(steps / cycle) * cycle


def drift_percent(reference: Timed) -> float:
    """How much the machine's speed varied: half the range of the rounds, in percent."""
    units = _reference_means(reference)
    return 50.0 * (max(units) - min(units)) / statistics.median(units)


def cost(method: Timed, reference: Timed) -> Cost:
    """Compare a method to the reference, round by round.

    The rounds are summed up by their median, phase of the cycle by phase: what else the machine did
    in one round does not count.

    Args:
        method: Step times; every phase of its cycle occurs.
        reference: Those of the reference in the same rounds.
    """
    units = _reference_means(reference)
    seen: list[list[float]] = [[] for _ in range(method.cycle)]
    for unit, phases in zip(units, _by_phase(method), strict=True):
        for phase, seconds in phases.items():
            seen[phase].append(statistics.fmean(seconds) / unit)
    profile = [statistics.median(values) for values in seen]
    # In each round: how much dearer its steps were than their phases are.
    deviations = [
        statistics.fmean(s for seconds in phases.values() for s in seconds)
        / unit
        / statistics.fmean(profile[phase] for phase, s in phases.items() for _ in s)
        for unit, phases in zip(units, _by_phase(method), strict=True)
    ]
    ratio = statistics.fmean(profile)
    return Cost(
        ratio=ratio,
        profile=profile,
        spread_percent=50.0 * (max(deviations) - min(deviations)),
        seconds=ratio * statistics.median(units),
    )


def _reference_means(reference: Timed) -> Sequence[float]:
    """The mean step of the reference in each round, as if the round were whole cycles."""
    rounds = list(_by_phase(reference))
    typical = [
        statistics.median(seconds for phases in rounds for seconds in phases.get(phase, []))
        for phase in range(reference.cycle)
    ]
    mean = statistics.fmean(typical)
    found = []
    for phases in rounds:
        took = sum(sum(seconds) for seconds in phases.values())
        expected = sum(typical[phase] * len(seconds) for phase, seconds in phases.items())
        found.append(mean * took / expected)
    # A median of quotients is not the quotient of medians; the mean of the profile is to be 1.
    seen = [
        statistics.median(
            statistics.fmean(phases[phase]) / unit
            for unit, phases in zip(found, rounds, strict=True)
            if phase in phases
        )
        for phase in range(reference.cycle)
    ]
    return [unit * statistics.fmean(seen) for unit in found]


def _by_phase(timed: Timed) -> Iterator[dict[int, list[float]]]:
    """The seconds of each round by the phase of the cycle at which a step stood."""
    index = timed.first
    for round_ in timed.rounds:
        phases: dict[int, list[float]] = {}
        for seconds in round_:
            phases.setdefault(index % timed.cycle, []).append(seconds)
            index += 1
        yield phases
