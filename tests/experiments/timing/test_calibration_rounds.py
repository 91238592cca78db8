"""What a step costs: statistics of made-up times."""

import itertools

import pytest
import yaml

from experiments.config import commandline
from experiments.config.sections import MethodSection
from experiments.timing import calibration_child, calibration_rounds
from experiments.timing.calibration_rounds import Timed, cost


def test_a_drift_of_the_machine_is_no_cost_of_a_method():
    """Twice as dear, in rounds of which each is three times slower than the last."""
    reference = Timed(cycle=1, rounds=[[3.0**r] * 4 for r in range(5)])
    method = Timed(cycle=1, rounds=[[2 * 3.0**r] * 2 for r in range(5)])
    found = cost(method, reference)
    assert found.ratio == pytest.approx(2)
    assert found.profile == pytest.approx([2])
    assert found.spread_percent == pytest.approx(0, abs=1e-9)
    assert found.seconds == pytest.approx(2 * 3.0**2)  # the median round


def test_a_dear_tenth_step_is_counted():
    """Nine steps of 1 and one of 11 cost 2 a step, and the run begins with the dear one."""
    cheap_and_dear = [11.0] + [1.0] * 9
    steps = itertools.cycle(cheap_and_dear)
    start = [next(steps) for _ in range(3)]
    rounds = [[next(steps) for _ in range(20)] for _ in range(3)]
    method = Timed(cycle=10, warm_up=3, rounds=rounds, start=start)
    found = cost(method, Timed(cycle=1, rounds=[[1.0]] * 3))
    assert found.ratio == pytest.approx(2)
    assert found.profile == pytest.approx(cheap_and_dear)
    assert found.start == pytest.approx(0, abs=1e-9)


def test_a_cycle_may_be_spread_over_the_rounds():
    """As one of 100 steps is; a round then holds a part of it and its mean says little."""
    costs = [7.0, 1, 1, 1, 1, 1]
    steps = itertools.cycle(costs)
    method = Timed(cycle=6, rounds=[[next(steps) * speed for _ in range(2)] for speed in (1, 2, 4)])
    found = cost(method, Timed(cycle=1, rounds=[[1.0], [2.0], [4.0]]))
    assert found.profile == pytest.approx(costs)
    assert found.ratio == pytest.approx(2)
    assert found.spread_percent == pytest.approx(0, abs=1e-9)


def test_a_spread_cycle_shows_how_its_rounds_differ():
    """Each of its steps is taken once, so a phase alone has nothing to differ from."""
    rounds = [[speed] * 2 for speed in (0.9, 1.0, 1.1)]
    found = cost(Timed(cycle=6, rounds=rounds), Timed(cycle=1, rounds=[[1.0]] * 3))
    assert found.profile[1:] == pytest.approx([1.0] * 5)
    # The first round has the only refresh, at 0.9; its other step was to cost 1.
    assert found.spread_percent == pytest.approx(50 * (1.1 - 0.9 / 0.95))


def test_what_the_first_steps_of_a_process_set_up_is_the_start():
    method = Timed(cycle=1, rounds=[[2.0]] * 3, start=[9.0, 2.0, 2.0])
    found = cost(method, Timed(cycle=1, rounds=[[2.0]] * 3))
    assert (found.ratio, found.start) == pytest.approx((1.0, 3.5))  # 7 s, in steps of 2 s


def test_what_else_happens_in_one_round_widens_the_spread_alone():
    reference = Timed(cycle=1, rounds=[[1.0]] * 5)
    method = Timed(cycle=1, rounds=[[2.0], [2.0], [3.0], [2.0], [1.9]])
    found = cost(method, reference)
    assert found.ratio == pytest.approx(2)
    assert found.spread_percent == pytest.approx(100 * (3 - 1.9) / 2 / 2)


def test_runs_at_different_times_differ_by_the_drift_that_rounds_share():
    """The method keeps to twice the reference while the machine slows down by half."""
    reference = Timed(cycle=1, rounds=[[1.0], [1.2], [1.5]])
    method = Timed(cycle=1, rounds=[[2.0], [2.4], [3.0]])
    found = cost(method, reference)
    assert found.spread_percent == pytest.approx(0, abs=1e-9)
    assert found.between_runs_percent == pytest.approx(50 * (1.5 / 1.0 - 1.0 / 1.5))


def test_between_runs_a_dear_step_is_no_difference():
    steps = itertools.cycle([10.0] + [1.0] * 3)
    method = Timed(cycle=4, rounds=[[next(steps) for _ in range(3)] for _ in range(4)])
    found = cost(method, Timed(cycle=1, rounds=[[1.0]] * 4))
    assert found.between_runs_percent == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("cycle", [1, 2, 6])
def test_the_reference_costs_itself(cycle):
    times = iter([5.0, 1, 2, 8, 2, 3, 1, 1, 9, 4, 2, 2, 3, 7, 2, 1, 1, 2])
    reference = Timed(cycle=cycle, rounds=[[next(times) for _ in range(6)] for _ in range(3)])
    found = cost(reference, reference)
    assert found.ratio == pytest.approx(1)
    assert len(found.profile) == cycle


def test_methods_take_turns_and_back():
    """Every round is a palindrome of methods, and each has its whole cycles."""
    log = []

    def stepper(name, seconds):
        def step():
            log.append(name)
            return seconds

        return step

    times = calibration_rounds.run(
        {"a": stepper("a", 1.0), "b": stepper("b", 0.1)},
        {"a": 1, "b": 8},
        failed=lambda name, error: pytest.fail(name),
        now=lambda: 0.0,
    )
    warm_up, rounds = 2 * calibration_rounds.WARM_UP_STEPS, calibration_rounds.MAX_ROUNDS
    assert "".join(log[warm_up:]) == ("aaa" + "bbbb" + "bbbb" + "aaa") * rounds
    assert times["a"].rounds == [[1.0] * 6] * rounds
    assert times["b"].rounds == [[0.1] * 8] * rounds
    assert times["b"].warm_up == calibration_rounds.WARM_UP_STEPS


def test_slow_methods_have_the_least_number_of_rounds():
    times = calibration_rounds.run(
        {"a": lambda: 1.0},
        {"a": 1},
        failed=lambda name, error: pytest.fail(name),
        now=itertools.count(0, calibration_rounds.LIMIT_SECONDS * 2).__next__,
    )
    assert len(times["a"].rounds) == calibration_rounds.MIN_ROUNDS


def test_a_method_that_fails_takes_no_further_part():
    failures = {}
    fails = itertools.chain([0.1] * 7, iter(lambda: 1 / 0, None)).__next__
    times = calibration_rounds.run(
        {"a": lambda: 0.1, "b": fails},
        {"a": 1, "b": 1},
        failed=failures.__setitem__,
        now=lambda: 0.0,
    )
    assert set(times) == {"a"}
    assert isinstance(failures["b"], ZeroDivisionError)


def test_rounds_that_nothing_can_come_of_are_not_taken():
    taken = []

    def fails():
        raise ZeroDivisionError

    times = calibration_rounds.run(
        {"reference": lambda: taken.append(0) or 0.1, "b": fails},
        {"reference": 1, "b": 1},
        failed=lambda name, error: None,
        is_worth=lambda left: "b" in left,
    )
    assert times == {}
    assert len(taken) == calibration_rounds.WARM_UP_STEPS


def test_the_cycle_of_a_method_is_its_interval():
    for name, steps in (("kfac", 10), ("adafisher_released", 100), ("soap", 10), ("adam", 1)):
        path = commandline.CONF / "optimizer" / f"{name}.yaml"
        assert calibration_child.cycle(MethodSection.of(yaml.safe_load(path.read_text()))) == steps
