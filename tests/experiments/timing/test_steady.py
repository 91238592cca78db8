"""The rounds in which methods take turns, by a clock that only their steps move."""

import pytest
from scipy.stats import binom

from experiments.timing import steady
from experiments.timing.steady import ITSELF, Seconds, Steps, UnsteadyError, interval, measure


class Machine:
    """A clock, and steps that take what they are told of it."""

    def __init__(self) -> None:
        self.now, self.slowness, self.log = 0.0, 1.0, []

    def read(self) -> Seconds:
        return Seconds(self.now, 2 * self.now)

    def step(self, name, cost):
        """A step of so many seconds, on a machine of today's speed."""

        def take():
            self.log.append(name)
            self.now += self.slowness * (cost() if callable(cost) else cost)

        return take


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

    methods = {"a": Steps(machine.step("a", 1.0)), "b": Steps(machine.step("b", disturbed))}
    costs = measure(methods, reference="a", now=machine.read)
    assert (costs["b"].ratio, costs["b"].spread_percent) == pytest.approx((2, 0))


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


def unsteady(machine, wild_rounds):
    """A method whose ratio is anything from 1 to 4 in so many rounds, and then 2."""
    values = iter([0.1, 0.4, 0.15, 0.3] * (wild_rounds // 4))
    cost = lambda: next(values, 0.2)  # noqa: E731
    return {"a": Steps(machine.step("a", 0.1)), "b": Steps(machine.step("b", cost))}


def test_what_spreads_is_measured_again(machine):
    methods = unsteady(machine, steady.WARM_UP_STEPS + steady.ROUNDS + 1)
    costs = measure(methods, reference="a", now=machine.read)
    assert len(costs["b"].wall) == 2 * steady.ROUNDS
    assert costs["b"].ratio == pytest.approx(2)
    assert costs["b"].spread_percent <= steady.BOUND_PERCENT


def test_what_still_spreads_is_refused_in_one_line(machine):
    methods = unsteady(machine, 1000)
    with pytest.raises(UnsteadyError, match=r"^the ratio of b to a is uncertain by \d+ %, more th"):
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
