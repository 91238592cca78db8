"""The check of finished runs."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.records.schema import Run
from experiments.timing import calibration_report
from tests.support.calibrations import made_up


def finished(method: str, seconds: float, *, step: int = 100, seed: int = 0, **changes) -> Run:
    facts = {"task": "digits", "model": "small_cnn", "optimizer": method, "budget": "b"}
    facts["seed"] = seed
    own = {"ratio": 1.0} if method == "adafisher" else {}
    calibration = made_up(**(own | changes)).summary()
    summary = {"budget_train_seconds": 100.0, "calibration": calibration}
    progress = {"step": step, "train_seconds": seconds}
    return Run(method, Path(), "done", None, facts, progress, summary)


def test_the_reference_is_the_measure_within_three_percent_or_the_spread():
    runs = [
        finished("adafisher", 200.0),
        finished("adam", 205.9),
        finished("kfac", 193.9),
        finished("shampoo", 193.9, spread_percent=3.2),
    ]
    found = {one.method: one for one in calibration_report.matched(runs)}
    assert found["adam"].off_percent == pytest.approx(2.95)
    assert [name for name, one in found.items() if one.within is None] == ["kfac"]
    assert calibration_report.lines(list(found.values()))[-1] == (
        "time of the reference: 3 others, 1 within 3 %, 1 within the machine's own spread, 1 beyond"
    )


@pytest.mark.parametrize(
    ("changes", "spread"),
    [
        ({}, 2.0),
        ({"noise_percent": 9.0}, 9.0),
        ({"spread_percent": 9.0}, 9.0),
        ({"noise_percent": None}, 1.0),
    ],
)
def test_the_machine_spreads_by_what_the_calibration_saw(changes, spread):
    (one,) = calibration_report.matched([finished("adam", 100.0, **changes)])
    assert one.spread_percent == spread


def test_a_record_of_before_tells_how_far_runs_were_apart():
    run = finished("adam", 100.0, noise_percent=None)
    run.summary["calibration"]["between_runs_percent"] = 7.0
    (one,) = calibration_report.matched([run])
    assert one.spread_percent == 7.0


def test_the_machine_spreads_by_what_the_reference_does_from_seed_to_seed():
    runs = [finished("adafisher", seconds, seed=seed) for seed, seconds in ((0, 180.0), (1, 220.0))]
    runs += [finished("adam", seconds, seed=seed) for seed, seconds in ((0, 200.0), (1, 236.0))]
    adam = calibration_report.matched(runs)[1]
    assert (adam.off_percent, adam.spread_percent) == pytest.approx((9, 10))
    assert adam.within == "the machine's own spread"


def test_several_seeds_are_checked_by_their_mean():
    """Each beside the reference's run of its seed; one whose reference is missing by its budget."""
    runs = [
        *(finished("adafisher", seconds, seed=seed) for seed, seconds in enumerate((180.0, 220.0))),
        *(finished("adam", seconds, seed=seed) for seed, seconds in enumerate((200.0, 206.0))),
        finished("adam", 119.0, seed=2),
    ]
    reference, adam = calibration_report.matched(runs)
    assert reference.varied_percent == pytest.approx(10)
    assert (adam.seconds, adam.varied_percent) == (175, pytest.approx(50 * 87 / 175))
    assert adam.off_percent == pytest.approx(100 * (525 / 500 - 1))
    row = next(line for line in calibration_report.lines([reference, adam]) if "adam " in line)
    # Without the copy of its calibration nobody knows what was planned.
    assert row.split()[4:] == ["3", "-", "175.00", "+5.0%", "24.9%", "10.0%"]


def test_runs_of_another_width_are_measured_by_their_own_reference():
    runs = []
    for width, seconds in ((64, 100.0), (8, 25.0)):
        for method, factor in (("adafisher", 1.0), ("adam", 1.01)):
            run = finished(method, factor * seconds)
            run.identity["protocol"] = {"model": {"width": width}, "budget": {"steps": 9 * factor}}
            run.identity["origin"] = {"setting": {"model.width": width, "budget": "match_seconds"}}
            runs.append(run)
    found = calibration_report.matched(runs)
    assert [round(one.off_percent, 3) for one in found] == [0.0, 1.0, 0.0, 1.0]
    headings = [line for line in calibration_report.lines(found) if line.startswith("digits")]
    assert headings == [f"digits small_cnn, b, model.width={width}" for width in (64, 8)]


def test_a_method_at_two_learning_rates_is_checked_twice() -> None:
    runs = [finished("adam", seconds) for seconds in (101.0, 120.0)]
    for index, run in enumerate(runs):
        run.identity["group_id"] = f"lr {index}"
    found = calibration_report.matched(runs)
    assert [one.seconds for one in found] == [101, 120]


@pytest.mark.parametrize("order", [1, -1])
def test_a_variant_of_the_reference_is_no_reference(order: int) -> None:
    runs = [finished("adafisher", 100.0), finished("adafisher", 90.0, ratio=0.8)]
    for index, run in enumerate(runs):
        run.identity["group_id"] = f"interval {index}"
    found = calibration_report.matched([*runs[::order], finished("adam", 100.0)])
    offs = {one.seconds: round(one.off_percent, 3) for one in found}
    assert offs == {100.0: 0.0, 90.0: -10.0}
    assert [one.is_reference for one in found].count(True) == 1


@pytest.mark.parametrize(("seconds", "within"), [(107.0, False), (107.2, True), (112.9, True)])
def test_what_whole_steps_come_to_is_allowed(tmp_path: Path, seconds: float, within: bool) -> None:
    """Eleven steps of 10 s are 10 % longer than was given, as ten are shorter."""
    run = dataclasses.replace(finished("ekfac", seconds, step=11), path=tmp_path)
    (lost,) = calibration_report.matched([run])
    assert (lost.planned_percent, lost.within) == (None, None)
    (tmp_path / "calibration.json").write_bytes(made_up(ratio=10.0).to_json())
    (found,) = calibration_report.matched([run])
    assert found.planned_percent == pytest.approx(10)
    assert found.planned_seconds == pytest.approx(110)
    assert (found.within is not None) is within


def test_without_a_run_of_the_reference_its_budget_is_the_measure():
    (alone,) = calibration_report.matched([finished("adam", 102.0)])
    assert alone.off_percent == pytest.approx(2)


def test_runs_of_other_budgets_and_unfinished_ones_are_not_checked(tmp_path: Path):
    plain = dataclasses.replace(finished("adam", 1.0), summary={})
    unfinished = dataclasses.replace(finished("adam", 1.0), status="interrupted")
    assert calibration_report.matched([plain, unfinished]) == []
    with pytest.raises(UserError, match="No finished run"):
        calibration_report.main(tmp_path)


def recorded(folder: Path, run: Run, **environment: object) -> Run:
    """The run with a record of its environment."""
    path = folder / f"{run.run_id} {run.identity['seed']}"
    path.mkdir()
    (path / "environment.json").write_text(json.dumps(environment))
    return dataclasses.replace(run, path=path)


def test_the_check_as_data_has_its_environment(tmp_path: Path) -> None:
    machine = {"device": "cpu", "cpu_model": "M", "cpu_count": 2}
    runs = [
        recorded(tmp_path, finished("adafisher", 100.0), **machine),
        recorded(tmp_path, finished("adam", 102.0, noise_percent=6.0), **machine),
        recorded(tmp_path, finished("adam", 108.0, seed=1, noise_percent=6.0), **machine),
    ]
    told = calibration_report.facts(calibration_report.matched(runs))
    assert told["environment"] == machine
    reference, adam = told["methods"]
    assert (reference["method"], reference["is_reference"]) == ("adafisher", True)
    assert (adam["method"], adam["seeds"], adam["steps"]) == ("adam", [0, 1], [100, 100])
    assert (adam["task"], adam["budget"], adam["is_reference"]) == ("digits", "b", False)
    assert adam["off_percent"] == pytest.approx(5)
    assert adam["within"] == "the machine's own spread"


@pytest.mark.parametrize(
    "other",
    [{"cpu_model": "N"}, {"device": "GPU"}, {"threads": 4}],
    ids=lambda one: next(iter(one)),
)
def test_a_method_is_not_held_against_a_reference_of_another_machine(
    tmp_path: Path, other: dict
) -> None:
    """The other is twice as fast: by its own budget it took 50 s as it was to."""
    here = {"device": "cpu", "cpu_model": "M", "cpu_count": 2, "threads": 1}
    elsewhere = finished("kfac", 50.0)
    elsewhere.summary["budget_train_seconds"] = 50.0
    found = calibration_report.matched(
        [
            recorded(tmp_path, finished("adafisher", 100.0), **here),
            recorded(tmp_path, finished("adam", 101.0), **here),
            recorded(tmp_path, elsewhere, **here | other),
        ]
    )
    assert [round(one.off_percent, 3) for one in found] == [0, 1, 0]
    headings = [line for line in calibration_report.lines(found) if line.startswith("digits")]
    assert len(headings) == 2
    assert headings[0].endswith("on device cpu; cpu_model M; cpu_count 2; threads 1")


def test_seeds_of_two_machines_are_two_methods(tmp_path: Path) -> None:
    runs = [
        recorded(tmp_path, finished(method, seconds, seed=seed), cpu_model=model)
        for seed, model, factor in ((0, "M", 1.0), (1, "N", 2.0))
        for method, seconds in (("adafisher", 100.0 * factor), ("adam", 101.0 * factor))
    ]
    found = calibration_report.matched(runs)
    assert [(one.method, round(one.off_percent, 3)) for one in found] == [
        *(("adafisher", 0), ("adam", 1)),
        *(("adafisher", 0), ("adam", 1)),
    ]


def test_each_seed_is_held_against_the_calibration_that_it_went_by(tmp_path: Path) -> None:
    """At a ratio of 0.5 its 210 steps were to take 105 s; at one of 0.25 its 380 steps 95 s."""
    runs = []
    for seed, (step, ratio, spread) in enumerate(((210, 0.5, 1.0), (380, 0.25, 4.0))):
        changes = {"ratio": ratio, "spread_percent": spread}
        run = finished("adam", 100.0, step=step, seed=seed, **changes)
        runs.append(recorded(tmp_path, run))
        (runs[-1].path / "calibration.json").write_bytes(made_up(**changes).to_json())
    (adam,) = calibration_report.matched(runs)
    assert adam.planned_seconds == pytest.approx((105 + 95) / 2)
    assert adam.planned_percent == pytest.approx(0)
    assert (adam.steps, adam.ratio, adam.spread_percent) == ([210, 380], 0.375, 4.0)
    row = next(line for line in calibration_report.lines([adam]) if "adam " in line)
    assert row.split()[:3] == ["adam", "210-380", "0.375"]
    (runs[0].path / "calibration.json").unlink()
    assert calibration_report.matched(runs)[0].planned_percent is None


def test_a_file_of_the_check_is_of_one_machine(tmp_path: Path) -> None:
    machine = {"device": "cpu", "cpu_count": 2}
    runs = [
        recorded(tmp_path, finished("adafisher", 100.0), cpu_model="M", **machine),
        recorded(tmp_path, finished("adam", 102.0), cpu_model="N", **machine),
    ]
    with pytest.raises(UserError, match=r"several machines \(cpu_model: M, N\)"):
        calibration_report.facts(calibration_report.matched(runs))
