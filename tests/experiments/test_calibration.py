"""What a step costs: statistics of made-up times, the steps that follow, and the cache."""

import dataclasses
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir

from experiments import (
    budget,
    calibration,
    calibration_child,
    calibration_key,
    calibration_process,
    calibration_report,
    calibration_rounds,
    commandline,
    identity,
    preflight,
    run,
)
from experiments.calibration_record import Calibration, read
from experiments.calibration_rounds import Timed, cost
from experiments.errors import UserError
from experiments.outcome import PreparationError
from experiments.record import Run, load_run
from experiments.store import RunFolder


def made_up(**changes) -> Calibration:
    facts = {
        "method": "adam",
        "reference": "adafisher",
        "seconds_per_step": 0.5,
        "reference_seconds_per_step": 1.0,
        "ratio": 0.5,
        "spread_percent": 1.0,
        "drift_percent": 2.0,
        "profile": (0.5,),
        "reference_profile": (1.0,),
        "rounds": 3,
        "steps_per_epoch": 18,
        "published_ratio": 0.95,
        "setting": {"task": "digits", "model": "small_cnn", "batch_size": 64},
        "machine": {"device": "cpu", "processor": "none", "threads": 1},
    }
    return Calibration(**facts | changes)


# The cost of a method


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
    warm_up = [next(steps) for _ in range(3)]
    rounds = [[next(steps) for _ in range(20)] for _ in range(3)]
    method = Timed(cycle=10, warm_up=warm_up, rounds=rounds)
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


def test_what_a_method_sets_up_for_itself_is_its_start():
    method = Timed(cycle=1, warm_up=[9.0, 2.0, 2.0], rounds=[[2.0]] * 3)
    found = cost(method, Timed(cycle=1, rounds=[[2.0]] * 3))
    assert (found.ratio, found.start) == pytest.approx((1.0, 3.5))  # 7 s, in steps of 2 s


def test_what_else_happens_in_one_round_widens_the_spread_alone():
    reference = Timed(cycle=1, rounds=[[1.0]] * 5)
    method = Timed(cycle=1, rounds=[[2.0], [2.0], [3.0], [2.0], [1.9]])
    found = cost(method, reference)
    assert found.ratio == pytest.approx(2)
    assert found.spread_percent == pytest.approx(100 * (3 - 1.9) / 2 / 2)


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
        {"a": stepper("a", 1.0), "b": stepper("b", 0.05)},
        {"a": 1, "b": 8},
        failed=lambda name, error: pytest.fail(name),
        now=lambda: 0.0,
    )
    warm_up, rounds = 2 * calibration_rounds.WARM_UP_STEPS, calibration_rounds.MAX_ROUNDS
    assert "".join(log[warm_up:]) == ("a" + "bbbb" + "bbbb" + "a") * rounds
    assert times["a"].rounds == [[1.0, 1.0]] * rounds
    assert times["b"].rounds == [[0.05] * 8] * rounds
    assert times["b"].warm_up == [0.05] * calibration_rounds.WARM_UP_STEPS


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
        assert calibration_child.cycle(yaml.safe_load(path.read_text())) == steps


# The steps that follow


def test_half_the_cost_is_twice_the_steps():
    assert made_up().steps(30) == 60
    assert made_up(ratio=5.6, profile=(5.6,)).steps(200) == 36
    assert made_up().reference_seconds(30) == 30
    assert made_up().seconds(60) == pytest.approx(30)


def test_the_steps_are_the_nearest_ones_and_at_least_one():
    dear = made_up(ratio=4.0, profile=(4.0,))
    assert [dear.steps(n) for n in (1, 5, 7, 10, 11)] == [1, 1, 2, 2, 3]


def test_a_short_run_pays_for_the_dear_step_that_it_begins_with():
    """The costs 11, 1, ..., 1: after 12 there were two steps, of 2 in the mean there were six."""
    method = made_up(ratio=2.0, profile=(11.0, *[1.0] * 9))
    assert method.steps(12) == 2
    assert method.steps(20) == 10
    assert method.steps(32) == 12  # the second dear one was the eleventh
    assert [abs(method.seconds(n) - 47) for n in (method.steps(47) - 1, method.steps(47) + 1)] >= [
        abs(method.seconds(method.steps(47)) - 47)
    ] * 2


def test_what_is_set_up_first_is_taken_from_the_steps():
    assert made_up(ratio=1.0, profile=(1.0,), start=4.0).steps(30) == 26
    assert made_up(ratio=1.0, profile=(1.0,), start=4.0, reference_start=1.0).steps(30) == 27
    assert made_up(start=40.0).steps(30) == 1
    assert made_up(start=4.0).seconds(10) == pytest.approx(9)
    assert made_up(reference_start=1.0).reference_seconds(30) == pytest.approx(31)


def test_the_schedule_ends_with_the_matched_steps():
    given = {"match_seconds": "adafisher", "reference_epochs": 2, "reference_steps": None}
    limits = budget.limits(given, steps_per_epoch=7, calibration=made_up(profile=(1.25,)))
    assert limits == budget.Limits(steps=11, given_seconds=14.0)  # an epoch and four steps
    assert limits.horizon == 11


# The files


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "one.json"
    path.write_bytes(made_up().to_json())
    assert read(path) == made_up()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"ratio": 0.5', '"ratio": NaN'),
        lambda text: text.replace('"ratio": 0.5', '"ratio": "fast"'),
        lambda text: text.replace('"ratio": 0.5,', ""),
        lambda text: text.replace('"steps_per_epoch": 18', '"steps_per_epoch": 0'),
        lambda text: text.replace('"seconds_per_step": 0.5', '"seconds_per_step": -1'),
        lambda text: json.dumps(json.loads(text) | {"profile": []}),
    ],
)
def test_a_broken_file_is_none(tmp_path: Path, change):
    path = tmp_path / "one.json"
    path.write_text(change(made_up().to_json().decode()))
    assert read(path) is None


MATCH = ("budget=match_seconds", "budget.reference_steps=4")


@pytest.fixture
def config(make_config):
    return make_config("optimizer=adam", *MATCH)


@pytest.fixture
def cached(config) -> Path:
    """The file of a made-up calibration of `config`: half the cost of the reference."""
    reference = calibration_key.reference_section(config)
    key = calibration_key.key(config, reference, calibration_key.machine(config))
    path = Path(config["runs_dir"]) / calibration_key.CACHE_DIR / f"{key}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(made_up().to_json())
    return path


def no_measuring(*arguments):
    raise AssertionError("measured")


def test_another_seed_lr_or_budget_finds_the_same_file(make_config, cached):
    for change in ("seed=3", "optimizer.lr=0.5", "budget.reference_epochs=1", "task.epochs=3"):
        config = make_config("optimizer=adam", *MATCH, change)
        assert calibration.known(config, Path(config["runs_dir"])) == made_up()
    # For a planner: what was measured serves any budget.
    assert calibration.known(make_config(), Path(config["runs_dir"])) == made_up()


@pytest.mark.parametrize(
    "change",
    [
        "optimizer=sgd",
        "optimizer.amsgrad=true",
        "task.batch_size=32",
        "model.width=8",
        "precision=bf16",
        "threads=2",
        "budget.match_seconds=adam",
    ],
)
def test_what_changes_the_cost_is_not_known(make_config, cached, change):
    config = make_config("optimizer=adam", *MATCH, change)
    assert calibration.known(config, Path(config["runs_dir"])) is None


def test_a_run_trains_the_matched_steps_and_keeps_the_calibration(config, cached, monkeypatch):
    monkeypatch.setattr(calibration, "measure", no_measuring)
    assert run.execute(config).status == "done"
    record = load_run(Path(config["runs_dir"]) / identity.run_id(config))
    assert record.progress["step"] == record.progress["total_steps"] == 8
    assert record.summary["budget_train_seconds"] == 4.0
    assert record.summary["calibration"]["ratio"] == 0.5
    assert record.identity["budget"] == "time of 4 steps of adafisher"
    assert read(record.path / calibration.RUN_FILE) == made_up()


def test_a_control_takes_the_steps_of_its_method(make_config, cached, monkeypatch):
    monkeypatch.setattr(calibration, "measure", no_measuring)
    config = make_config("optimizer=adam", *MATCH, "control=scalar")
    assert run.execute(config).status == "done"
    record = load_run(Path(config["runs_dir"]) / identity.run_id(config))
    assert record.progress["step"] == 8
    # It is no reference of the time, nor held against it.
    assert calibration_report.matched([record]) == []


def test_a_resumed_run_reads_its_own_calibration_back(config, cached, monkeypatch):
    """Even if the cache says otherwise by then, or is gone."""
    folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
    monkeypatch.setattr(calibration, "measure", no_measuring)
    own = calibration.of_run(config, folder, lambda line: None)
    folder.create()
    folder.write(calibration.RUN_FILE, own.to_json())
    cached.write_bytes(made_up(ratio=3.0, profile=(3.0,)).to_json())
    assert calibration.of_run(config, folder, lambda line: None) == made_up()
    shutil.rmtree(cached.parent)
    assert calibration.of_run(config, folder, lambda line: None) == made_up()


def test_a_run_whose_calibration_is_broken_does_not_take_another(config, cached):
    folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
    folder.create()
    folder.write(calibration.RUN_FILE, b"{")
    with pytest.raises(UserError, match=r"calibration\.json: not readable"):
        calibration.of_run(config, folder, lambda line: None)


def test_a_run_that_cannot_be_calibrated_is_a_row_and_tried_again_only_on_retry(
    config, monkeypatch
):
    asked = []

    def measure(configs, runs_dir):
        asked.append(len(configs))
        raise PreparationError("calibration: its process was killed by SIGSEGV")

    monkeypatch.setattr(calibration_process, "measure", measure)
    outcome = run.execute(config)
    assert outcome.status == "failed"
    record = load_run(Path(config["runs_dir"]) / identity.run_id(config))
    assert (record.status, record.reason) == ("failed", outcome.reason)
    assert record.reason == "calibration: its process was killed by SIGSEGV"
    assert record.identity["budget"] == "time of 4 steps of adafisher"
    assert run.execute(config).skipped
    run.execute({**config, "retry": True})
    assert asked == [1, 1]


def test_what_kills_the_process_of_all_is_found_by_measuring_each_alone(make_config, monkeypatch):
    configs = [make_config(f"optimizer={name}", *MATCH) for name in ("adam", "sgd", "soap")]
    asked = []

    def measure(some, runs_dir):
        names = [config["optimizer"]["name"] for config in some]
        asked.append(names)
        if "sgd" in names:
            raise PreparationError("dead")
        for config in some:
            path = calibration_key.path_of(config, runs_dir)
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(made_up().to_json())
        return [None] * len(some)

    monkeypatch.setattr(calibration_process, "measure", measure)
    found = calibration.measure(configs, Path(configs[0]["runs_dir"]))
    assert asked == [["adam", "sgd", "soap"], ["adam"], ["sgd"], ["soap"]]
    assert (found[0], str(found[1]), found[2]) == (made_up(), "dead", made_up())


def test_a_mistake_that_only_measuring_finds_is_refused_as_without_it(config, monkeypatch):
    refused = [UserError("calibration: Invalid x: 1. Must be 2.")]
    monkeypatch.setattr(calibration_process, "measure", lambda configs, runs_dir: refused)
    with pytest.raises(UserError, match="Must be 2"):
        run.execute(config)
    assert not (Path(config["runs_dir"]) / identity.run_id(config)).exists()


@pytest.mark.parametrize(("retry", "measured"), [("false", []), ("true", [["adam"]])])
def test_a_sweep_measures_only_for_runs_that_it_would_start(
    config, monkeypatch, capsys, retry, measured
):
    """Here the run of seed 1, which has failed already."""
    asked = []

    def measure(some, runs_dir):
        asked.append([one["optimizer"]["name"] for one in some])
        return [PreparationError("calibration: why") for _ in some]

    monkeypatch.setattr(calibration_process, "measure", measure)
    folders = (f"runs_dir={config['runs_dir']}", f"cache_dir={config['cache_dir']}")
    typed = ["optimizer=adam", *MATCH, "tracking=none", "threads=1", *folders, "seed=1"]
    with initialize_config_dir(str(commandline.CONF), version_base="1.3"):
        first = preflight.resolve(preflight.compose_job(typed))
    assert run.execute(first).status == "failed"
    asked.clear()
    calibration.prepare([[*typed, f"retry={retry}"]], [first])
    assert asked == measured
    told = "warning: digits adam: calibration: why" in capsys.readouterr().err
    assert told is bool(measured)


def test_other_budgets_have_no_calibration(make_config):
    config = make_config()
    folder = RunFolder(Path(config["runs_dir"]), identity.run_id(config))
    assert calibration.of_run(config, folder, no_measuring) is None


def test_ctrl_c_ends_the_measuring_without_a_traceback():
    command = [sys.executable, "-m", "experiments.calibration_child"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    maps = Path(f"/proc/{child.pid}/maps")
    deadline = time.monotonic() + 120
    while "libtorch" not in maps.read_text():  # it is in the midst of its imports
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert (child.returncode, told) == (-signal.SIGINT, b"")


@pytest.mark.slow
def test_methods_are_measured_once_and_a_broken_file_anew(make_config, cached, monkeypatch):
    """For real, in the child process: two methods of a tiny model, of which one is known."""
    cached.write_text("{")
    configs = [make_config(f"optimizer={name}", *MATCH) for name in ("adam", "adafisher")]
    runs_dir = Path(configs[0]["runs_dir"])
    found = calibration.measure(configs, runs_dir)
    assert [one.method for one in found] == ["adam", "adafisher"]
    assert read(cached) == found[0]
    assert found[1].ratio == pytest.approx(1)
    assert found[1].steps(123) == 123
    assert found[0].published_ratio == 0.95
    assert found[0].reference_seconds_per_step == found[1].seconds_per_step
    monkeypatch.setattr(calibration_process, "measure", no_measuring)
    assert calibration.measure(configs, runs_dir) == found


# The check of finished runs


def finished(method: str, seconds: float, *, step: int = 100, **changes) -> Run:
    facts = {"task": "digits", "model": "small_cnn", "optimizer": method, "budget": "b", "seed": 0}
    summary = {"budget_train_seconds": 100.0, "calibration": made_up(**changes).summary()}
    progress = {"step": step, "train_seconds": seconds}
    return Run(method, Path(), "done", None, facts, progress, summary)


def test_the_reference_is_the_measure_within_three_percent_or_the_spread():
    runs = [
        finished("adafisher", 200.0),
        finished("adam", 205.9),
        finished("kfac", 193.9),
        finished("shampoo", 193.9, spread_percent=3.2),
        finished("soap", 193.9, seconds_per_step=7.0),  # 3.5 %: half a step of it
    ]
    found = {one.run.run_id: one for one in calibration_report.matched(runs)}
    assert found["adam"].off_percent == pytest.approx(2.95)
    assert [name for name, one in found.items() if one.within is None] == ["kfac"]
    assert calibration_report.lines(list(found.values()))[-1] == (
        "time of the reference: 4 others, 1 within 3 %, 1 within the spread of the calibration, "
        "1 within half a step, 1 beyond"
    )


def test_half_of_the_step_at_the_end_is_allowed_and_no_other():
    """Ten steps and not eleven, as the eleventh is a refresh; after it a step is cheap."""
    refreshes = {"profile": (10.0, *[1.0] * 9), "seconds_per_step": 1.9}
    before = finished("ekfac", 95.1, step=10, **refreshes)
    after = finished("ekfac", 95.1, step=11, **refreshes)
    dear, cheap = calibration_report.matched([before, after])
    assert (dear.step_percent, dear.within) == (pytest.approx(5), "half a step")
    assert (cheap.step_percent, cheap.within) == (pytest.approx(0.95), None)


def test_without_a_run_of_the_reference_its_budget_is_the_measure():
    (alone,) = calibration_report.matched([finished("adam", 102.0)])
    assert alone.off_percent == pytest.approx(2)


def test_runs_of_other_budgets_and_unfinished_ones_are_not_checked(tmp_path: Path):
    plain = dataclasses.replace(finished("adam", 1.0), summary={})
    unfinished = dataclasses.replace(finished("adam", 1.0), status="interrupted")
    assert calibration_report.matched([plain, unfinished]) == []
    with pytest.raises(UserError, match="No finished run"):
        calibration_report.main(tmp_path)
