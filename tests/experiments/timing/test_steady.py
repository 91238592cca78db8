"""The rounds in which methods take turns, by a clock that only their steps move."""

import pytest
from scipy.stats import binom

from experiments.timing import steady
from experiments.timing.steady import ITSELF, Seconds, Steps, UnsteadyError, interval, measure


class Machine:
    """A clock, and steps that take what they are told of it."""

    def __init__(self) -> None:
        self.now, self.processor, self.slowness, self.log = 0.0, 0.0, 1.0, []

    def read(self) -> Seconds:
        return Seconds(self.now, 2 * self.processor)

    def step(self, name, cost, *, own=None):
        """A step of so many seconds, on a machine of today's speed; ``own``: without others'."""

        def take():
            self.log.append(name)
            seconds = self.slowness * (cost() if callable(cost) else cost)
            self.now += seconds
            self.processor += seconds if own is None else own

        return take

    def refreshing(self, name, plain, *, refresh, every):
        """A step of which one in so many takes longer, and nobody knows."""
        return self.step(
            name, lambda: plain + (refresh if self.log.count(name) % every == 0 else 0.0)
        )


@pytest.fixture
def machine():
    return Machine()


def test_a_method_costs_what_its_steps_take_of_the_reference(machine):
    methods = {"a": Steps(machine.step("a", 0.25)), "b": Steps(machine.step("b", 0.5))}
    costs = measure(methods, reference="a", now=machine.read)
    assert list(costs) == ["a", "b", ITSELF]
    assert [one.ratio for one in costs.values()] == pytest.approx([1, 2, 1])
    assert [one.cpu_ratio for one in costs.values()] == pytest.approx([1, 2, 1])
    assert costs["b"].seconds == pytest.approx((0.5, 1.0))
    assert (costs["b"].spread_percent, costs[ITSELF].off_percent) == pytest.approx((0, 0))


def test_a_refresh_is_charged_by_its_share(machine):
    """Nine steps of 1 and one of 11 cost 2 a step."""
    method = Steps(machine.step("plain", 1.0), machine.step("refreshing", 11.0), period=10)
    reference = Steps(machine.step("reference", 1.0))
    costs = measure({"r": reference, "m": method}, reference="r", now=machine.read)
    assert costs["m"].ratio == pytest.approx(2)
    # Both kinds are seen as often, however rare the one is in a run.
    assert machine.log.count("plain") == machine.log.count("refreshing")


def test_a_reference_that_refreshes_costs_itself(machine):
    method = Steps(machine.step("plain", 1.0), machine.step("refreshing", 4.0), period=3)
    costs = measure({"r": method}, reference="r", now=machine.read)
    assert [one.ratio for one in costs.values()] == pytest.approx([1, 1])
    assert costs["r"].seconds.wall == pytest.approx(2)


def test_a_drift_of_the_machine_is_no_cost_of_a_method(machine):
    """It slows down by a tenth of a percent with every step, a hundredfold in all."""

    def drifting():
        machine.slowness *= 1.001
        return 1.0

    methods = {name: Steps(machine.step(name, drifting)) for name in ("a", "b", "c")}
    costs = measure(methods, reference="a", now=machine.read)
    assert [one.ratio for one in costs.values()] == pytest.approx([1] * 4, rel=0.005)
    assert max(one.spread_percent for one in costs.values()) < 0.5


def test_what_else_happens_in_a_few_rounds_does_not_count(machine):
    def disturbed():
        return 20.0 if machine.log.count("b") % 6 == 0 else 2.0

    step = machine.step("b", disturbed, own=2.0)
    methods = {"a": Steps(machine.step("a", 1.0)), "b": Steps(step)}
    costs = measure(methods, reference="a", now=machine.read)
    assert (costs["b"].ratio, costs["b"].spread_percent) == pytest.approx((2, 0))


@pytest.mark.parametrize(
    ("plain", "refresh", "every", "ratio"),
    [(0.005, 0.05, 100, 1.1), (0.02, 0.05, 10, 1.25), (0.1, 0.4, 10, 1.4), (0.2, 0.1, 20, 1.025)],
)
@pytest.mark.parametrize("reference", ["plain", "refreshing"])
def test_rare_steps_that_nobody_told_of_are_charged(
    machine, plain, refresh, every, ratio, reference
):
    """Two kinds of steps in one: the median of short turns would have but the one."""
    step = machine.refreshing("b", plain, refresh=refresh, every=every)
    methods = {"plain": Steps(machine.step("a", plain)), "refreshing": Steps(step)}
    costs = measure(methods, reference=reference, now=machine.read)
    found = costs["refreshing"].ratio / costs["plain"].ratio
    assert found == pytest.approx(ratio, rel=steady.GOOD_PERCENT / 100)
    assert max(one.spread_percent for one in costs.values()) <= steady.BOUND_PERCENT


def test_what_is_too_dear_and_rare_to_be_charged_is_refused_in_one_line(machine):
    """Turns as long as they may be have it or not."""
    step = machine.refreshing("b", 1.0, refresh=8.0, every=15)
    methods = {"a": Steps(machine.step("a", 1.0)), "b": Steps(step)}
    with pytest.raises(
        UnsteadyError, match=r"^the ratio of b to a is .* dear: \+optimizer\.suite\."
    ):
        measure(methods, reference="a", now=machine.read)


def test_turns_grow_no_longer_than_the_longest(machine):
    cost = steady.Cost((1.0,), (1.0,), seconds=Seconds(0.5, 0.5), mean=Seconds(1.0, 1.0))
    assert steady._longer([1], cost) == [8]
    assert steady._longer([8], cost) == [20]
    assert steady._longer([30, 1], cost) == [30, 8]


def test_turns_are_long_enough_to_be_timed_and_each_round_begins_with_another(machine):
    methods = {"a": Steps(machine.step("a", 1.0)), "b": Steps(machine.step("b", 0.02))}
    measure(methods, reference="a", now=machine.read)
    warm_up = steady.WARM_UP_STEPS
    log = machine.log[3 * warm_up :]
    # An even round as a, b, a again from the next of them; an odd one in the opposite order.
    assert log[:5] == ["a", "b", "b", "b", "a"]
    assert log[5:10] == ["a", "a", "b", "b", "b"]
    assert len(log) == steady.ROUNDS * 5


def test_slow_steps_have_fewer_rounds(machine):
    costs = measure({"a": Steps(machine.step("a", 20.0))}, reference="a", now=machine.read)
    assert len(costs["a"].wall) == steady.FEWEST_ROUNDS


def test_slow_steps_are_not_measured_again_while_they_can_be_used(machine):
    """Here a tenth about the median, in six rounds: beyond what is good, within the bound."""
    values = iter([20.0, 20.0, 20.0, 18.0, 22.0, 19.0, 21.0, 20.0, 20.0])
    methods = {
        "a": Steps(machine.step("a", 20.0)),
        "b": Steps(machine.step("b", lambda: next(values))),
    }
    costs = measure(methods, reference="a", now=machine.read)
    assert (len(costs["b"].wall), costs["b"].spread_percent) == (6, pytest.approx(10))


def unsteady(machine, wild_rounds):
    """A method whose ratio is anything from 1 to 4 in so many rounds, and then 2."""
    values = iter([0.1, 0.4, 0.15, 0.3] * (wild_rounds // 4))
    cost = lambda: next(values, 0.2)  # noqa: E731
    return {"a": Steps(machine.step("a", 0.1)), "b": Steps(machine.step("b", cost, own=0.2))}


def test_what_spreads_is_measured_again(machine):
    methods = unsteady(machine, steady.WARM_UP_STEPS + steady.ROUNDS + 1)
    costs = measure(methods, reference="a", now=machine.read)
    assert len(costs["b"].wall) == 2 * steady.ROUNDS
    assert costs["b"].ratio == pytest.approx(2)
    assert costs["b"].spread_percent <= steady.BOUND_PERCENT


def test_what_still_spreads_is_refused_in_one_line(machine):
    methods = unsteady(machine, 1000)
    with pytest.raises(
        UnsteadyError, match=r"^the ratio of b to a is uncertain by \d+ %, .* busy$"
    ):
        measure(methods, reference="a", now=machine.read)


def test_what_a_step_raises_passes(machine):
    methods = {"a": Steps(machine.step("a", 1.0)), "b": Steps(machine.step("b", lambda: 1 / 0))}
    with pytest.raises(ZeroDivisionError):
        measure(methods, reference="a", now=machine.read)


@pytest.mark.parametrize("count", [*range(6, 30), 48, 72])
def test_the_interval_of_the_median_has_it_in_95_of_100_samples(count):
    """And the next narrower one in fewer: by the binomial distribution of the values below it."""
    low, high = interval(range(count, 0, -1))
    assert low + high == count + 1
    below = binom(count, 0.5).cdf
    assert 1 - 2 * below(low - 1) >= 0.95 > 1 - 2 * below(low)


def test_the_interval_of_few_values_is_their_range():
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
